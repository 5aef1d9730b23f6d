"""Probability ratios in log space: per token, per trajectory, and an exponential that cannot overflow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from .base import Tokens

if TYPE_CHECKING:
    from torch import Tensor

Level = Literal["token", "sequence", "sequence_token", "product"]
BOUND = 20.0  # nats; e**20 = 4.9e8, still far from the largest 32-bit number after sums and products


def bounded_exp(x_N: Tensor) -> Tensor:
    """exp(x) up to x = 20; beyond, value and slope stay those at 20.

    A plain clamp would set the slope to 0 and let a token that ran away stay there.
    """
    value_N = x_N.detach().clamp(max=BOUND).exp()
    return value_N * (1.0 + x_N - x_N.detach())


def attached(x_N: Tensor, logprob_N: Tensor) -> Tensor:
    """The value of ``x_N`` with the gradient of ``logprob_N``: sg[x] + logp - sg[logp] (GSPO's stop-gradient form)."""
    return x_N.detach() + logprob_N - logprob_N.detach()


def log_ratio(tokens: Tokens, base_N: Tensor, level: Level, preclip: float | None = None) -> Tensor:
    """log pi - log base in nats (N,), by token or by trajectory (unit).

    ``token``: each token's own. ``sequence``: the mean over the trajectory, so that exp is the geometric mean (GSPO,
    arXiv 2507.18071); the gradient reaches every token of the trajectory through the mean. ``sequence_token``: the same
    value, the gradient of this token alone; equal in sum where advantage and coefficient are constant in a trajectory.
    ``product``: the sum over the trajectory, with the gradient of this token alone. ``preclip`` clamps each token to
    +-log(preclip) first, with no gradient outside (R1-Reward, arXiv 2505.02835: 1000).
    """
    difference_N = tokens.logprob_N - base_N
    if preclip is not None:
        difference_N = difference_N.clamp(-math.log(preclip), math.log(preclip))
    if level == "token":
        return difference_N
    if level == "sequence":
        return tokens.mean_by(difference_N, "unit")
    whole_N = (tokens.sum_by if level == "product" else tokens.mean_by)(difference_N.detach(), "unit")
    return attached(whole_N, tokens.logprob_N)
