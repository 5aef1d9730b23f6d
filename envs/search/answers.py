"""Is it the answer? Exact match and F1 after normalising, and nuggets: facts a long answer should hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sparring.envs.types import Criterion, CriterionKind, CriterionScore, Rubric, Score, Validity
from sparring.scenarios.errors import ScenarioError

BY = "search"
LONGEST = 2000  # characters of an answer that are read; a longer one earns nothing
PARTLY = 0.5  # what a nugget earns of which the words are there, but not as one phrase
_EDGES = "\"'`\u201c\u201d\u2018\u2019.,;:!? \t\r\n"
_ARTICLE = re.compile(r"^(?:the|a|an) (?=\S)")
_WORD = re.compile(r"[^\W_]+(?:[._'-][^\W_]+)*")


def normal(text: str) -> str:
    """``text`` without letter case, outer quotes, a leading article, ``()`` at its end and repeated white space.

    >>> normal("  The `Json.dumps()`. ")
    'json.dumps'
    """
    found = " ".join(text.casefold().split())
    found = _ARTICLE.sub("", found.strip(_EDGES))
    return found.removesuffix("()").strip(_EDGES)


def holds(text: str, answer: str) -> bool:
    """Whether ``answer`` stands in ``text`` on its own, both normalised: 7 is not in 17, nor in 7.5."""
    wanted = re.escape(normal(answer))
    return bool(wanted) and re.search(rf"(?<!\w){wanted}(?!\w|\.\d)", " ".join(text.casefold().split())) is not None


def exact(said: str, answers: Sequence[str]) -> float:
    """1.0 when ``said`` is one of ``answers``, both normalised, else 0.0."""
    spoken = normal(said)
    return float(bool(spoken) and any(spoken == normal(answer) for answer in answers))


def f1(said: str, answers: Sequence[str]) -> float:
    """The best F1 of words over ``answers``: 2pr / (p + r), words counted as often as they occur (SQuAD, 1606.05250).

    >>> round(f1("the red house", ["red"]), 2)
    0.67
    """
    return max((_overlap(_words(said), _words(answer)) for answer in answers), default=0.0)


def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(normal(text)))


def _overlap(said: Counter[str], answer: Counter[str]) -> float:
    shared = sum((said & answer).values())
    return 2 * shared / (sum(said.values()) + sum(answer.values())) if shared else 0.0


def judged(said: str, answers: Sequence[str], way: str) -> list[Score]:
    """The verifier's score, by ``exact`` or ``f1``, and the other figure beside it under its own name."""
    cut = said if len(said) <= LONGEST else ""
    figures = {"exact": exact(cut, answers), "f1": f1(cut, answers)}
    note = "right" if figures[way] == 1.0 else "too long" if said and not cut else "wrong" if cut.strip() else "empty"
    return [Score.valued("verifier", figures[way], BY, note), *(Score.valued(n, v, BY) for n, v in figures.items())]


def rubric_of(nuggets: Sequence[Mapping[str, Any]]) -> Rubric:
    """Nuggets as a rubric: a criterion each, kind nugget, with its points."""
    rows = (Criterion(one["text"], float(one.get("points", 1.0)), CriterionKind.NUGGET) for one in nuggets)
    return Rubric(tuple(rows), provenance="task")


def marked(said: str, nuggets: Sequence[Mapping[str, Any]]) -> Score:
    """The share of the nuggets' points: 1 for a nugget said, 1/2 for one whose words are all there, 0 otherwise.

    Source: nugget-as-rubric, Search-Gen-V, arXiv 2510.14660, with words compared in place of its trained verifier. An
    answer of more than 2,000 characters earns nothing: reciting everything that was read is no answer.
    """
    rubric = rubric_of(nuggets)
    cut = said if len(said) <= LONGEST else ""
    shares = [_support(cut, (one["text"], *one.get("any", ()))) for one in nuggets]
    points = [criterion.points for criterion in rubric.criteria]
    value = sum(share * worth for share, worth in zip(shares, points, strict=True)) / sum(points)
    rows = [CriterionScore(None, at, share, Validity.VALUED, BY) for at, share in enumerate(shares)]
    note = f"{sum(share == 1 for share in shares)} of {len(shares)} nuggets" if cut or not said else "too long"
    return Score.valued("verifier", value, BY, note, rows)


def _support(said: str, ways: Sequence[str]) -> float:
    spoken = _WORD.findall(said.casefold())
    text = f" {' '.join(spoken)} "
    best = 0.0
    for way in ways:
        wanted = _WORD.findall(way.casefold())
        if not wanted:
            continue
        if f" {' '.join(wanted)} " in text:
            return 1.0
        best = max(best, PARTLY if len(wanted) > 1 and set(wanted) <= set(spoken) else 0.0)
    return best


def read_answers(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A row's ``answer`` (text, or a list of texts that are all right) and ``nuggets``, as a task keeps them.

    A nugget is a text, or ``{text, points, any}`` with other wordings under ``any``. Raises ``ScenarioError`` that
    begins with ``where``.
    """
    answer = row.get("answer", [])
    answers = [answer] if isinstance(answer, str) else answer
    if not isinstance(answers, list) or not all(isinstance(one, str) and normal(one) for one in answers):
        raise ScenarioError(f"{where}: answer must be a text or a list of texts, got {answer!r:.60}")
    given = row.get("nuggets", [])
    if not isinstance(given, list):
        raise ScenarioError(f"{where}: nuggets must be a list, got {given!r:.60}")
    nuggets = [_nugget(one, f"{where}, nugget {number}") for number, one in enumerate(given, 1)]
    if not answers and not nuggets:
        raise ScenarioError(f"{where}: a row needs an answer or nuggets")
    nuggets = nuggets or [{"text": answers[0], "points": 1.0, "any": answers[1:]}]
    return {"reference": answers[0] if answers else "", "answers": answers, "nuggets": nuggets}


def _nugget(one: object, where: str) -> dict[str, Any]:
    found = {"text": one} if isinstance(one, str) else one
    if not isinstance(found, Mapping) or not isinstance(found.get("text"), str) or not _words(found["text"]):
        raise ScenarioError(f"{where}: a text, or {{text, points, any}}, is needed; got {one!r:.60}")
    points, other = found.get("points", 1.0), found.get("any", [])
    if isinstance(points, bool) or not isinstance(points, int | float) or not 0 < points < 1e6:
        raise ScenarioError(f"{where}: points must be a number above 0, got {points!r:.60}")
    if not isinstance(other, list) or not all(isinstance(text, str) for text in other):
        raise ScenarioError(f"{where}: any must be a list of texts, got {other!r:.60}")
    return {"text": found["text"], "points": float(points), "any": list(other)}
