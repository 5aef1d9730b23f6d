"""Beta normalisation: group means of a step are taken for draws of one Beta distribution, fitted anew each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field

from sparring.scenarios.registry import advantages

from ..groups import Group, moments
from .base import Options, centred, checked

CAP = 1e6  # largest 1 / density


class Beta(NamedTuple):
    """A Beta distribution."""

    alpha: float
    beta: float

    def inverse_density(self, p: float) -> float:
        """1 / density at ``p`` in [0, 1], at most ``CAP``; exactly 1 for alpha = beta = 1.

        >>> Beta(1.0, 1.0).inverse_density(0.0), round(Beta(2.0, 2.0).inverse_density(0.5), 9)
        (1.0, 0.666666667)
        """
        log = math.lgamma(self.alpha) + math.lgamma(self.beta) - math.lgamma(self.alpha + self.beta)
        for power, base in ((self.alpha - 1, p), (self.beta - 1, 1 - p)):
            if power and base <= 0:
                return CAP
            log -= power * math.log(base) if power else 0.0
        return min(CAP, math.exp(min(log, math.log(CAP))))


UNIFORM = Beta(1.0, 1.0)


def fit(mean_G: Sequence[float]) -> Beta:
    """Beta(1 + a / 3, 1 + b / 3), each at least 1, where Beta(a, b) has the means' mean m and sample variance v:
    a = (m (1 - m) / v - 1) m and b = (m (1 - m) / v - 1) (1 - m).

    Uniform for fewer than two means and for means that agree: there is no spread to fit.
    """
    m, deviation = moments(mean_G) if mean_G else (0.0, 0.0)
    if not deviation:
        return UNIFORM
    size = m * (1 - m) / deviation**2 - 1
    return Beta(max(1.0, 1 + size * m / 3), max(1.0, 1 + size * (1 - m) / 3))


@advantages("bnpo")
class Bnpo:
    """Distance to the group's mean over the density of a Beta distribution fitted to the step's means.

    Formula: (R - mean) / Beta(mean; alpha, beta)
    Source: BNPO, arXiv 2506.02864
    """

    class Config(Options):
        """``alpha`` and ``beta`` replace the fit: 1 and 1 give R - mean, 1.5 and 1.5 pi / 8 times the z-score.

        ``low`` and ``high`` are the rewards mapped to 0 and 1; absent, the step's own extremes where one of them lies
        outside [0, 1]. ``decompose``: one fit per reward name, averaged, instead of one for their sum.
        """

        alpha: float | None = Field(default=None, ge=1)
        beta: float | None = Field(default=None, ge=1)
        low: float | None = None
        high: float | None = None
        decompose: bool = False

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """Advantages; raises ``ValueError`` for a reward outside ``low`` and ``high``."""
        parts = self._parts(groups)
        total = [np.zeros(len(group.members)) for group in groups]
        for _, rewards in parts:
            fitted = self._fit(rewards)
            for group, reward_G in enumerate(rewards):
                known = [at for at, reward in enumerate(reward_G) if reward is not None]
                values = self._values([reward for reward in reward_G if reward is not None], fitted)
                total[group][known] += np.asarray(values) / len(parts)
        return [row.tolist() for row in total]

    def figures(self, groups: Sequence[Group]) -> dict[str, float]:
        """The fitted ``alpha`` and ``beta``, with the reward's name before them when decomposed."""
        found: dict[str, float] = {}
        for name, rewards in self._parts(groups):
            alpha, beta = self._fit(rewards)
            prefix = f"{name}_" if name else ""
            found |= {f"{prefix}alpha": alpha, f"{prefix}beta": beta}
        return found

    def _parts(self, groups: Sequence[Group]) -> list[tuple[str, list[list[float | None]]]]:
        """Per reward name ("" for the sum): rewards in [0, 1] by group and member, ``None`` where there is none."""
        checked(groups)
        if not self.config.decompose:
            return [("", self._mapped([list(group.reward_G) for group in groups]))]
        names = sorted({name for group in groups for member in group.members for name in member.components})
        columns = {n: [[member.components.get(n) for member in group.members] for group in groups] for n in names}
        return [(name, self._mapped(rewards)) for name, rewards in columns.items()]

    def _mapped(self, rewards: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
        known = [reward for row in rewards for reward in row if reward is not None]
        inside = not known or (min(known) >= 0 and max(known) <= 1)
        low = self.config.low if self.config.low is not None else 0.0 if inside else min(known)
        high = self.config.high if self.config.high is not None else 1.0 if inside else max(known)
        if known and not (low <= min(known) and max(known) <= high):
            raise ValueError(
                f"bnpo: rewards from {min(known):g} to {max(known):g} lie outside low: {low:g}, high: {high:g}; "
                f"widen them, or leave them out to take the step's own"
            )
        width = (high - low) or 1.0
        return [[None if reward is None else (reward - low) / width for reward in row] for row in rewards]

    def _fit(self, rewards: Sequence[Sequence[float | None]]) -> Beta:
        groups = [[reward for reward in row if reward is not None] for row in rewards]
        # a lone turn's mean is its reward, which says nothing about how often its task is solved
        found = fit([moments(reward_G).mean for reward_G in groups if len(reward_G) > 1])
        alpha, beta = self.config.alpha, self.config.beta
        return Beta(found.alpha if alpha is None else alpha, found.beta if beta is None else beta)

    def _values(self, reward_G: Sequence[float], fitted: Beta) -> list[float]:
        values = centred(reward_G)
        if not any(values):
            return values
        scale = fitted.inverse_density(min(1.0, max(0.0, moments(reward_G).mean)))
        return [scale * value for value in values]
