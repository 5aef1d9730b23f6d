"""Stages that change rewards by how long a turn is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field, model_validator

from sparring.envs.types import Episode
from sparring.scenarios.registry import group_stages

from ..groups import Group
from .base import GroupStage, StageOptions

NAME = "soft_overlong"


@group_stages(NAME)
class SoftOverlong(GroupStage):
    """Turns pay for the last tokens before the limit.

    Formula: R + weight x max(-1, min(0, longest - margin - n) / margin) for n sampled tokens
    Source: DAPO, arXiv 2503.14476
    """

    class Config(StageOptions):
        """``longest``: sampled tokens beyond which the whole penalty is due, normally the role's ``max_tokens``.

        ``margin``: it grows from 0 to -1 over this many tokens before that. ``weight`` multiplies it.
        """

        longest: int = Field(default=64, ge=1)
        margin: int = Field(default=16, ge=1)
        weight: float = Field(default=1.0, ge=0)

        @model_validator(mode="after")
        def _fits(self) -> SoftOverlong.Config:
            if self.margin > self.longest:
                raise ValueError(f"margin: {self.margin} above longest: {self.longest}: an empty turn would cost")
            return self

    def __init__(self, config: Config | None = None) -> None:
        self.config: SoftOverlong.Config = config or self.Config()

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """Members with the penalty in their reward and among its components; the pool keeps what was drawn."""
        members = []
        for member in group.members:
            if NAME not in member.components:
                cost = self.config.weight * penalty(member.tokens, self.config.longest, self.config.margin)
                components = {**member.components, NAME: cost}
                member = replace(member, reward=member.reward + cost, components=components)
            members.append(member)
        return replace(group, members=tuple(members))


def penalty(tokens: int, longest: int, margin: int) -> float:
    """0 up to ``longest`` - ``margin`` tokens, -1 from ``longest`` on, a straight line between.

    >>> [penalty(n, 100, 20) for n in (80, 90, 100, 101)]
    [0.0, -0.5, -1.0, -1.0]
    """
    return max(-1.0, min(0, longest - margin - tokens) / margin)
