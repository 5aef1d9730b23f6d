"""What a part's docstring says about it: one line, the formula, the source. This is what ``sparring list`` prints.

The line comes first. A formula is the next paragraph up to ``Source:``, or the first line's own beginning; a source is
named after ``Source:``, or in brackets: (GRPO, arXiv 2402.03300).
"""

from __future__ import annotations

import inspect
import itertools
import re
from typing import NamedTuple

CITATION = re.compile(
    r"arXiv:? \d{4}\.\d{4,5}|\b[A-Z][\w-]+(?: et al\.| and [A-Z][\w-]+)?,? \(?(?:19|20)\d\d\b|\b[\w.-]+#\d+"
)
BRACKETS = re.compile(r"\s*\(([^()]*)\)")
MATHS = re.compile(
    r"[=<>|^]|\S [-+*/x] \S|\w\([A-Z]\)|\[[^\]]*,[^\]]*\]"
    r"|\b(?:log\w*|exp|max|min|argmax|argmin|sum|mean|std|clip|kl)\b",
    re.IGNORECASE,
)
FORMULA = re.compile(r"[=<>^]|\S [-+/] \S|^-\w|\w\(")  # what a line that is a formula itself holds
LABEL = re.compile(r"([A-Z][a-z]+): ")


class Told(NamedTuple):
    """A part in words; what its docstring does not say is empty."""

    summary: str
    formula: str
    source: str


def told(part: object) -> Told:
    """The summary, formula and source in a part's docstring."""
    text = inspect.cleandoc(getattr(part, "__doc__", None) or "")
    first, _, rest = text.partition("\n")
    labels = _labels(rest)
    lead = _leading(first)
    formula = labels.get("Formula") or (lead if "Source" not in labels and FORMULA.search(lead) else labels[""]) or lead
    return Told(_plain(first), formula, labels.get("Source", "").rstrip(".") or _cited(text))


def _labels(text: str) -> dict[str, str]:
    """Paragraphs and lines by the label before them: ``Source: ...``; under "" the first unlabelled text with maths."""
    found: dict[str, list[str]] = {"": []}
    label = ""
    for line in text.splitlines():
        labelled = LABEL.match(line)
        if not line.strip() or line.startswith(">>>"):
            label = "-" if found[""] or label else ""
        elif labelled and labelled[1] in ("Formula", "Source", "Gradient"):
            label = labelled[1]
            found[label] = [line[labelled.end() :]]
        else:
            found.setdefault(label, []).append(line)
    joined = {name: " ".join(" ".join(lines).split()) for name, lines in found.items()}
    return {**joined, "": _sentence(joined[""])}


def _sentence(text: str) -> str:
    """The first sentence that holds maths and is not about the gradient, without citations; "" when there is none."""
    sentences = re.split(r"(?<=[.;])\s+(?=[A-Z`])", _plain(text))
    fitting = (one for one in sentences if MATHS.search(one) and not one.startswith("The gradient"))
    return next(fitting, "").rstrip(".;")


def _leading(line: str) -> str:
    """The first clause of a line, and those that go on with a definition; the line when its maths come later."""
    clauses, depth, start = [], 0, 0
    plain = _plain(line).rstrip(".")
    for index, letter in enumerate(plain):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0 and letter in ",:;" and plain[index + 1 : index + 2] == " ":
            clauses.append(plain[start:index])
            start = index
    clauses.append(plain[start:])
    more = itertools.takewhile(lambda clause: " = " in clause, clauses[1:])
    if MATHS.search(clauses[0]):
        return "".join([clauses[0], *more])
    return plain if MATHS.search(plain) else ""


def _cited(text: str) -> str:
    """What a bracket with a citation holds, else the citation alone."""
    flat = " ".join(text.split())
    bracket = next((found[1] for found in BRACKETS.finditer(flat) if CITATION.search(found[1])), "")
    alone = CITATION.search(flat)
    return bracket or (alone[0] if alone else "")


def _plain(line: str) -> str:
    """``line`` without the brackets that hold a citation."""
    return BRACKETS.sub(lambda found: "" if CITATION.search(found[1]) else found[0], line)
