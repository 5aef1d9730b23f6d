"""What differs between two episodes that should be one: turn, author and field, with both values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any

from sparring.envs.types import Episode, Rubric, Score, Segment, Task, Turn

from .codec import pack_json

ABSENT = "absent"  # what stands for a turn, score or task that one side does not have
REWARD = "reward"
_VERDICT = ("value", "validity", "by", "note")
_TOKENS = frozenset({"token_ids", "logprobs"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one turn; ``turn`` is ``None`` where the whole episode is meant. A reward's ``field`` begins with
    ``reward`` and its name. ``stored`` and ``new`` are text for people."""

    turn: int | None
    author: str
    field: str
    stored: str
    new: str

    @property
    def rewards(self) -> bool:
        """Whether a reward's number, or whether it may be used, is what differs."""
        what = self.field.split(" ")
        return what[0] == REWARD and what[-1] not in ("by", "note", "quotes")


def differences(stored: Episode, new: Episode) -> list[Difference]:
    """Every difference but the duration, in the order of the turns; none means the same bytes in the database."""
    found = [*_whole(stored, new), *_tasks(stored.tasks, new.tasks)]
    for old, fresh in zip_longest(stored.turns, new.turns):
        turn = old or fresh
        assert turn is not None  # the longer of the two has it
        found += [
            Difference(turn.index, turn.author, *told)
            for told in (*_turn(old, fresh), *_beside(turn.index, stored, new))
        ]
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two values are stored as the same bytes: 0.0 and -0.0 are not, a value and its stored repr are.

    >>> same(1, 1.0), same(0.0, -0.0), same((1,), [1])
    (True, False, False)
    """
    if isinstance(one, float | int) and isinstance(other, float | int):
        return float(one).hex() == float(other).hex()
    return pack_json(one) == pack_json(other) or one == repr(other)


Told = tuple[str, str, str]


def _told(field: str, stored: Any, new: Any) -> Iterator[Told]:
    if not same(stored, new):
        yield field, _text(stored), _text(new)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value) if isinstance(value, float) else pack_json(value)


def _whole(stored: Episode, new: Episode) -> Iterator[Difference]:
    for name in ("index", "pick", "parameters", "ending", "error"):
        for told in _told(name, getattr(stored, name), getattr(new, name)):
            yield Difference(None, "", *told)


def _tasks(stored: Sequence[Task], new: Sequence[Task]) -> Iterator[Difference]:
    for number, (old, fresh) in enumerate(zip_longest(stored, new)):
        if old is None or fresh is None:
            told = (ABSENT if old is None else old.key, ABSENT if fresh is None else fresh.key)
            yield Difference(None, "", f"task {number}", *told)
            continue
        for field in fields(Task):
            for found in _told(f"task {number} {field.name}", getattr(old, field.name), getattr(fresh, field.name)):
                yield Difference(None, "", *found)


def _turn(old: Turn | None, new: Turn | None) -> Iterator[Told]:
    if old is None or new is None:
        yield "turn", _heading(old), _heading(new)
        return
    for field in fields(Turn):
        one, other = getattr(old, field.name), getattr(new, field.name)
        if field.name in _TOKENS:
            yield from _told(field.name, [str(item) for item in one], [str(item) for item in other])
        elif field.name in ("context", "train_context"):
            yield from _segment(field.name, one, other)
        elif field.name == "parsed":
            for name in ("kind", "value", "problem"):
                yield from _told(f"parsed {name}", getattr(one, name, None), getattr(other, name, None))
        elif field.name == "spans":
            yield from _told("spans", [_span(item) for item in one], [_span(item) for item in other])
        else:
            yield from _told(field.name, one, other)


def _span(span: Any) -> list[int]:
    return [span.version, span.start, span.end]


def _heading(turn: Turn | None) -> str:
    return ABSENT if turn is None else f"{turn.author} at {turn.node}: {turn.said}"


def _segment(name: str, old: Segment | None, new: Segment | None) -> Iterator[Told]:
    if old is None or new is None:
        yield from _told(name, None if old is None else old.text, None if new is None else new.text)
        return
    yield from _told(name, old.text, new.text)
    yield from _told(f"{name} tokens", list(old.token_ids), list(new.token_ids))


def _beside(turn: int, stored: Episode, new: Episode) -> Iterator[Told]:
    """Scores, rubric and refusal of a turn."""
    yield from _scores(stored.scores.get(turn, ()), new.scores.get(turn, ()))
    yield from _rubric(stored.rubrics.get(turn), new.rubrics.get(turn))
    old, fresh = stored.refusals.get(turn), new.refusals.get(turn)
    for name in ("reason", "detail"):
        yield from _told(f"refusal {name}", getattr(old, name, ABSENT), getattr(fresh, name, ABSENT))


def _scores(stored: Sequence[Score], new: Sequence[Score]) -> Iterator[Told]:
    old, fresh = _named(stored), _named(new)
    for name in dict.fromkeys((*old, *fresh)):
        one, other = old.get(name), fresh.get(name)
        if one is None or other is None:
            yield f"{REWARD} {name}", _verdict(one), _verdict(other)
            continue
        for field in _VERDICT:
            yield from _told(f"{REWARD} {name} {field}", getattr(one, field), getattr(other, field))
        yield from _told(f"{REWARD} {name} criteria", _shares(one), _shares(other))
        yield from _told(f"{REWARD} {name} quotes", [c.quote for c in one.criteria], [c.quote for c in other.criteria])
    yield from _told("order of rewards", [*old], [*fresh]) if old.keys() == fresh.keys() else ()


def _named(scores: Sequence[Score]) -> Mapping[str, Score]:
    """By name; a second of one name is told apart by its number."""
    found: dict[str, Score] = {}
    for score in scores:
        again = sum(1 for name in found if name.partition("#")[0] == score.name)
        found[f"{score.name}#{again + 1}" if again else score.name] = score
    return found


def _verdict(score: Score | None) -> str:
    if score is None:
        return ABSENT
    return f"{score.value!r} by {score.by}" if score.value is not None else f"{score.validity} by {score.by}"


def _shares(score: Score) -> list[Any]:
    return [[c.rubric_turn, c.criterion, c.share, str(c.validity), c.by] for c in score.criteria]


def _rubric(stored: Rubric | None, new: Rubric | None) -> Iterator[Told]:
    old = ABSENT if stored is None else list(stored.criteria)
    fresh = ABSENT if new is None else list(new.criteria)
    yield from _told("rubric criteria", old, fresh)
    for name in ("author", "version", "provenance"):
        yield from _told(f"rubric {name}", getattr(stored, name, None), getattr(new, name, None))
