"""Attempts beside one another: what they are called, which two make a pair, which rubrics a judge below them reads.

Read from the tree alone, so an episode that grows and one that is stored give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sparring.envs.types import Rubric, Score, Turn

from .outcome import outcome

Verdict = Callable[[int], "Score | None"]  # the verifier's score of a turn, if it has one
WORDS = {True: "right", False: "wrong", None: "unknown"}


class Attempt(NamedTuple):
    """An attempt as a role reads it: a letter for it, its words, ``right``, ``wrong`` or ``unknown``."""

    name: str
    said: str
    outcome: str


class Pair(NamedTuple):
    """A right and a wrong attempt at one task: ``preferred`` and ``rejected``."""

    preferred: Turn
    rejected: Turn


def letters(number: int) -> str:
    """A name for the attempt with this number, from 0.

    >>> letters(0), letters(25), letters(26)
    ('A', 'Z', 'AA')
    """
    return (letters(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def path(turns: Sequence[Turn | None], index: int | None) -> Iterator[Turn]:
    """The turn, its parent, and so on up to the root."""
    while index is not None and (turn := turns[index]) is not None:
        yield turn
        index = turn.parent


def attempt_above(turns: Sequence[Turn | None], index: int | None, verdict: Verdict) -> Turn | None:
    """The nearest turn from here up that the environment scored."""
    return next((turn for turn in path(turns, index) if verdict(turn.index) is not None), None)


def beside(turns: Sequence[Turn | None], attempt: Turn, before: int, verdict: Verdict) -> list[Turn]:
    """The other attempts of the same node under the same parent that were verified before turn ``before`` was made.

    Those after ``attempt`` come first, then those from the beginning up to it: whoever takes the first of a kind takes
    another one for another attempt.
    """
    answered = {turn.parent for turn in turns[:before] if turn is not None}
    known = [
        turn
        for turn in turns[:before]
        if turn is not None and turn.index in answered and turn.index != attempt.index
        if (turn.node, turn.parent) == (attempt.node, attempt.parent) and verdict(turn.index) is not None
    ]
    return [turn for turn in known if turn.index > attempt.index] + [t for t in known if t.index < attempt.index]


def pair(turns: Sequence[Turn | None], attempt: Turn, before: int, verdict: Verdict) -> Pair | None:
    """The attempt and the next one beside it of the other outcome; ``None`` where there is no such one."""
    mine = outcome(verdict(attempt.index))
    others = (turn for turn in beside(turns, attempt, before, verdict) if mine is not None)
    other = next((turn for turn in others if outcome(verdict(turn.index)) is (not mine)), None)
    if other is None:
        return None
    return Pair(attempt, other) if mine else Pair(other, attempt)


def named(turns: Sequence[Turn | None], attempt: Turn) -> str:
    """What a role that reads several attempts calls this one: a letter by its place among all of its node and parent.

    The order they were made in says nothing of which is right.
    """
    before = (turn for turn in turns[: attempt.index] if turn is not None)
    return letters(sum((turn.node, turn.parent) == (attempt.node, attempt.parent) for turn in before))


def read(turns: Sequence[Turn | None], attempt: Turn, verdict: Verdict) -> Attempt:
    """The attempt as a role reads it."""
    return Attempt(named(turns, attempt), attempt.said, WORDS[outcome(verdict(attempt.index))])


def rubrics_read(
    turns: Sequence[Turn | None], rubrics: Mapping[int, Rubric], key: str | None, parent: int | None
) -> list[Rubric]:
    """Rubrics for the task ``key`` that a role after turn ``parent`` reads, in order: those written at or before it.

    Where one of several rubrics of a node stands on the branch, it is that one alone.
    """
    if key is None or parent is None:
        return []
    branch = {turn.index: turn.node for turn in path(turns, parent)}
    taken = {branch[index] for index in rubrics if index in branch}
    there = [(index, turn) for index in sorted(rubrics) if index <= parent and (turn := turns[index]) is not None]
    return [rubrics[index] for index, turn in there if turn.task == key and (index in branch or turn.node not in taken)]
