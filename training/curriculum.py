"""What is practised next: arms over task parameters, drawn at random or by a bandit fed from the trainer's advantages.

A curriculum proposes picks for a step, observes how much each arm's turns moved the policy, and keeps plain JSON state.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field

from sparring.envs.types import Pick

Value = str | int | float | bool


class Curriculum(Protocol):
    """``propose`` picks for a step, ``observe`` what came of an arm, ``state_dict`` to go on after a restart."""

    def propose(self, picks: int, episodes: int, rng: Generator) -> list[Pick]: ...
    def observe(self, arm: str, signal: float | None) -> None: ...
    def weights(self) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class RandomArms:
    """Every arm equally likely: the control of every curriculum. Without arms there is one: the default task."""

    class Config(BaseModel):
        """``arms`` names parameters and the values each may take; an arm is one combination."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        arms: dict[str, tuple[Value, ...]] = {}

    role: str | None = None

    def __init__(self, config: Config | None = None) -> None:
        self.arms = arms((config or self.Config()).arms)

    def propose(self, picks: int, episodes: int, rng: Generator) -> list[Pick]:
        """``picks`` draws from ``weights()``; ``episodes`` shared out evenly, equal draws merged into one pick."""
        shares = self.weights()
        names = list(shares)
        drawn = rng.choice(len(names), size=picks, p=list(shares.values()))
        counts: dict[str, int] = {}
        for place, index in enumerate(drawn):
            share = episodes // picks + (place < episodes % picks)
            counts[names[index]] = counts.get(names[index], 0) + share
        return [Pick(name, self.arms[name], count) for name, count in sorted(counts.items()) if count]

    def observe(self, arm: str, signal: float | None) -> None:
        """A random curriculum learns nothing."""

    def weights(self) -> dict[str, float]:
        """Probability of each arm; sums to 1."""
        return {name: 1.0 / len(self.arms) for name in self.arms}

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


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
        self.value = dict.fromkeys(self.arms, 0.0)

    def observe(self, arm: str, signal: float | None) -> None:
        """One TD(0) step towards ``signal``; ``None`` (no advantage was valued) teaches nothing."""
        if signal is not None and arm in self.value:
            self.value[arm] += self.rate * (signal - self.value[arm])

    def weights(self) -> dict[str, float]:
        """softmax(Q / temperature)."""
        top = max(self.value.values())
        mass = {name: math.exp((value - top) / self.temperature) for name, value in self.value.items()}
        total = math.fsum(mass.values())
        return {name: share / total for name, share in mass.items()}

    def state_dict(self) -> dict[str, Any]:
        """Q per arm."""
        return {"value": dict(self.value)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore Q; arms the scenario has since gained start at 0."""
        self.value = {name: float(state.get("value", {}).get(name, 0.0)) for name in self.arms}


def arms(values: Mapping[str, Sequence[Value]]) -> dict[str, dict[str, Value]]:
    """Every combination of parameter values under a readable name.

    >>> arms({"depth": [1, 2]})
    {'depth=1': {'depth': 1}, 'depth=2': {'depth': 2}}
    >>> arms({})
    {'any': {}}
    """
    if not values:
        return {"any": {}}
    keys = list(values)
    combinations = itertools.product(*values.values())
    made = [dict(zip(keys, combination, strict=True)) for combination in combinations]
    return {", ".join(f"{key}={value}" for key, value in arm.items()): arm for arm in made}
