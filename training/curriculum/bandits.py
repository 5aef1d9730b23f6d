"""Bandits over arms that are fed by the trainer's advantages: where the policy is pulled hardest, it learns most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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
