"""Stabilisation masks: which tokens keep their gradient. All take detached ratios and give booleans (N,)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from .base import Tokens

if TYPE_CHECKING:
    from torch import Tensor

Mask = Literal["none", "clip", "one_side", "two_side", "ring", "probability"]


def one_side(ratio_N: Tensor, advantage_N: Tensor, low: float, high: float) -> Tensor:
    """Stop where the update has already gone far enough its own way: A > 0 above 1 + high, A < 0 below 1 - low.

    The mask of PPO's clip (arXiv 1707.06347) and of REC-OneSide (arXiv 2509.24203).
    """
    return ~(((advantage_N > 0) & (ratio_N > 1 + high)) | ((advantage_N < 0) & (ratio_N < 1 - low)))


def two_side(ratio_N: Tensor, low: float, high: float) -> Tensor:
    """Stop outside [1 - low, 1 + high] whatever the sign (REC-TwoSide, arXiv 2509.24203)."""
    return (ratio_N >= 1 - low) & (ratio_N <= 1 + high)


def ring(ratio_N: Tensor, advantage_N: Tensor, inner: tuple[float, float], outer: tuple[float, float]) -> Tensor:
    """Two-side, and far out the tokens that the update would bring back: A > 0 below 1 - outer low, A < 0 above 1 +
    outer high (REC-Ring, arXiv 2509.24203)."""
    returning = ((advantage_N >= 0) & (ratio_N <= 1 - outer[0])) | ((advantage_N <= 0) & (ratio_N >= 1 + outer[1]))
    return two_side(ratio_N, *inner) | returning


def probability(logprob_N: Tensor, old_N: Tensor, advantage_N: Tensor, trust: float) -> Tensor:
    """Stop where sign(A) (pi - pi_old) > trust: a bound on total variation instead of the ratio (DPPO, arXiv
    2602.04879), which a ratio bound misjudges for rare tokens."""
    return advantage_N.sign() * (logprob_N.exp() - old_N.exp()) <= trust


def fresh(tokens: Tokens, advantage_N: Tensor, drift: float) -> Tensor:
    """Keep A >= 0, and A < 0 only in trajectories with mean(log pi_old - log pi) <= drift (DeepSeek-V3.2, arXiv
    2512.02556): bad samples that the policy would no longer give teach nothing."""
    drift_N = tokens.mean_by(tokens.old_N - tokens.logprob_N.detach(), "unit")
    return (advantage_N >= 0) | (drift_N <= drift)


def clip(
    ratio_N: Tensor, advantage_N: Tensor, low: float, high: float, ceiling: float | None = None
) -> tuple[Tensor, Tensor]:
    """PPO's clip as a mask, and the value of the ratio where the mask is off: min(r A, clip(r) A) in two parts.

    ``ceiling`` is dual clip (arXiv 1912.09729): A < 0 also stops above it.
    """
    top = math.inf if ceiling is None else ceiling
    kept_N = one_side(ratio_N, advantage_N, low, high) & ~((advantage_N < 0) & (ratio_N > top))
    highest_N = ratio_N.new_full(ratio_N.shape, 1 + high).where(advantage_N > 0, top)
    return kept_N, ratio_N.clamp(min=1 - low).minimum(highest_N)
