"""Turns that outlive their step: as JSON in a trainer's memory, back to rows, and the records that lead back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparring.storage.records import AdvantageRow, GroupRow

from ..groups import Place
from ..rows import Row
from .base import Played
from .picks import prompt

Kept = dict[str, Any]


@dataclass(frozen=True)
class Recalled:
    """The records of turns of earlier steps; ``earlier`` is as in ``Made``."""

    groups: list[GroupRow]
    advantages: list[AdvantageRow]
    earlier: list[tuple[int, int]]


def keep(played: Played, place: Place, reward: float | None = None, weight: float = 1.0) -> Kept:
    """One turn in the context it is trained in; ``from`` is its step, its episode's position there, and its index."""
    episode = played.episodes[place.episode]
    turn = episode.turns[place.turn]
    heard, spec = prompt(episode, turn), played.roles[turn.author]
    return {
        "role": turn.author,
        "node": turn.node,
        "task": turn.task,
        "token_ids": [*heard, *turn.token_ids],
        "heard": len(heard),
        "reward": reward,
        "weight": weight,
        "temperature": spec.sampling.temperature,
        "adapter": spec.adapter,
        "from": [played.step, *place],
    }


def row_of(kept: Mapping[str, Any], share: float, loss: str, unit: int = 0) -> Row:
    """The turn as a row; each of its tokens has this share of the loss."""
    ids, heard = list(kept["token_ids"]), int(kept["heard"])
    coefficient = [0.0] * heard + [share] * (len(ids) - heard)
    return Row(
        str(kept["role"]),
        ids,
        coefficient,
        temperature=float(kept["temperature"]),
        loss=loss,
        unit=unit,
        adapter=str(kept["adapter"]),
    )


def said(kept: Mapping[str, Any]) -> int:
    """How many tokens the turn itself has."""
    return len(kept["token_ids"]) - int(kept["heard"])


def recalled(trained: Sequence[tuple[Kept, float]], note: str, first: int = 0) -> Recalled:
    """One group per role and one record per turn of earlier steps, given with the loss share of each of its tokens.

    ``note`` says how the turns came in; the groups count from ``first``.
    """
    earlier = list(dict.fromkeys(_home(kept) for kept, _ in trained))
    number = {home: at for at, home in enumerate(earlier)}
    groups: list[GroupRow] = []
    advantages: list[AdvantageRow] = []
    for role in dict.fromkeys(str(kept["role"]) for kept, _ in trained):
        mine = [(kept, share) for kept, share in trained if kept["role"] == role]
        since = min(_home(kept)[0] for kept, _ in mine)
        group = first + len(groups)
        groups.append(GroupRow(group, role, "", note, len(mine), note=f"{note} since step {since}"))
        for kept, share in mine:
            turn, weight, n = int(kept["from"][2]), float(kept["weight"]), said(kept)
            place = Place(-1 - number[_home(kept)], turn)
            pull = weight * share * n
            row = AdvantageRow(*place, role, group, kept.get("reward"), 1.0, weight, n, pull, note=note)
            advantages.append(row)
    return Recalled(groups, advantages, earlier)


def _home(kept: Mapping[str, Any]) -> tuple[int, int]:
    step, episode, _ = kept["from"]
    return int(step), int(episode)
