"""What a searcher reads: the best lines of a document for a query, results as lines, an opened document."""

from __future__ import annotations

from collections.abc import Sequence

from .documents import Document
from .index import Hit
from .masking import sentences
from .words import words

NOTHING = "no results"


def snippet(text: str, query: str, longest: int) -> str:
    """At most ``longest`` characters of ``text`` on one line, from the sentence that shares most words with ``query``.

    >>> snippet("About whales. They eat krill. They sing.", "what whales eat krill", 16)
    'They eat krill. '
    """
    first = text.split("\n", 1)[0]
    signature = "(" in first and first.endswith(")")
    lines = [*([first] if signature else []), *sentences(text)]
    asked = set(words(query))
    best = max(range(len(lines)), key=lambda at: (len(asked & set(words(lines[at]))), -at), default=0)
    return " ".join(lines[best:])[:longest]


def results(hits: Sequence[Hit], query: str, longest: int) -> str:
    """One line per document: ``id: snippet``."""
    return "\n".join(f"{hit.id}: {snippet(hit.passage, query, longest)}" for hit in hits) or NOTHING


def opened(document: Document) -> str:
    """Title and text."""
    return f"{document.title}\n{document.text}" if document.title else document.text
