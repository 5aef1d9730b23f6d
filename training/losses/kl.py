"""KL to the reference, as three estimates, in the loss or in the reward, each with the gradient it really has.

With d = log pi - log reference and x drawn from pi, in expectation over the draw and per token:

    in the loss      gradient followed
    k1 = d           none: its expectation is 0
    k2 = d^2 / 2     KL(pi || reference)
    k3 = e^-d + d - 1   KL(reference || pi), the other direction
    k1 x ratio       KL(pi || reference)
    k3 x ratio       KL(pi || reference)
    in the reward    KL(pi || reference); k1 alone, and over whole trajectories too

No form in the loss carries what an early token does to later states; only the reward does. The field learnt this late:
open-instruct#534, trl#4967, trl#4638, NeMo-RL#2506, rlhf-book#489.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..advantages.base import Shaped, Trace
from .ratio import bounded_exp

if TYPE_CHECKING:
    from torch import Tensor

Estimate = Literal["k1", "k2", "k3"]


class Kl(BaseModel):
    """A pull towards the reference model.

    ``coefficient`` scales it. ``estimate``: ``k1``, ``k2`` (default: the right gradient at once) or ``k3``. ``ratio``
    multiplies it with pi / pi_old, which turns k1 and k3 to KL(pi || reference); TRL's default is k3 with ratio.
    ``into``: the ``loss``, or the ``reward``: then each token's advantage loses coefficient x the k1 of itself and of
    the tokens after it, before the update, and ``estimate`` must be ``k1``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    coefficient: float = Field(gt=0)
    estimate: Estimate = "k2"
    ratio: bool = False
    into: Literal["loss", "reward"] = "loss"

    @model_validator(mode="after")
    def _check(self) -> Kl:
        if self.into == "reward" and (self.ratio or self.estimate != "k1"):
            raise ValueError("kl.into: reward subtracts k1 without a ratio; set kl.estimate: k1 and leave kl.ratio out")
        if self.into == "loss" and self.estimate == "k1" and not self.ratio:
            raise ValueError("kl.estimate: k1 in the loss has no gradient on average; set kl.ratio: true, or use k2")
        return self


def estimate(logprob_N: Tensor, reference_N: Tensor, kind: Estimate) -> Tensor:
    """The estimate per token (N,) in nats, with gradient; k3's exponential stops at 20 nats."""
    d_N = logprob_N - reference_N
    if kind == "k1":
        return d_N
    return d_N.square() / 2 if kind == "k2" else bounded_exp(-d_N) + d_N - 1


def kl_in_reward(
    advantage_n: NDArray[np.float64], k1_n: NDArray[np.float64], coefficient: float
) -> NDArray[np.float64]:
    """Advantages (n,) of one trajectory in order, minus coefficient x the sum of k1 from each token on.

    The reward to go of a reward -coefficient x k1 per token: earlier tokens answer for where they led.

    >>> kl_in_reward(np.array([1.0, 1.0]), np.array([0.5, 0.25]), 0.1).tolist()
    [0.925, 0.975]
    """
    to_go_n: NDArray[np.float64] = k1_n[::-1].cumsum()[::-1]
    return advantage_n - coefficient * to_go_n


@dataclass(frozen=True)
class RewardKl:
    """The token-level estimator that puts the KL into the reward; it follows whatever gave the advantages."""

    coefficient: float
    needs: frozenset[str] = frozenset({"reference"})

    def shape(self, traces: Sequence[Trace]) -> list[Shaped]:
        """Advantages less the KL to go, for each trace by itself. Raises ``ValueError`` without reference log-probs."""
        shaped = []
        for trace in traces:
            if trace.kl_n is None:
                raise ValueError(f"a row of role {trace.role!r} has no reference log-probs to take a KL from")
            shaped.append(Shaped(kl_in_reward(trace.advantage_n, trace.kl_n, self.coefficient)))
        return shaped
