"""Questions made of documents by masking a span, so that answers can be checked (MaskSearch, arXiv 2505.20285).

A question is a sentence with a blank. One hop: a search shows the answer. Two: what the search finds must be opened.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sparring.envs.types import digest

from .answers import holds, normal
from .documents import Document
from .index import Index

BLANK = "____"
SECOND = " | "
KINDS = ("name", "default", "exception", "number")
HOPS = (1, 2)
HELD_OUT = 5  # one document in so many is kept for evaluation
COMMON = 0.02  # no answer is right on more than this share of a kind's questions: a constant must not pay
AROUND = 4  # words shown on each side of a blank that must be looked up in an opened document

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\"'`])|\n\s*\n")
_SPANS = {
    "exception": re.compile(r"\b[A-Z]\w*(?:Error|Exception|Warning|Interrupt|Exit)\b"),
    "number": re.compile(r"(?<![\w.=-])\d+(?:\.\d+)?(?![\w.])"),
    "default": re.compile(r"(?<=\w=)[^,()=\s]+(?=[,)])"),
    "name": re.compile(r"(?<![\w.])[A-Za-z_]\w{2,}(?=\(\))"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A masked sentence of ``document``: ``text`` holds the blank, ``answers`` what may fill it, the best first.

    ``hops`` 2: before ``|`` stands what to search for, after it what is asked of the document found.
    """

    document: str
    kind: str
    hops: int
    text: str
    answers: tuple[str, ...]


def held_out(document: str) -> bool:
    """Whether questions about this document are for evaluation alone."""
    return int(digest(["split", document], 8), 16) % HELD_OUT == 0


def questions(index: Index, kind: str, hops: int) -> tuple[Question, ...]:
    """Every question of this kind, in the order of the documents; none is asked twice, no answer is common."""
    documents = [index.at(place) for place in range(len(index))]
    leads = [lead(document) for document in documents]
    told = Counter(normal(sentence) for sentence in leads)
    found: dict[str, Question] = {}
    twice: set[str] = set()
    for document, first in zip(documents, leads, strict=True):
        if told[normal(first)] > 1 or len(first.split()) < 3:
            continue  # several documents begin so: it would not tell which is meant
        for question in asked(document, first, kind, hops):
            twice |= {question.text} if question.text in found else set()
            found.setdefault(question.text, question)
    return rare(tuple(question for text, question in found.items() if text not in twice))


def rare(found: Sequence[Question]) -> tuple[Question, ...]:
    """``found`` without so many questions of the commonest answers that none is right on more than 2% of them."""
    counts = Counter(normal(question.answers[0]) for question in found)
    size = len(found)
    while True:  # a lower limit leaves fewer questions, which lowers the limit; it ends because both only fall
        most = max(1, int(COMMON * size))
        size_then = sum(min(count, most) for count in counts.values())
        if size_then == size:
            break
        size = size_then
    chosen: list[Question] = []
    taken: Counter[str] = Counter()
    for question in sorted(found, key=lambda one: digest(one.text)):
        answer = normal(question.answers[0])
        if taken[answer] < most:
            taken[answer] += 1
            chosen.append(question)
    return tuple(sorted(chosen, key=lambda one: (one.document, one.text)))


def asked(document: Document, first: str, kind: str, hops: int) -> Iterator[Question]:
    """The questions one document gives."""
    if hops == 1 and kind == "name":
        yield from _named(document, first)
        return
    for sentence in _sentences(document, kind):
        for span in _spans(sentence, kind):
            question = _masked(document, first, sentence, span, kind, hops)
            if question is not None and span != short_name(document.title):
                yield question


def _named(document: Document, first: str) -> Iterator[Question]:
    """Who is it of whom the documentation begins so?"""
    name = short_name(document.title)
    masked = blanked(first, name)
    if name.lower() in masked.lower() or len(name) < 2:
        return
    text = masked if BLANK in masked else f"{BLANK}: {masked}"
    answers = tuple(dict.fromkeys((document.title, name)))
    yield Question(document.id, "name", 1, text, answers)


def _masked(document: Document, first: str, sentence: str, span: str, kind: str, hops: int) -> Question | None:
    masked = blanked(sentence, span)
    if BLANK not in masked or not normal(span) or holds(masked, span):
        return None
    if hops == 1:
        return Question(document.id, kind, 1, masked, (span,))
    if sentence == first or holds(first, span):
        return None
    return Question(document.id, kind, 2, f"{first}{SECOND}{window(masked)}", (span,))


def _spans(sentence: str, kind: str) -> list[str]:
    return list(dict.fromkeys(match[0] for match in _SPANS[kind].finditer(sentence)))[:3]


def _sentences(document: Document, kind: str) -> list[str]:
    if kind == "default":
        first = document.text.split("\n", 1)[0]
        return [first] if "(" in first and first.endswith(")") else []
    return [one for one in sentences(document.text) if 4 <= len(one.split()) <= 40]


def shortened(question: Question, n_words: int) -> Question | None:
    """The question cut to its first words; ``None`` when the blank is not among them."""
    parts = question.text.split()
    if len(parts) <= n_words:
        return question
    text = " ".join(parts[:n_words])
    return replace(question, text=text) if BLANK in text else None


def clue(text: str, n_words: int) -> str:
    """What to search for: the first words of a question, up to ``|``, the blank left out.

    >>> clue("____: Copy a tree. | by default ____ are", 9), clue("____: Copy a tree.", 2)
    ('Copy a tree.', 'Copy a')
    """
    parts = text.partition(SECOND)[0].replace(BLANK, " ").split()
    return " ".join([part for part in parts if re.search(r"\w", part)][:n_words])


def window(masked: str) -> str:
    """The blank with a few words on each side: enough to know the place, too little to search for."""
    parts = masked.split()
    at = next(place for place, part in enumerate(parts) if BLANK in part)
    return " ".join(parts[max(0, at - AROUND) : at + AROUND + 1])


def blanked(sentence: str, span: str) -> str:
    """``sentence`` with every ``span`` that stands alone in it replaced by the blank."""
    return re.sub(rf"(?<![\w]){re.escape(span)}(?![\w])", BLANK, sentence)


def sentences(text: str) -> list[str]:
    """The sentences of ``text`` on one line each, examples and the signature line left out."""
    lines = text.split("\n")
    prose = [line for line in lines if not line.lstrip().startswith((">>>", "..."))]
    if lines and "(" in lines[0] and lines[0].endswith(")"):
        prose = prose[1:]
    return [" ".join(one.split()) for one in _SENTENCE.split("\n".join(prose)) if one.strip()]


def lead(document: Document) -> str:
    """The first sentence of a document, which says what it is about."""
    found = sentences(document.text)
    return found[0] if found else ""


def short_name(title: str) -> str:
    """The last part of a dotted name; other titles as they are.

    >>> short_name("json.dumps"), short_name("On whales")
    ('dumps', 'On whales')
    """
    return title.rpartition(".")[2] if re.fullmatch(r"\w+(?:\.\w+)+", title) else title
