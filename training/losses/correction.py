"""Importance weights between the trainer's and the engine's arithmetic: truncated, masked or rejected; never in a KL.

w = f(exp(start - old)): ``start`` is what the trainer scores before the update, ``old`` what the engine reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from .base import Tokens
from .ratio import bounded_exp

if TYPE_CHECKING:
    from torch import Tensor


class Correction(BaseModel):
    """One weight for the mismatch between trainer and engine.

    ``mode``: ``truncate`` (the ratio held between ``low`` and ``high``: TIS), ``mask`` (the ratio inside, 0 outside:
    MIS) or ``reject`` (1 inside, 0 outside). ``level``: ``token``; ``sequence``, the product over the trajectory, which
    grows with its length (0.012 nats a token over 100 tokens is 3.3, trl#4772); ``geometric``, its geometric mean,
    which does not. ``low`` 0 and ``high`` 2 are the bounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    mode: Literal["truncate", "mask", "reject"] = "truncate"
    level: Literal["token", "sequence", "geometric"] = "token"
    low: float = Field(default=0.0, ge=0)
    high: float = Field(default=2.0, gt=0)


def mismatch(tokens: Tokens, level: str = "token") -> Tensor:
    """The raw ratio exp(start - old) (N,), detached, before any bound: the number to watch (trl#5231)."""
    difference_N = (tokens.start_N - tokens.old_N).detach()
    if level != "token":
        difference_N = (tokens.sum_by if level == "sequence" else tokens.mean_by)(difference_N, "unit")
    return bounded_exp(difference_N)


def importance(tokens: Tokens, corrections: Sequence[Correction]) -> Tensor:
    """The product of all corrections (N,), detached; ones for none."""
    weight_N = tokens.logprob_N.new_ones(tokens.logprob_N.shape)
    for correction in corrections:
        raw_N = mismatch(tokens, correction.level)
        inside_N = (raw_N >= correction.low) & (raw_N <= correction.high)
        if correction.mode == "truncate":
            weight_N = weight_N * raw_N.clamp(correction.low, correction.high)
        else:
            weight_N = weight_N * inside_N * (raw_N if correction.mode == "mask" else 1.0)
    return weight_N


def effective_share(mean: float, mean_square: float) -> float:
    """Effective sample size over sample size, (mean w)^2 / mean w^2: 1 for equal weights, 1 / N when one rules.

    >>> effective_share(1.0, 4.0)
    0.25
    """
    return mean * mean / mean_square if mean_square > 0 and math.isfinite(mean_square) else 0.0
