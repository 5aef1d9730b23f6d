"""Negotiation: two parties divide items whose worth to each is private, by offers, until one accepts or time is up.

The items and private values follow Deal or No Deal (arXiv 1706.05125); no deal leaves each its walk-away value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, ClassVar

from numpy.random import Generator

from sparring.envs.types import Score, Task

from .base import Heard, Mode, Talk, figure, verdict
from .fiction import several
from .words import Words, quoted, tagged

ACCEPT, WALK = "<accept>", "<walk>"
TOTAL = 10  # what all the items together are worth to each party
MOST = 3  # of one item
WALKS = (4, 7)  # what no deal is worth: high enough that a deal which is good for one alone comes to nothing
_PART = re.compile(r"(\d{1,3})\s+([^\W\d_]+)")

Share = tuple[int, ...]  # how many of each item, in the order of the payload


@dataclass
class BargainTalk(Talk):
    """``offer``: what ``by`` wants for itself, the newest valid offer; ``rounds``: turns of both parties."""

    offer: Share | None = None
    by: str = ""
    rounds: int = 0


class Negotiate(Mode[BargainTalk]):
    """``payload``: ``items`` (how many of each). ``secret``: ``values`` and ``walk`` (what no deal is worth) by seat.

    ``<offer>2 zib, 1 kol</offer>`` says what the speaker wants to have; the rest is for the other. ``<accept>`` takes
    the other's newest offer, ``<walk>`` ends it without a deal. verifier = (value - walk) / (best - walk), best being
    the most that leaves the other party its walk-away value; ``value`` is the share of everything's worth, ``pareto``
    is 1 when nobody could have had more at nobody's cost.
    """

    name = "negotiate"
    seats = ("first", "second")
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = {"items": range(2, 5)}
    disclosures = ("values", "walk")
    unaudited = "what a party earns depends on the other one"

    def draw(self, parameters: Mapping[str, Any], rng: Generator) -> Task | None:
        """So many items, worths that add up to 10 for each party, and walk-away values that leave room for a deal."""
        count = int(parameters["items"])
        names = several(rng, count, self.options.syllables)
        counts = tuple(int(n) for n in rng.integers(1, MOST + 1, size=count))
        tables = {seat: _worth(counts, rng) for seat in self.seats}
        walk = {seat: int(rng.integers(*WALKS)) for seat in self.seats}
        if None in tables.values():
            return None
        secret = {"values": {seat: list(table or ()) for seat, table in tables.items()}, "walk": walk}
        task = self.task({"items": dict(zip(names, counts, strict=True))}, secret, parameters, "generator")
        room = all(_best(_table(task), seat)[1] >= walk[seat] + 2 for seat in self.seats)
        return task if room else None

    def begin(self, task: Task) -> BargainTalk:
        """The first party speaks first."""
        return BargainTalk(self.seats[0], self._brief(task, self.seats[0]))

    def hear(self, task: Task, talk: BargainTalk, said: Words) -> Heard:
        """An offer, an acceptance, a walk-out, or words; after ``max_turns`` turns of each there is no deal."""
        seat = talk.next
        other = self._other(seat)
        talk.rounds += 1
        talk.turns += seat == self.seats[0]
        offer = read_offer(said.text, task)
        accepted = ACCEPT in said.text and talk.by == other
        if accepted and (offer is None or said.text.rfind(ACCEPT) > said.text.rfind("<offer>")):
            mine = tuple(n - k for n, k in zip(_counts(task), talk.offer or (), strict=True))
            return self._end(task, talk, {seat: mine, other: talk.offer or ()})
        if WALK in said.text:
            return self._end(task, talk, None)
        if offer is not None:
            talk.offer, talk.by = offer, seat
        if talk.rounds >= 2 * max(1, self.options.max_turns):
            return self._end(task, talk, None, truncated=True)
        first_words = talk.rounds == 1
        talk.next = other
        talk.observation = f"{self._brief(task, other)}\n{quoted(said.carried)}" if first_words else said.carried
        # the other party has spoken before and will speak again, so its last turn was not the end of it
        return Heard({} if first_words else {other: self._nothing_yet()})

    def reply(self, task: Task, talk: BargainTalk) -> str:
        """The scripted second party: it wants the most at first, its walk-away value at last, and takes what has it."""
        seat = self.seats[1]
        table = _table(task)
        low, high = table.walk[seat], _best(table, seat)[1]
        patience = max(1, self.options.max_turns)
        wanted = low + (high - low) * (1 - talk.turns / patience)
        if talk.offer is not None and talk.by != seat:
            left = tuple(n - k for n, k in zip(table.counts, talk.offer, strict=True))
            if table.value(seat, left) >= wanted:
                return ACCEPT
        asked = min(
            (share for share in table.shares if table.value(seat, share) >= wanted),
            key=lambda share: (table.value(seat, share), sum(share), share),
        )
        return say_offer(asked, task)

    def oracle(self, task: Task, talk: BargainTalk) -> str | None:
        """Insist on the most that leaves a scripted party its walk-away value; against a role it is not known."""
        if self.options.partner == "role":
            return None
        return say_offer(_best(_table(task), self.seats[0])[0], task)

    def due(self, task: Task, talk: BargainTalk) -> bool:
        """In its last turn a scripted party decides."""
        return talk.turns >= self.options.max_turns

    def decoy(self, task: Task) -> str:
        """Giving in."""
        return ACCEPT

    def _other(self, seat: str) -> str:
        return self.seats[1] if seat == self.seats[0] else self.seats[0]

    def _brief(self, task: Task, seat: str) -> str:
        """What this party alone knows."""
        table = _table(task)
        items = zip(task.payload["items"].items(), table.values[seat], strict=True)
        lines = [f"{count} {name}, worth {worth} each" for (name, count), worth in items]
        return "\n".join([*lines, f"no deal: {table.walk[seat]}"])

    def _nothing_yet(self) -> list[Score]:
        return [figure("value", 0.0, "it goes on")]

    def _end(self, task: Task, talk: BargainTalk, deal: Mapping[str, Share] | None, truncated: bool = False) -> Heard:
        table = _table(task)
        talk.observation = "deal" if deal else "no deal"
        told: dict[str, Sequence[Score]] = {}
        for seat in self.seats:
            walk, best = table.walk[seat], _best(table, seat)[1]
            value = table.value(seat, deal[seat]) if deal else walk
            share = max(-1.0, min(1.0, (value - walk) / (best - walk)))
            efficient = float(deal is not None and table.efficient(deal[self.seats[0]], self.seats))
            note = f"{value} of {TOTAL}, without a deal {walk}"
            told[seat] = [verdict(share, note), figure("value", value / TOTAL), figure("pareto", efficient)]
        return Heard(told, over=True, truncated=truncated)


@dataclass(frozen=True)
class Table:
    """The items with what they are worth to each seat, and every way of sharing them out."""

    counts: Share
    values: Mapping[str, Share]
    walk: Mapping[str, int]

    @property
    def shares(self) -> Sequence[Share]:
        """What one party may get, all of it."""
        return _shares(self.counts)

    def value(self, seat: str, share: Share) -> int:
        """What ``share`` is worth to ``seat``."""
        return sum(n * worth for n, worth in zip(share, self.values[seat], strict=True))

    def rest(self, share: Share) -> Share:
        """What is left for the other party."""
        return tuple(n - k for n, k in zip(self.counts, share, strict=True))

    def efficient(self, share: Share, seats: tuple[str, str]) -> bool:
        """Whether no other sharing gives one more and none less; ``share`` is what the first of ``seats`` gets."""
        one, other = seats
        had = self.value(one, share), self.value(other, self.rest(share))
        could = ((self.value(one, each), self.value(other, self.rest(each))) for each in self.shares)
        return not any(a >= had[0] and b >= had[1] and (a, b) != had for a, b in could)


@lru_cache(maxsize=512)
def _shares(counts: Share) -> tuple[Share, ...]:
    return tuple(product(*(range(n + 1) for n in counts)))


def _counts(task: Task) -> Share:
    return tuple(task.payload["items"].values())


def _table(task: Task) -> Table:
    values = {seat: tuple(worth) for seat, worth in task.secret["values"].items()}
    return Table(_counts(task), values, dict(task.secret["walk"]))


def _best(table: Table, seat: str) -> tuple[Share, int]:
    """The share, and its worth, that ``seat`` can have while the other keeps its walk-away value."""
    (other,) = (name for name in table.values if name != seat)
    fair = [share for share in table.shares if table.value(other, table.rest(share)) >= table.walk[other]]
    best = max(fair, key=lambda share: (table.value(seat, share), share), default=table.counts)
    return best, table.value(seat, best)


def _worth(counts: Share, rng: Generator) -> Share | None:
    """A worth from 0 up for one of each item, so that all together make 10; ``None`` when this draw cannot."""
    for _ in range(20):
        drawn = tuple(int(n) for n in rng.integers(0, TOTAL // 2 + 1, size=len(counts)))
        if sum(n * worth for n, worth in zip(counts, drawn, strict=True)) == TOTAL:
            return drawn
    return None


def read_offer(text: str, task: Task) -> Share | None:
    """What the newest ``<offer>`` asks for; ``None`` when there is none, or it names what is not there."""
    inside = tagged(text, "offer")
    if inside is None:
        return None
    wanted = dict.fromkeys(task.payload["items"], 0)
    for number, name in _PART.findall(inside.casefold()):
        if name not in wanted or wanted[name] + int(number) > task.payload["items"][name]:
            return None
        wanted[name] += int(number)
    return tuple(wanted.values()) if any(wanted.values()) else None


def say_offer(share: Share, task: Task) -> str:
    """The text that ``read_offer`` reads back."""
    parts = [f"{n} {name}" for n, name in zip(share, task.payload["items"], strict=True) if n]
    return f"<offer>{', '.join(parts)}</offer>"
