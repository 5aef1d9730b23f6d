"""A tree of turns as threads: runs of turns without a fork, and where one forks its branches, sample by sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sparring.envs.types import Turn


@dataclass(frozen=True, slots=True)
class Branch:
    """One sample at a fork; ``head`` is its first turn, ``size`` how many turns hang on it. ``open``: unfolded."""

    head: int
    size: int
    open: bool
    thread: Thread


@dataclass(frozen=True, slots=True)
class Fork:
    """The samples that ``author`` made at ``node`` under one turn. A single one needs no fold."""

    author: str
    node: str
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Thread:
    """Turns that follow each other, by index, then the forks under the last of them."""

    turns: tuple[int, ...]
    forks: tuple[Fork, ...]


def threads(turns: Sequence[Turn], shown: Collection[int]) -> Thread:
    """The whole tree from its roots; the branches on the way to ``shown`` turns are open.

    Python's stack is as deep as forks stand one in another, so a long conversation costs nothing.
    """
    below: defaultdict[int | None, list[Turn]] = defaultdict(list)
    sizes = [1] * len(turns)
    for turn in turns:
        below[turn.parent].append(turn)
    for turn in reversed(turns):
        if turn.parent is not None:
            sizes[turn.parent] += sizes[turn.index]
    return _thread(None, below, sizes, shown)


def way(turns: Sequence[Turn], to: int) -> set[int]:
    """A turn and every one above it."""
    found: set[int] = set()
    above: int | None = to
    while above is not None:
        found.add(above)
        above = turns[above].parent
    return found


def _thread(
    start: int | None, below: dict[int | None, list[Turn]], sizes: Sequence[int], shown: Collection[int]
) -> Thread:
    chain = [] if start is None else [start]
    following = below.get(start, [])
    while len(following) == 1:
        chain.append(following[0].index)
        following = below.get(chain[-1], [])
    groups: defaultdict[tuple[str, str], list[Turn]] = defaultdict(list)
    for turn in following:
        groups[turn.author, turn.node].append(turn)
    forks = [
        Fork(
            author,
            node,
            tuple(
                Branch(one.index, sizes[one.index], one.index in shown, _thread(one.index, below, sizes, shown))
                for one in samples
            ),
        )
        for (author, node), samples in groups.items()
    ]
    return Thread(tuple(chain), tuple(forks))
