"""Where two episodes part: their trees laid on each other from the root, and the first place that is not the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean

from sparring.envs.types import Episode, Score, Turn

READ, SAID, THERE = "read", "said", "is there"


@dataclass(frozen=True, slots=True)
class Side:
    """One episode's turn at a parting; ``turn`` is ``None`` where this episode has none there."""

    turn: int | None = None
    read: str = ""
    said: str = ""
    scores: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parting:
    """A place up to which both branches are the same. ``fields`` say what is not.

    ``same_characters``: how far the words go together.
    """

    author: str
    node: str
    fields: tuple[str, ...]
    same_characters: int
    first: Side
    second: Side


@dataclass(frozen=True, slots=True)
class Comparison:
    """``same_turns`` of both episodes are the same; ``partings`` are the first differences of their branches, in order.

    ``scored`` are the turns among the same that earned something else: a reward may look at what was said later.
    ``rewards`` maps author and score (``critic verdict``) to the mean in each episode, ``None`` where there is none.
    """

    same_turns: int
    partings: tuple[Parting, ...]
    scored: tuple[Parting, ...]
    rewards: Mapping[str, tuple[float | None, float | None]]


def compared(first: Episode, second: Episode) -> Comparison:
    """Both trees, turn by turn from the root: children of one turn belong together by node, sample and order.

    Seeds, policy versions and log-probs are not compared: two episodes are the same where the same was read, said and
    done.
    """
    pairs: dict[int, int] = {}
    partings: list[Parting] = []
    scored: list[Parting] = []
    waiting = _children(second)
    for place, turn, other in _together(first, pairs, waiting):
        if odd := tuple(_odd(turn, other)):
            partings.append(_parting(first, turn, second, other, odd))
        elif turn is not None and other is not None:
            pairs[place] = other.index
            if earned := tuple(_earned(_scores(first, turn), _scores(second, other))):
                scored.append(_parting(first, turn, second, other, earned))
    return Comparison(len(pairs), tuple(partings), tuple(scored), _rewards(first, second))


Children = dict[tuple[int | None, str, int], list[Turn]]


def _children(episode: Episode) -> Children:
    found: defaultdict[tuple[int | None, str, int], list[Turn]] = defaultdict(list)
    for turn in episode.turns:
        found[turn.parent, turn.node, turn.sample].append(turn)
    return found


def _together(
    first: Episode, pairs: Mapping[int, int], waiting: Children
) -> Iterator[tuple[int, Turn | None, Turn | None]]:
    """Turns of the first whose parents are the same, each with the second's; then those the second alone has."""
    for turn in first.turns:
        if turn.parent is None or turn.parent in pairs:
            above = None if turn.parent is None else pairs[turn.parent]
            there = waiting.get((above, turn.node, turn.sample))
            yield turn.index, turn, there.pop(0) if there else None
    reached = {None, *pairs.values()}
    for (above, _, _), left in waiting.items():
        for other in left if above in reached else ():
            yield -1, None, other


def _odd(turn: Turn | None, other: Turn | None) -> Iterator[str]:
    if turn is None or other is None:
        yield THERE
        return
    if turn.author != other.author:
        yield "author"
    if _read(turn) != _read(other):
        yield READ
    if turn.said != other.said:
        yield SAID
    if turn.task != other.task:
        yield "task"
    if turn.finish != other.finish:
        yield "finish"


def _earned(one: Mapping[str, str], two: Mapping[str, str]) -> Iterator[str]:
    yield from (name for name in dict.fromkeys((*one, *two)) if one.get(name) != two.get(name))


def _read(turn: Turn) -> str:
    return "" if turn.context is None else turn.context.text


def _parting(first: Episode, turn: Turn | None, second: Episode, other: Turn | None, odd: tuple[str, ...]) -> Parting:
    either = turn or other
    assert either is not None  # one of the two is there
    sides = _side(first, turn), _side(second, other)
    words = (sides[0].said, sides[1].said) if READ not in odd or SAID in odd else (sides[0].read, sides[1].read)
    return Parting(either.author, either.node, odd, _shared(*words), *sides)


def _shared(one: str, two: str) -> int:
    pairs = enumerate(zip(one, two, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(two)))


def _side(episode: Episode, turn: Turn | None) -> Side:
    return Side() if turn is None else Side(turn.index, _read(turn), turn.said, _scores(episode, turn))


def _scores(episode: Episode, turn: Turn) -> dict[str, str]:
    return {score.name: verdict(score) for score in episode.scores.get(turn.index, ())}


def verdict(score: Score) -> str:
    """A score's number, or why it has none."""
    return str(score.validity) if score.value is None else repr(float(score.value))


def _rewards(first: Episode, second: Episode) -> dict[str, tuple[float | None, float | None]]:
    one, two = _means(first), _means(second)
    return {name: (one.get(name), two.get(name)) for name in sorted(one.keys() | two.keys())}


def _means(episode: Episode) -> dict[str, float]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for index, scores in episode.scores.items():
        for score in scores:
            if score.value is not None:
                found[f"{episode.turns[index].author} {score.name}"].append(score.value)
    return {name: fmean(values) for name, values in found.items()}
