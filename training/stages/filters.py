"""Stages that drop groups, or members that would mislead: by their mean, their spread, their turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator

from sparring.envs.types import Episode, Turn
from sparring.scenarios.registry import group_stages

from ..groups import Group, moments
from .base import GroupStage, StageOptions, Want, apply, thinned
from .more import refills


class Refilling(GroupStage):
    """A stage that drops groups and has fresh episodes played in their stead. ``rounds`` bounds how often it asks."""

    @property
    def rounds(self) -> int:
        """How many times at most."""
        return 0

    def wants(self, groups: Sequence[Group], episodes: Sequence[Episode], round: int, first: int) -> list[Want]:
        """Fresh episodes for the groups that are missing."""
        if round >= self.rounds:
            return []
        concerned = [group for group in groups if self.concerns(group)]
        return refills(concerned, apply([self], concerned, episodes), episodes, first)


@group_stages("band")
class Band(Refilling):
    """Drops groups whose mean reward lies outside a band: they teach nothing, or nothing new.

    Formula: kept when low <= mean R <= high
    Source: online difficulty filtering, arXiv 2504.03380
    """

    class Config(StageOptions):
        """``low`` and ``high``: the band of group means that is kept.

        ``refill``: how often at most, per step, fresh episodes are played for groups that were dropped; 0: never.
        """

        low: float = 0.05
        high: float = 0.95
        refill: int = Field(default=0, ge=0)

        @model_validator(mode="after")
        def _ordered(self) -> Band.Config:
            if self.low > self.high:
                raise ValueError(f"low: {self.low:g} is above high: {self.high:g}; no mean lies between")
            return self

    def __init__(self, config: Config | None = None) -> None:
        self.config: Band.Config = config or self.Config()

    @property
    def rounds(self) -> int:
        """The option ``refill``."""
        return self.config.refill

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """Dropped when the mean falls outside."""
        mean = moments(group.reward_G).mean
        if self.config.low <= mean <= self.config.high:
            return group
        return group.without(f"mean {mean:.3g} outside [{self.config.low:g}, {self.config.high:g}]")


@group_stages("varied")
class Varied(Refilling):
    """Drops groups whose rewards are all equal and has fresh ones played for them (dynamic sampling).

    Formula: kept when std R > 0
    Source: DAPO, arXiv 2503.14476
    """

    class Config(StageOptions):
        """``refill``: how often at most, per step, fresh episodes are played for groups that were dropped; 0: never."""

        refill: int = Field(default=4, ge=0)

    def __init__(self, config: Config | None = None) -> None:
        self.config: Varied.Config = config or self.Config()

    @property
    def rounds(self) -> int:
        """The option ``refill``."""
        return self.config.refill

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """Dropped when all rewards are equal, as those of a group of one are."""
        if len(group.members) < 2:
            return group.without("alone")
        return group if min(group.reward_G) < max(group.reward_G) else group.without("all equal")


@group_stages("three_sigma")
class ThreeSigma(GroupStage):
    """Drops members whose reward is far from the others'.

    Formula: kept when |R - mean| <= sigma x std
    Source: StableReinforce, arXiv 2505.02835
    """

    class Config(StageOptions):
        """``sigma`` standard deviations (sample) on either side are kept.

        ``over``: the ``batch`` of all the role's members in the step, or each ``group`` by itself, where three
        deviations can only be passed by one of eleven members or more.
        """

        sigma: float = Field(default=3.0, gt=0)
        over: Literal["batch", "group"] = "batch"

    def __init__(self, config: Config | None = None) -> None:
        self.config: ThreeSigma.Config = config or self.Config()

    def together(self, groups: Sequence[Group], episodes: Sequence[Episode]) -> list[Group]:
        """Groups without outliers, measured against their role's rewards or their own."""
        rewards: defaultdict[object, list[float]] = defaultdict(list)
        for at, group in enumerate(groups):
            if self.concerns(group):
                rewards[self._scope(at, group)] += group.reward_G
        found = []
        for at, group in enumerate(groups):
            if self.concerns(group):
                mean, std = moments(rewards[self._scope(at, group)])
                limit = self.config.sigma * std * (1 + 1e-12)  # rounding drops nobody who stands on the line
                kept = [i for i, reward in enumerate(group.reward_G) if not std or abs(reward - mean) <= limit]
                group = thinned(group, kept, f"every reward outside {self.config.sigma:g} deviations")
            found.append(group)
        return found

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """The group measured against itself alone."""
        return self.together([group], episodes)[0]

    def _scope(self, at: int, group: Group) -> object:
        return group.role if self.config.over == "batch" else at


@group_stages("void_turns")
class VoidTurns(GroupStage):
    """Drops trajectories with a turn in which the parser found no action.

    Formula: weight = 0 for every turn of such a trajectory
    Source: SimpleTIR, arXiv 2509.02479
    """

    class Config(StageOptions):
        """``count``: whether such a turn's reward still counts in its group's mean; its own weight is 0 either way."""

        count: bool = True

    def __init__(self, config: Config | None = None) -> None:
        self.config: VoidTurns.Config = config or self.Config()

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """Members of void trajectories weigh nothing, or are gone; the group is dropped when no other is left."""
        kept = [
            at for at, member in enumerate(group.members) if not void(episodes[member.place.episode], member.place.turn)
        ]
        if len(kept) == len(group.members) or not kept or not self.config.count:
            return thinned(group, kept, "every trajectory has a void turn")
        return weighing(group, set(kept), "void turn")


def weighing(group: Group, kept: set[int], note: str) -> Group:
    """The group with every member, those not in ``kept`` at weight 0 and with ``note``."""
    members = [
        member if at in kept else replace(member, weight=0.0, note=note) for at, member in enumerate(group.members)
    ]
    return replace(group, members=tuple(members))


def void(episode: Episode, index: int) -> bool:
    """Whether every conversation through this turn has a turn whose parser found no action.

    A turn that several conversations share is void only when none of them is whole.
    """
    after: defaultdict[int, list[Turn]] = defaultdict(list)
    for turn in episode.turns:
        if turn.follows is not None:
            after[turn.follows].append(turn)
    before: int | None = index
    while before is not None:
        if _empty(episode.turns[before]):
            return True
        before = episode.turns[before].follows

    def whole(turn: Turn) -> bool:
        return not _empty(turn) and (not after[turn.index] or any(map(whole, after[turn.index])))

    return not whole(episode.turns[index])


def _empty(turn: Turn) -> bool:
    return turn.parsed is not None and (not turn.parsed.ok or turn.parsed.value in (None, ""))
