"""What a step of a tree is worth: the outcomes found below it, backed up to it."""

from __future__ import annotations

import math
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

from sparring.envs.types import Episode, Score, Turn
from sparring.scenarios.registry import rewards

from .conditions import VERIFIER, verdict_of
from .rewards import Context, value_of


@rewards("value")
class StepValue:
    """Q = (1 - opinion) x mean verifier of the ends at or below the turn + opinion x mean verdict about the turn.

    An end is a turn the environment scored with no scored turn below it, ``visits`` (a score of its own) their number.
    Without an end, or without a verdict, the other alone counts; missing when there is neither.
    Source: MCTS-DPO, arXiv 2405.00451, whose Q is of the outcome and of the step's self-evaluation.
    """

    class Config(BaseModel):
        """``opinion``: weight of what judges (turns with a verdict, right 1 and wrong 0) said of the turn itself."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        opinion: float = Field(default=0.0, ge=0, le=1)

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, episode: Episode, turn: Turn, context: Context) -> tuple[Score, ...]:
        """``value`` and ``visits``."""
        found = ends(episode, turn)
        values = [value for end in found if (value := value_of(episode.score(end.index, VERIFIER))) is not None]
        if found and not values:
            return (Score.invalid("value", "ends", f"none of {len(found)} ends has a valued score"),)
        said = opinions(episode, turn) if self.config.opinion else []
        weighed = [(1.0 - self.config.opinion, values), (self.config.opinion, said)]
        parts = [(weight, fmean(numbers)) for weight, numbers in weighed if numbers]
        if not parts:
            return (Score.missing("value", "ends", "nothing below it is known"),)
        q = math.fsum(weight * mean for weight, mean in parts) / (math.fsum(weight for weight, _ in parts) or 1.0)
        note = f"{len(values)} ends" + (f", {len(said)} verdicts" if said else "")
        return Score.valued("value", q, "ends", note), Score.valued("visits", len(values), "ends")


def ends(episode: Episode, turn: Turn) -> list[Turn]:
    """The turns at or below this one that the environment scored last on their branch."""
    scored = [one for one in (turn, *episode.descendants(turn.index)) if episode.score(one.index, VERIFIER) is not None]
    above = {before.index for one in scored for before in episode.ancestors(one.parent)}
    return [one for one in scored if one.index not in above]


def opinions(episode: Episode, turn: Turn) -> list[float]:
    """What judges said of this turn: verdicts below it with no turn of its author in between."""
    found = []
    for one in episode.descendants(turn.index):
        spoke = next(before for before in episode.ancestors(one.parent) if before.author == turn.author)
        verdict = verdict_of(one) if spoke.index == turn.index else None
        if verdict is not None:
            found.append(float(verdict))
    return found
