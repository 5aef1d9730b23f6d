"""Stages that keep some members of a group: those that differ most, a balance of right and wrong, rounds of drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field

from sparring.envs.types import Episode
from sparring.scenarios.registry import group_stages

from ..groups import Group
from .base import RIGHT_AT, GroupStage, StageOptions, Want, thinned
from .more import repeats


@group_stages("max_variance")
class MaxVariance(GroupStage):
    """Keeps the members whose rewards differ most.

    Formula: argmax var R over subsets of size keep
    Source: D3S, arXiv 2509.22115; PODS, arXiv 2504.13818
    """

    class Config(StageOptions):
        """``keep``: how many members are kept."""

        keep: int = Field(default=4, ge=2)

    def __init__(self, config: Config | None = None) -> None:
        self.config: MaxVariance.Config = config or self.Config()

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """The members furthest apart, in their order."""
        return thinned(group, widest(group.reward_G, self.config.keep), "nothing kept")


def widest(reward_G: Sequence[float], keep: int) -> list[int]:
    """Indices, ascending, of the ``keep`` rewards with the largest variance; all when there are no more.

    Some lowest and the remaining highest always are such a set, so only ``keep`` + 1 splits are tried.

    >>> widest([0.0, 1.0, 0.5, 0.4], 2)
    [0, 1]
    """
    n = len(reward_G)
    if n <= keep:
        return list(range(n))
    order = sorted(range(n), key=lambda at: (reward_G[at], at))
    splits = [order[:low] + order[n - keep + low :] for low in range(keep + 1)]
    return sorted(max(splits, key=lambda split: _spread([reward_G[at] for at in split])))


def _spread(reward_G: Sequence[float]) -> float:
    mean = math.fsum(reward_G) / len(reward_G)
    return math.fsum((reward - mean) ** 2 for reward in reward_G)


@group_stages("drop_balance")
class DropBalance(GroupStage):
    """Keeps as many right as wrong members, the earliest of each.

    Formula: n right = n wrong = min(n right, n wrong, each)
    Source: RED-Drop, arXiv 2509.24203; OREAL, arXiv 2502.06781
    """

    class Config(StageOptions):
        """``each``: how many of each side; absent, as many as the smaller side has.

        ``right``: a member is right from this reward on.
        """

        each: int | None = Field(default=None, ge=1)
        right: float = RIGHT_AT

    def __init__(self, config: Config | None = None) -> None:
        self.config: DropBalance.Config = config or self.Config()

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """The balanced members in their order; dropped when one side is empty."""
        right = [at for at, reward in enumerate(group.reward_G) if reward >= self.config.right]
        wrong = [at for at, reward in enumerate(group.reward_G) if reward < self.config.right]
        if not right or not wrong:
            return group.without("all right" if right else "all wrong")
        each = min(len(right), len(wrong), self.config.each or len(right))
        return thinned(group, sorted(right[:each] + wrong[:each]), "nothing kept")


@group_stages("rounds")
class Rounds(GroupStage):
    """Draws hard tasks again in rounds and keeps a diverse few; the pool remembers all.

    Figures: rounds/groups, rounds/drawn (turns), rounds/pool (turns per group), rounds/drawn_K and rounds/exited_K of
    round K (from 1), rounds/unfinished (groups whose exit rule never held), rounds/one_sided (one outcome alone seen).
    Formula: again while min(n right, n wrong) < keep / 2
    Source: Reinforce-Ada, arXiv 2510.04996
    """

    class Config(StageOptions):
        """A task is drawn again, about ``samples`` turns a round, until it may exit or ``max_rounds`` were drawn.

        ``keep`` members remain for the update, of both outcomes whenever both were seen; the pool remembers all.
        ``exit``: ``balanced`` wants half of ``keep`` right and half wrong, ``positive_focused`` one right.
        ``right``: a turn is right above this reward.
        """

        max_rounds: int = Field(default=4, ge=1)
        samples: int = Field(default=8, ge=1)
        keep: int = Field(default=4, ge=2)
        exit: Literal["balanced", "positive_focused"] = "balanced"
        right: float = 0.7

    def __init__(self, config: Config | None = None) -> None:
        self.config: Rounds.Config = config or self.Config()

    def wants(self, groups: Sequence[Group], episodes: Sequence[Episode], round: int, first: int) -> list[Want]:
        """More of every task that may not exit yet; never beyond ``max_rounds`` x ``samples`` turns of one task."""
        config = self.config
        if round + 1 >= config.max_rounds:
            return []
        active = [group for group in groups if self.concerns(group) and not self.done(group)]
        limit = config.max_rounds * config.samples
        found = [repeats(group, episodes, config.samples, limit) for group in active]
        return [want for want in found if want is not None]

    def done(self, group: Group) -> bool:
        """Whether the exit rule holds."""
        return self._may_exit(group.reward_G)

    def _may_exit(self, reward_G: Sequence[float]) -> bool:
        right = sum(reward > self.config.right for reward in reward_G)
        if self.config.exit == "positive_focused":
            return right >= 1
        half = self.config.keep // 2
        return right >= half and len(reward_G) - right >= half

    def figures(
        self, before: Sequence[Group], after: Sequence[Group], episodes: Sequence[Episode], rounds: Sequence[int]
    ) -> dict[str, float]:
        """How many turns each round drew and how many groups could exit after it; none without groups."""
        mine = [group for group in before if self.concerns(group)]
        if not mine:
            return {}
        drawn = [sum(len(_until(group, end)) for group in mine) for end in rounds]
        exited = [sum(self._may_exit(_until(group, end)) for group in mine) for end in rounds]
        sides = [{reward > self.config.right for reward in group.reward_G} for group in mine]
        found: dict[str, float] = {"groups": len(mine), "drawn": drawn[-1], "pool": drawn[-1] / len(mine)}
        found |= {"unfinished": len(mine) - exited[-1], "one_sided": sum(len(seen) == 1 for seen in sides)}
        for name, counts in (("drawn", drawn), ("exited", exited)):
            found |= {f"{name}_{at}": now - was for at, (was, now) in enumerate(pairwise([0, *counts]), 1)}
        return {f"rounds/{name}": float(count) for name, count in found.items()}

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """Half right and half wrong where there are enough of each, filled up from the other side; the earliest."""
        keep, reward_G = self.config.keep, group.reward_G
        if len(reward_G) <= keep:
            return group
        right = [at for at, reward in enumerate(reward_G) if reward > self.config.right]
        wrong = [at for at, reward in enumerate(reward_G) if reward <= self.config.right]
        n_right = min(len(right), max(keep // 2, keep - len(wrong)))
        return group.keeping(sorted(right[:n_right] + wrong[: keep - n_right]))


def _until(group: Group, end: int) -> list[float]:
    """Rewards of the members in the first ``end`` episodes of the step."""
    return [member.reward for member in group.members if member.place.episode < end]
