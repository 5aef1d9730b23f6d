"""Estimators that look at one group at a time. Pure Python on plain lists."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from sparring.scenarios.registry import advantages
from sparring.scenarios.seeds import derive

from ..groups import Group, Moments, moments
from .base import Deviation, Options, centred, checked, deviation


@advantages("grpo")
class Grpo:
    """The group's z-score.

    Formula: (R - mean) / (std + eps)
    Source: GRPO, arXiv 2402.03300
    """

    class Config(Options):
        """``std``: divide by the ``sample`` (n - 1) or the ``population`` (n) deviation; ``eps`` is added to it.

        With binary rewards and four members the two deviations differ by 15%, and projects disagree on which is meant.
        """

        std: Literal["sample", "population"] = "sample"
        eps: float = Field(default=1e-4, ge=0)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """Z-scores; all 0 when a group agrees."""
        return [self._scores(group.reward_G) for group in checked(groups)]

    def _scores(self, reward_G: Sequence[float]) -> list[float]:
        found = moments(reward_G)
        if not found.std:
            return [0.0] * len(reward_G)
        scale = deviation(found, len(reward_G), self.config.std) + self.config.eps
        return [(reward - found.mean) / scale for reward in reward_G]


@advantages("mean")
class MeanBaseline:
    """Distance to the group's mean, not scaled.

    Formula: R - mean
    Source: Dr. GRPO, arXiv 2503.20783
    """

    Config = Options

    def __init__(self, config: Options | None = None) -> None: ...

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """Distance to the group's mean."""
        return [centred(group.reward_G) for group in checked(groups)]


@advantages("rloo")
class LeaveOneOut:
    """Distance to the mean of the other members.

    Formula: R - mean of the others = n / (n - 1) (R - mean)
    Source: RLOO, arXiv 2402.14740
    """

    Config = Options

    def __init__(self, config: Options | None = None) -> None: ...

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """Distance to the mean of the other members."""
        return [leave_one_out(group.reward_G) for group in checked(groups)]


def leave_one_out(reward_G: Sequence[float]) -> list[float]:
    """R - mean of the others; 0 for a group of one.

    >>> leave_one_out([1.0, 0.0])
    [1.0, -1.0]
    """
    n = len(reward_G)
    return [n / (n - 1) * value for value in centred(reward_G)] if n > 1 else [0.0] * n


@advantages("raw")
class Raw:
    """The reward, compared with nothing: plain REINFORCE. A lone turn keeps its reward.

    Formula: R + shift
    Source: Williams 1992
    """

    class Config(Options):
        """``shift`` is added to every reward; -1 leaves only the wrong half of a 0-or-1 reward to learn from
        (arXiv 2506.01347)."""

        shift: float = 0.0

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The rewards, shifted."""
        return [[reward + self.config.shift for reward in group.reward_G] for group in checked(groups)]


@advantages("signed")
class Signed:
    """Right and wrong as +1 and -1, less a constant baseline, which sets how much of the pull is positive.

    Formula: 2 R - 1 - baseline
    Source: TOPR, arXiv 2503.14286
    """

    class Config(Options):
        """``baseline``: c in (-1, 1). Of rewards 0 and 1 with a share p of right ones, p (1 - c) / (1 + (1 - 2p) c)
        of the pull is positive: below 0 it leans on what is right, above 0 on what is wrong."""

        baseline: float = Field(default=0.0, gt=-1, lt=1)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """Signed rewards less the baseline; a lone turn keeps its own."""
        return [[2 * reward - 1 - self.config.baseline for reward in group.reward_G] for group in checked(groups)]

    def figures(self, groups: Sequence[Group]) -> dict[str, float]:
        """``positive_share``: turns pulled up; ``positive_pull``: what part of all pull is theirs."""
        values = [value for row in self(groups) for value in row]
        up = math.fsum(value for value in values if value > 0)
        whole = math.fsum(map(abs, values))
        if not whole:
            return {}
        return {"positive_share": sum(value > 0 for value in values) / len(values), "positive_pull": up / whole}


@advantages("pool")
class PoolBaseline:
    """Distance to the mean of all that was drawn for the group, before stages thinned it out.

    Formula: (R - mean of the pool) / (std + eps), or without the division
    Source: Reinforce-Ada, arXiv 2510.04996
    """

    class Config(Options):
        """``std``: also divide by the pool's deviation plus ``eps``; ``none``, ``sample`` or ``population``.

        A pool that agrees divides nothing: what came in beside it would be divided by ``eps`` alone.
        """

        std: Deviation = "none"
        eps: float = Field(default=1e-4, ge=0)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """Distance to the pool's mean; all 0 when the pool holds one turn."""
        return [self._values(group) for group in checked(groups)]

    def _values(self, group: Group) -> list[float]:
        size, mean, std = group.pool
        if size < 2 or (not std and max(group.reward_G) == min(group.reward_G)):
            return [0.0] * len(group.members)
        if self.config.std == "none" or not std:
            return [reward - mean for reward in group.reward_G]
        scale = deviation(Moments(mean, std), size, self.config.std) + self.config.eps
        return [(reward - mean) / scale for reward in group.reward_G]


@advantages("brpo")
class Brpo:
    """Better or worse than one member of the group, drawn at random.

    Formula: sign(R - R of the reference), 0 for the reference
    Source: BRPO, arXiv 2506.00103
    """

    class Config(Options):
        """``verdicts``: ``difference`` compares rewards with those of a member drawn by the group's name; ``own`` takes
        the rewards as verdicts, -1 or +1, a judge gave against a member of its own choice (0).

        ``lopsided``: where one verdict's share among the others reaches this, the group teaches nothing.
        """

        verdicts: Literal["difference", "own"] = "difference"
        lopsided: float = Field(default=1.0, gt=0.5, le=1)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """Verdicts in {-1, 0, +1}; raises ``ValueError`` when ``own`` verdicts are something else."""
        return [self._verdicts(group) for group in checked(groups)]

    def _verdicts(self, group: Group) -> list[float]:
        n, reward_G = len(group.members), group.reward_G
        if n < 2:
            return [0.0] * n
        if self.config.verdicts == "own":
            verdicts, others = _own(group), [verdict for verdict in reward_G if verdict]
        else:
            reference = derive("reference", group.role, group.node, group.scope, n) % n
            gaps = [reward - reward_G[reference] for reward in reward_G]
            verdicts = [math.copysign(1.0, gap) if gap else 0.0 for gap in gaps]
            others = verdicts[:reference] + verdicts[reference + 1 :]
        most = max(Counter(others).values(), default=0)
        return [0.0] * n if most >= self.config.lopsided * len(others) else verdicts


def _own(group: Group) -> list[float]:
    for member in group.members:
        if member.reward not in (-1.0, 0.0, 1.0):
            raise ValueError(
                f"role {group.role!r}, {group.scope}: reward {member.reward} is no verdict; with verdicts: own a "
                f"reward is -1, 0 or +1; leave the option out to compare rewards of any size"
            )
    return group.reward_G
