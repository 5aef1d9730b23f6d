"""Bandits over arms that are fed by the trainer's advantages: where the policy is pulled hardest, it learns most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any, Literal

from pydantic import Field

from sparring.envs.types import Pick

from .arms import RandomArms
from .base import Outcome


def softmax(scores: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Probabilities in proportion to exp(score / temperature).

    >>> softmax({"a": 0.0, "b": 0.0}, 0.1)
    {'a': 0.5, 'b': 0.5}
    """
    top = max(scores.values())
    mass = {name: math.exp((score - top) / temperature) for name, score in scores.items()}
    total = math.fsum(mass.values())
    return {name: share / total for name, share in mass.items()}


class SelfEvolving(RandomArms):
    """Self-Evolving Curriculum (arXiv 2505.14970): a bandit whose reward is an arm's mean absolute advantage.

    Q(c) <- (1 - rate) Q(c) + rate * mean |A|, arms drawn with probability softmax(Q / temperature). With z-scored
    binary rewards E|A| = 2 sqrt(p (1 - p)), which peaks where half the attempts succeed.
    """

    class Config(RandomArms.Config):
        """``role``: whose advantages are the arm's reward (all trained roles when absent)."""

        rate: float = Field(default=0.5, gt=0, le=1)
        temperature: float = Field(default=0.2, gt=0)
        role: str | None = None

    def __init__(self, config: Config | None = None) -> None:
        settings = config or self.Config()
        super().__init__(settings)
        self.rate, self.temperature, self.role = settings.rate, settings.temperature, settings.role
        self.value = dict.fromkeys(self.cells, 0.0)

    def observe(self, pick: Pick, outcome: Outcome) -> None:
        """One TD(0) step towards the pick's mean absolute advantage."""
        if outcome.signal is not None and pick.arm in self.value:
            self.value[pick.arm] += self.rate * (outcome.signal - self.value[pick.arm])

    def weights(self) -> dict[str, float]:
        """softmax(Q / temperature)."""
        return softmax(self.value, self.temperature)

    def figures(self) -> dict[str, float]:
        """``value``: the largest Q."""
        return {"value": max(self.value.values())}

    def state_dict(self) -> dict[str, Any]:
        """Q per arm."""
        return {"value": dict(self.value)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore Q; arms the scenario has since gained start at 0."""
        self.value = {name: float(state.get("value", {}).get(name, 0.0)) for name in self.cells}


class UpperConfidence(RandomArms):
    """A bandit that adds to an arm's mean absolute advantage a bonus for being little known (DUMP, arXiv 2504.09710).

    score(d) = mean |A| of its newest ``window`` turns + sqrt(2 ln(N + 1) / (n(d) + 1)), where n(d) counts how often the
    arm was practised and N is the sum over arms; arms are drawn with probability softmax(score / temperature).
    """

    class Config(RandomArms.Config):
        """``window``: turns of an arm that its mean is over. ``temperature``: of the draw; lower is greedier.

        ``counts``: what n and N count. Counting ``turns`` the bonus shrinks faster in larger groups, counting
        ``episodes`` or ``picks`` it does not know how many attempts a task got. ``role``: whose advantages are heard
        (all trained roles' when absent).
        """

        window: int = Field(default=300, ge=1)
        temperature: float = Field(default=0.1, gt=0)
        counts: Literal["turns", "episodes", "picks"] = "turns"
        role: str | None = None

    def __init__(self, config: Config | None = None) -> None:
        settings = config or self.Config()
        super().__init__(settings)
        self.window, self.temperature, self.role = settings.window, settings.temperature, settings.role
        self.counts = settings.counts
        self.heard: dict[str, list[float]] = {name: [] for name in self.cells}
        self.count = dict.fromkeys(self.cells, 0)

    def observe(self, pick: Pick, outcome: Outcome) -> None:
        """The arm's newest turns; a pick of which nothing was valued teaches nothing."""
        if pick.arm in self.heard and outcome.advantages:
            self.heard[pick.arm] = [*self.heard[pick.arm], *outcome.advantages][-self.window :]
            times = {"turns": len(outcome.advantages), "episodes": outcome.episodes, "picks": 1}
            self.count[pick.arm] += times[self.counts]

    def scores(self) -> dict[str, float]:
        """Mean absolute advantage (0 for an arm never heard of) plus bonus."""
        bonus = self.bonus()
        return {name: (fmean(heard) if heard else 0.0) + bonus[name] for name, heard in self.heard.items()}

    def bonus(self) -> dict[str, float]:
        """sqrt(2 ln(N + 1) / (n + 1)) per arm."""
        log = math.log(sum(self.count.values()) + 1)
        return {name: math.sqrt(2 * log / (count + 1)) for name, count in self.count.items()}

    def weights(self) -> dict[str, float]:
        """softmax(score / temperature)."""
        return softmax(self.scores(), self.temperature)

    def figures(self) -> dict[str, float]:
        """``value``: the largest mean; ``bonus``: the largest bonus, which drives the draw while it exceeds that."""
        return {
            "value": max(fmean(heard) if heard else 0.0 for heard in self.heard.values()),
            "bonus": max(self.bonus().values()),
        }

    def state_dict(self) -> dict[str, Any]:
        """The window and the count per arm."""
        return {"heard": {name: list(heard) for name, heard in self.heard.items()}, "count": dict(self.count)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both; arms the scenario has since gained start unheard."""
        heard, count = state.get("heard", {}), state.get("count", {})
        self.heard = {name: [float(value) for value in heard.get(name, ())][-self.window :] for name in self.cells}
        self.count = {name: int(count.get(name, 0)) for name in self.cells}
