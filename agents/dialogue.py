"""Rewards of conversations: what the environment said of a turn, and advice measured by the task's own rubric."""

from __future__ import annotations

from collections.abc import Callable

from sparring.envs.types import Episode, Score, Turn
from sparring.scenarios.registry import rewards

from .rewards import Context

Reward = Callable[[Episode, Turn, Context], Score]


def _told(name: str, episode: Episode, turn: Turn) -> Score:
    return episode.score(turn.index, name) or Score.missing(name, "environment", "not said of this turn")


@rewards("revealed")
def revealed(episode: Episode, turn: Turn, context: Context) -> Score:
    """The share of the facts that count which this question brought to light and no earlier one did."""
    return _told("revealed", episode, turn)


@rewards("outcome")
def outcome(episode: Episode, turn: Turn, context: Context) -> Score:
    """What the conversation came to for the other side: its verifier after the last turn, 0 before."""
    return _told("outcome", episode, turn)
