"""Rewards made of other rewards: the largest, the smallest, the product, the weighted mean of what they give a turn."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparring.envs.types import Episode, Score, Turn, Validity
from sparring.scenarios.registry import rewards

from .rewards import Context


class Combination:
    """Base of rewards of rewards: ``of`` names them; what has no value here takes no part.

    One that is invalid makes the whole invalid; when none has a value, the whole is missing.
    """

    class Config(BaseModel):
        """``of``: names of rewards: the scenario's own, parts, or scores of the environment."""

        model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
        of: tuple[str, ...] = Field(min_length=1)

    name = ""

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, episode: Episode, turn: Turn, context: Context) -> Score:
        """The combined score of this turn; its note lists what went in."""
        found = [context.scores(name, episode, turn)[0] for name in self.config.of]
        bad = next((score for score in found if score.validity is Validity.INVALID), None)
        if bad is not None:
            return Score.invalid(self.name, bad.by, f"{bad.name}: {bad.note}")
        pairs = [(place, score.value) for place, score in enumerate(found) if score.value is not None]
        if not pairs:
            return Score.missing(self.name, self.name, f"none of {', '.join(self.config.of)} has a value")
        note = ", ".join(f"{self.config.of[place]} {value:.4g}" for place, value in pairs)
        places, values = zip(*pairs, strict=True)
        if not self.counts(places):
            return Score.missing(self.name, self.name, f"what has a value weighs nothing: {note}")
        return Score.valued(self.name, self.combined(values, places), self.name, note)

    def counts(self, places: Sequence[int]) -> bool:
        """Whether a number can be made of the rewards at these ``places`` alone."""
        return True

    def combined(self, values: Sequence[float], places: Sequence[int]) -> float:
        """One number of the valued ones; ``places`` are their positions in ``of``."""
        raise NotImplementedError


@rewards("max")
class Largest(Combination):
    """The largest of several rewards."""

    name = "max"

    def combined(self, values: Sequence[float], places: Sequence[int]) -> float:
        """Their maximum."""
        return max(values)


@rewards("min")
class Smallest(Combination):
    """The smallest of several rewards."""

    name = "min"

    def combined(self, values: Sequence[float], places: Sequence[int]) -> float:
        """Their minimum."""
        return min(values)


@rewards("product")
class Product(Combination):
    """The product of several rewards: a gate where one of them is 0 or 1."""

    name = "product"

    def combined(self, values: Sequence[float], places: Sequence[int]) -> float:
        """Their product."""
        return math.prod(values)


@rewards("mean")
class WeightedMean(Combination):
    """The weighted mean of several rewards; missing where those that have a value weigh nothing."""

    name = "mean"

    class Config(Combination.Config):
        """``weights``: one for each of ``of``; absent, all alike."""

        weights: tuple[float, ...] = ()

        @model_validator(mode="after")
        def _one_each(self) -> WeightedMean.Config:
            if self.weights and len(self.weights) != len(self.of):
                raise ValueError(f"weights: {len(self.weights)} of them for {len(self.of)} rewards; give one for each")
            if self.weights and (min(self.weights) < 0 or not math.fsum(self.weights) > 0):
                raise ValueError("weights: none below 0, and one above, are needed")
            return self

    def combined(self, values: Sequence[float], places: Sequence[int]) -> float:
        """sum(weight x value) / sum(weight) over those that have a value."""
        weights = self._weights(places)
        return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / math.fsum(weights)

    def counts(self, places: Sequence[int]) -> bool:
        """Whether one of them weighs something."""
        return any(self._weights(places))

    def _weights(self, places: Sequence[int]) -> list[float]:
        given = getattr(self.config, "weights", ()) or (1.0,) * len(self.config.of)
        return [given[place] for place in places]
