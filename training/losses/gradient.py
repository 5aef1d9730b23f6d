"""The likelihood gradient and the reference denominator: what is differentiated, and what divides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .ratio import bounded_exp

if TYPE_CHECKING:
    from torch import Tensor

Denominator = Literal["old", "now", "one"]


def likelihood(logprob_N: Tensor, ratio_N: Tensor, denominator: Denominator) -> Tensor:
    """phi (N,) with grad phi = grad pi / denominator (HPT, arXiv 2509.04419).

    ``old``: the ratio, grad = r grad log pi. ``now``: log pi, grad = grad log pi (REINFORCE, SFT). ``one``: pi itself,
    grad = pi grad log pi: rare tokens hardly move.
    """
    if denominator == "old":
        return ratio_N
    return logprob_N if denominator == "now" else bounded_exp(logprob_N)


def shaped(logprob_N: Tensor, gamma: float) -> Tensor:
    """p / (p + gamma), grad = gamma p / (p + gamma)^2 grad log pi: at gamma 0.1 the slope peaks at p = 0.1.

    For tokens that the policy did not sample (LUFFY, arXiv 2504.14945; Critique-GRPO, arXiv 2506.03106).
    """
    p_N = bounded_exp(logprob_N)
    return p_N / (p_N + gamma)
