"""Turns that outlive their step: as JSON in a trainer's memory, and back to rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..groups import Place
from ..rows import Row
from .base import Played
from .picks import prompt

Kept = dict[str, Any]


def keep(played: Played, place: Place, weight: float = 1.0) -> Kept:
    """One turn in the context it is trained in; ``from`` says which step, episode and turn it was."""
    episode = played.episodes[place.episode]
    turn = episode.turns[place.turn]
    heard, spec = prompt(episode, turn), played.roles[turn.author]
    return {
        "role": turn.author,
        "node": turn.node,
        "task": turn.task,
        "token_ids": [*heard, *turn.token_ids],
        "heard": len(heard),
        "weight": weight,
        "temperature": spec.sampling.temperature,
        "adapter": spec.adapter,
        "from": [played.step, episode.index, turn.index],
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
