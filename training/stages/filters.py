"""Group stages: what happens to a group of compared rewards before advantages are taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from .credit import moments


class Stage(Protocol):
    """Why a group is dropped, or ``None`` to keep it."""

    def __call__(self, reward_G: Sequence[float]) -> str | None: ...


class Band:
    """Keep groups whose mean reward lies inside [low, high]; the rest teach nothing or nothing new."""

    class Config(BaseModel):
        """``low`` and ``high``: the band of group means that is kept."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        low: float = 0.05
        high: float = Field(default=0.95)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, reward_G: Sequence[float]) -> str | None:
        """A reason when the mean falls outside."""
        mean = moments(reward_G).mean
        if self.config.low <= mean <= self.config.high:
            return None
        return f"mean {mean:.3g} outside [{self.config.low:g}, {self.config.high:g}]"
