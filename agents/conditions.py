"""Conditions on edges: ``fn(book, turn) -> bool`` says whether the branch goes on along the edge.

A turn of the environment speaks for the role's turn it answers, so ``wrong`` works after a step as after a solver.
"""

from __future__ import annotations

from sparring.envs.types import Turn
from sparring.scenarios.registry import conditions

from .book import Book
from .outcome import RIGHT_AT as RIGHT_AT
from .outcome import VERIFIER as VERIFIER
from .outcome import outcome as outcome
from .outcome import verdict_of as verdict_of


def outcome_before(book: Book, index: int | None) -> str:
    """The verifier's word, ``right`` or ``wrong``, on the attempt this branch last judged; empty when there is none."""
    scores = (book.score(turn, VERIFIER) for turn in book.path(index))
    truth = outcome(next((score for score in scores if score is not None), None))
    return "" if truth is None else ("right" if truth else "wrong")


@conditions("accepted")
def accepted(book: Book, turn: Turn) -> bool:
    """The proposal became a task."""
    return turn.task is not None and book.spoken(turn).index not in book.refusals


@conditions("refused")
def refused(book: Book, turn: Turn) -> bool:
    """The proposal was refused."""
    return book.spoken(turn).index in book.refusals


@conditions("right")
def right(book: Book, turn: Turn) -> bool:
    """The verifier valued the action at 0.5 or more."""
    return outcome(book.score(turn, VERIFIER)) is True


@conditions("wrong")
def wrong(book: Book, turn: Turn) -> bool:
    """The verifier valued the action below 0.5."""
    return outcome(book.score(turn, VERIFIER)) is False


@conditions("said_right")
def said_right(book: Book, turn: Turn) -> bool:
    """The role's verdict is ``right``."""
    return verdict_of(book.spoken(turn)) is True


@conditions("said_wrong")
def said_wrong(book: Book, turn: Turn) -> bool:
    """The role's verdict is ``wrong``."""
    return verdict_of(book.spoken(turn)) is False


@conditions("unfinished")
def unfinished(book: Book, turn: Turn) -> bool:
    """The environment still takes actions on this branch."""
    return turn.index not in book.over


@conditions("parsed")
def parsed(book: Book, turn: Turn) -> bool:
    """The role kept its output contract."""
    found = book.spoken(turn).parsed
    return found is not None and found.ok


@conditions("unparsed")
def unparsed(book: Book, turn: Turn) -> bool:
    """The role broke its output contract."""
    found = book.spoken(turn).parsed
    return found is not None and not found.ok
