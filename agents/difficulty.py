"""What a task is worth to whoever proposed it: most when about half of the attempts at it succeed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sparring.envs.types import Episode, Score, Turn, Validity
from sparring.scenarios.registry import rewards

from .book import ENVIRONMENT
from .conditions import VERIFIER
from .rewards import FAULTS, Context, first_attempts

NAME = "difficulty"
BY = "attempts"


@rewards(NAME)
class Difficulty:
    """How near the success p of the attempts at a proposed task is to ``centre``; 0 for a refused proposal.

    gaussian: exp(-(p - centre)^2 / (2 width^2)), as in SPELL (arXiv 2509.23863). variance: 4 p (1 - p). band: 1 within
    ``width`` of ``centre``, else 0.
    """

    class Config(BaseModel):
        """``shape``: the curve over p, ``centre``: where it is highest (gaussian and band). ``nodes``: which attempts
        count; a task that was tried only elsewhere, and went no further, earns 0. Absent: the first attempts below the
        proposal. ``score``: the reward of an attempt whose mean is p. ``width``: the standard deviation of the bell
        (1/6: half of the distance from 0.5 to 1, three times), or half of the band.
        """

        model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
        shape: Literal["gaussian", "variance", "band"] = "gaussian"
        centre: float = Field(default=0.5, ge=0, le=1)
        width: float = Field(default=0.5 / 3, gt=0, le=1)
        nodes: tuple[str, ...] = ()
        score: str = VERIFIER

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, episode: Episode, turn: Turn, context: Context) -> Score:
        """The worth of the task that this turn proposed, and p in the note."""
        refusal = episode.refusals.get(turn.index)
        if refusal is not None:
            if refusal.reason in getattr(context.environment, "faults", FAULTS):
                return Score.invalid(NAME, "environment", f"{refusal.reason}: {refusal.detail}")
            return Score.valued(NAME, 0.0, "environment", refusal.reason)
        tries = self._tries(episode, turn)
        if not tries:
            return self._untried(episode, turn)
        found = [context.scores(self.config.score, episode, attempt)[0] for attempt in tries]
        values = [score.value for score in found if score.validity is Validity.VALUED and score.value is not None]
        if not values:
            return Score.invalid(NAME, BY, f"none of {len(tries)} attempts has a valued {self.config.score}")
        p = fmean(values)
        return Score.valued(NAME, worth(p, self.config), BY, f"p = {p:.4g} of {len(values)}")

    def _tries(self, episode: Episode, turn: Turn) -> Sequence[Turn]:
        if not self.config.nodes:
            return first_attempts(episode, turn.index)
        below = [one for one in episode.descendants(turn.index) if one.node in self.config.nodes]
        made = {one.task for one in episode.turns if one.parent == turn.index and one.author == ENVIRONMENT}
        return [one for one in below if one.task in made or not made]  # not at what was proposed further down

    def _untried(self, episode: Episode, turn: Turn) -> Score:
        """0 where an earlier attempt ended it (it could be answered without reading, say); else nothing is known."""
        earlier = [score for one in episode.descendants(turn.index) if (score := episode.score(one.index, VERIFIER))]
        if any(score.validity is Validity.VALUED for score in earlier):
            return Score.valued(NAME, 0.0, BY, "it was dropped before it was tried there")
        if earlier:
            return Score.invalid(NAME, BY, "no attempt has a valued score")
        return Score.missing(NAME, BY, "no attempt")


def worth(p: float, config: Difficulty.Config) -> float:
    """The curve.

    >>> worth(0.5, Difficulty.Config()), round(worth(1.0, Difficulty.Config()), 4)
    (1.0, 0.0111)
    """
    if config.shape == "variance":
        return 4 * p * (1 - p)
    away = abs(p - config.centre)
    if config.shape == "band":
        return float(away <= config.width + 1e-9)  # 0.8 - 0.5 is more than 0.3
    return math.exp(-(away**2) / (2 * config.width**2))
