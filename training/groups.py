"""Groups of turns that are compared with each other: the records between scores and advantages. Plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sparring.agents.engine import DEMONSTRATION


class Place(NamedTuple):
    """Where a turn is: position of its episode in the step, index of the turn in the episode."""

    episode: int
    turn: int


class Moments(NamedTuple):
    """Mean and sample standard deviation; 0 deviation for fewer than two values."""

    mean: float
    std: float


def moments(reward_G: Sequence[float]) -> Moments:
    """Mean and sample (n - 1) standard deviation of one group.

    >>> moments([2.0])
    Moments(mean=2.0, std=0.0)
    """
    n = len(reward_G)
    mean = math.fsum(reward_G) / n
    if n < 2 or max(reward_G) == min(reward_G):
        return Moments(mean, 0.0)
    return Moments(mean, math.sqrt(math.fsum((reward - mean) ** 2 for reward in reward_G) / (n - 1)))


@dataclass(frozen=True, slots=True)
class Member:
    """One turn in a group. ``reward`` is the weighted sum of ``components``; ``tokens`` how many it sampled.

    ``weight`` scales this turn's share of the gradient; ``note`` says how it came in: "" when it was sampled.
    """

    place: Place
    reward: float
    components: Mapping[str, float] = field(default_factory=dict)
    tokens: int = 0
    weight: float = 1.0
    note: str = ""


class Pool(NamedTuple):
    """Everything drawn for a group before any stage touched it."""

    size: int
    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class Group:
    """Turns of one node that are compared. ``scope`` says why they are comparable (see ``credit.relatives``).

    A group with a reason in ``dropped`` gives no gradient and counts in no denominator. ``pool`` outlives the stages.
    """

    role: str
    node: str
    scope: str
    members: tuple[Member, ...]
    pool: Pool
    dropped: str = ""

    @classmethod
    def of(cls, role: str, node: str, scope: str, members: Sequence[Member]) -> Group:
        """A fresh group; its pool is the members that were sampled."""
        rewards = [member.reward for member in members if member.note != DEMONSTRATION]
        return cls(role, node, scope, tuple(members), Pool(len(rewards), *moments(rewards or [0.0])))

    @property
    def reward_G(self) -> list[float]:
        """Rewards in the order of the members."""
        return [member.reward for member in self.members]

    def without(self, reason: str) -> Group:
        """The group dropped; the first reason stays."""
        return self if self.dropped else replace(self, dropped=reason)

    def keeping(self, indices: Sequence[int]) -> Group:
        """Only these members, in the order given."""
        return replace(self, members=tuple(self.members[index] for index in indices))
