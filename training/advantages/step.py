"""Estimators that look at all of a role's groups in the step: whitening, several rewards, one baseline for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from sparring.scenarios.registry import advantages

from ..groups import Group, moments
from .base import Deviation, Options, centred, checked, deviation, whitened

EPS = 1e-4  # added to the deviation of a z-score


class WhitenOptions(Options):
    """``by``: every turn counts once per sampled token (``tokens``) or once (``turns``); ``eps`` is added to the
    variance."""

    by: Literal["tokens", "turns"] = "tokens"
    eps: float = Field(default=1e-8, ge=0)


@advantages("whiten")
class Whiten:
    """Distance to the group's mean, whitened over the role's tokens of the step.

    Formula: (A - mean A) / sqrt(var A + eps), A = R - mean of the group
    Source: REINFORCE++-baseline, arXiv 2501.03262
    """

    Config = WhitenOptions

    def __init__(self, config: WhitenOptions | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """Mean 0 and population variance 1 over the step's compared turns; a group of one stays out, at 0."""
        return whiten_groups(checked(groups), [centred(group.reward_G) for group in groups], self.config)


def whiten_groups(
    groups: Sequence[Group], values: Sequence[Sequence[float]], options: WhitenOptions
) -> list[list[float]]:
    """One number per member, whitened over all groups of two or more; a group of one gets 0."""
    compared = [group for group in groups if len(group.members) > 1]
    flat = np.asarray([x for group, row in zip(groups, values, strict=True) if len(row) > 1 for x in row])
    weights = np.asarray([float(member.tokens) for group in compared for member in group.members])
    counted = options.by == "tokens" and bool(weights.sum())
    left = iter(whitened(flat, weights if counted else None, options.eps).tolist())
    return [[next(left) for _ in group.members] if len(group.members) > 1 else [0.0] for group in groups]


@advantages("gdpo")
class Gdpo:
    """Each reward normalised in its group, weighed, added up and whitened over the step.

    Formula: (S - mean S) / sqrt(var S + eps), S = sum of w x z-score of each reward
    Source: GDPO, arXiv 2601.05242
    """

    class Config(WhitenOptions):
        """``weights`` by reward name, 1 where none is given: a role's own reward weights vanish in a z-score.

        ``std`` is the deviation of the z-scores. ``by`` and ``eps`` are those of ``whiten``.
        """

        weights: Mapping[str, float] = {}
        std: Literal["sample", "population"] = "sample"
        by: Literal["tokens", "turns"] = "turns"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """Whitened sums; a reward that a turn was not given is left out of its sum and of that reward's moments."""
        return whiten_groups(checked(groups), [self._summed(group) for group in groups], self.config)

    def _summed(self, group: Group) -> list[float]:
        total = [0.0] * len(group.members)
        for name in sorted({name for member in group.members for name in member.components}):
            weight = self.config.weights.get(name, 1.0)
            having = [at for at, member in enumerate(group.members) if name in member.components]
            found = moments([group.members[at].components[name] for at in having])
            scale = deviation(found, len(having), self.config.std)
            for at in having if scale else ():
                total[at] += weight * (group.members[at].components[name] - found.mean) / (scale + EPS)
        return total


@advantages("cross_group")
class CrossGroup:
    """One baseline for all groups of the role, such as the documents of one query.

    Formula: (R - mean of all) / (std + eps)
    Source: rewards across documents, Retro*, arXiv 2509.24869
    """

    class Config(Options):
        """``std``: ``none`` only subtracts the mean, ``sample`` or ``population`` also divides by the deviation."""

        std: Deviation = "sample"
        eps: float = Field(default=1e-4, ge=0)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """One baseline for the whole step; a single turn in all groups gets 0."""
        rewards = [reward for group in checked(groups) for reward in group.reward_G]
        if not rewards:
            return [[] for _ in groups]
        eps = 0.0 if self.config.std == "none" else self.config.eps
        scale = deviation(moments(rewards), len(rewards), self.config.std) + eps
        left = iter(centred(rewards))
        return [[value / scale if (value := next(left)) else 0.0 for _ in group.members] for group in groups]
