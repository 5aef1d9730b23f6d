"""Turns of earlier steps in a step's records: one stored episode is named once, one turn has one record per trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sparring.storage.records import AdvantageRow


@dataclass(frozen=True)
class Settled:
    """Records as a step stores them; ``borrowed`` are database ids of episodes that are not the step's own."""

    advantages: tuple[AdvantageRow, ...]
    borrowed: tuple[int, ...]


def settle(rows: Sequence[AdvantageRow], played: int, own: Sequence[int], earlier: Sequence[int]) -> Settled:
    """Rows whose ``episode`` is ``played + k`` are of the episode with the database id ``earlier[k]``.

    ``own`` are the ids of the played ones where these are stored already. A step that reads stored episodes may meet an
    episode twice, as its own and as an earlier step's: it is named once, and what one trainer made of a turn adds up.
    """
    place_of = {stored: place for place, stored in enumerate(own)}
    borrowed: list[int] = []
    for stored in earlier:
        if stored not in place_of:
            place_of[stored] = played + len(borrowed)
            borrowed.append(stored)
    found: dict[tuple[str, int, int], AdvantageRow] = {}
    for row in rows:
        if row.episode >= played:
            row = replace(row, episode=place_of[earlier[row.episode - played]])
        key = row.trainer, row.episode, row.turn
        found[key] = _both(found[key], row) if key in found else row
    return Settled(tuple(found.values()), tuple(borrowed))


def _both(one: AdvantageRow, other: AdvantageRow) -> AdvantageRow:
    """The record that trains, with the weight and the pull of both."""
    main = one if one.weight else other
    return replace(main, weight=one.weight + other.weight, pull=one.pull + other.pull)
