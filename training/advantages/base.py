"""What an advantage estimator is: rewards of one role's groups in, a number per turn out; some go on to the tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ..groups import Group, Moments, moments

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Deviation = Literal["none", "sample", "population"]


class Options(BaseModel):
    """No options."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Advantage(Protocol):
    """Advantages of every member of every group of one role, in order. A group of one gets 0 from any comparison."""

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]: ...


@runtime_checkable
class Fitted(Protocol):
    """An estimator that fits something to the step's groups and can say what."""

    def figures(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """What was fitted, by name; the step's metrics hold it."""
        ...


@dataclass(frozen=True)
class Trace:
    """The n trained tokens of one row in order, without context and tool tokens between them; every array is (n,).

    ``reward_n`` is the turn's combined reward on the turn's last token and 0 elsewhere, ``advantage_n`` what the group
    level gave. ``kl_n`` is log-prob minus reference log-prob; what was not asked for is ``None``. ``process_n`` are
    log-probs under a process model. ``turn_n`` numbers the turns of the row and ``group_n`` the groups of the step.
    """

    role: str
    reward_n: Floats
    advantage_n: Floats
    coefficient_n: Floats
    logprob_n: Floats
    reference_n: Floats | None = None
    value_n: Floats | None = None
    process_n: Floats | None = None
    turn_n: Whole | None = None
    group_n: Whole | None = None

    @property
    def kl_n(self) -> Floats | None:
        """log pi - log reference, the k1 estimate, in nats."""
        return None if self.reference_n is None else self.logprob_n - self.reference_n


@dataclass(frozen=True)
class Shaped:
    """Advantages per token (n,), and the returns (n,) a value head should learn, if any."""

    advantage_n: Floats
    return_n: Floats | None = None


@runtime_checkable
class TokenAdvantage(Protocol):
    """An estimator that spreads credit over tokens once the policy was scored. ``needs``: reference, value, process."""

    needs: frozenset[str]

    def shape(self, traces: Sequence[Trace]) -> list[Shaped]:
        """One ``Shaped`` per trace, in order; all rows of the step at once, so that a batch can be whitened."""
        ...


def checked(groups: Sequence[Group]) -> Sequence[Group]:
    """The groups, all of whose rewards are finite; raises ``ValueError`` naming the first turn whose reward is not."""
    for group in groups:
        for member in group.members:
            if not (math.isfinite(member.reward) and all(map(math.isfinite, member.components.values()))):
                raise ValueError(
                    f"role {group.role!r}, node {group.node!r}, {group.scope}: reward {member.reward} of turn "
                    f"{member.place.turn} of episode {member.place.episode} is not finite; give the score "
                    f"Score.invalid instead, which masks the turn"
                )
    return groups


def deviation(found: Moments, n: int, kind: Deviation) -> float:
    """The standard deviation of that kind from the moments of ``n`` values; 1 for ``none``.

    >>> round(deviation(moments([0.0, 1.0]), 2, "population"), 9)
    0.5
    """
    if kind == "none":
        return 1.0
    return found.std * math.sqrt((n - 1) / n) if kind == "population" and n else found.std


def centred(reward_G: Sequence[float]) -> list[float]:
    """R - mean; exactly 0 when all are equal, which a rounded mean would miss."""
    if not reward_G or max(reward_G) == min(reward_G):
        return [0.0] * len(reward_G)
    mean = moments(reward_G).mean
    return [reward - mean for reward in reward_G]


def whitened(value_n: Floats, weight_n: Floats | None = None, eps: float = 1e-8) -> Floats:
    """(x - mean) / sqrt(variance + eps) over all n entries, each counted ``weight_n`` times; population variance."""
    if not value_n.size:
        return value_n
    mean = np.average(value_n, weights=weight_n)
    spread = np.average((value_n - mean) ** 2, weights=weight_n)
    if not spread:  # all agree: nothing to scale, and with eps 0 nothing to divide by
        return np.zeros_like(value_n)
    found: Floats = (value_n - mean) / np.sqrt(spread + eps)
    return found
