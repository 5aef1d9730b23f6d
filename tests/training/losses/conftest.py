"""Packed tokens made by hand, in float64: what the loss tests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from sparring.training.losses.base import Tokens


def make_tokens(
    logprob: Tensor, advantage: Sequence[float], ratio: Sequence[float], units: Sequence[int] = (), **more: Tensor
) -> Tokens:
    """Tokens at these ratios to the old policy. ``units``: tokens of each trajectory (one each); coefficients 1 / N."""
    n = len(logprob)
    counts = torch.tensor(units or [1] * n)
    unit_N = torch.arange(len(counts)).repeat_interleave(counts)
    streams = {
        "advantage": torch.tensor(advantage, dtype=torch.float64),
        "logprob_old": logprob.detach() - torch.tensor(ratio, dtype=torch.float64).log(),
        "start": logprob.detach().clone(),
    }
    entropy = more.pop("entropy", None)
    value = more.pop("score_value", None)
    scores = {} if value is None else {"value": value}
    coefficient_N = more.pop("coefficient", torch.full((n,), 1.0 / n, dtype=torch.float64))
    return Tokens(logprob, coefficient_N, unit_N, unit_N, streams | more, entropy, scores)


@pytest.fixture
def packed() -> Callable[..., Tokens]:
    """``packed(logprob, advantage, ratio, units, **streams)``: one micro-batch's trained tokens."""
    return make_tokens


def softmax_policy(seed: int = 0, states: int = 1, actions: int = 8) -> Tensor:
    """Logits (states, actions) of a tabular policy, with gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(states, actions, generator=generator, dtype=torch.float64).squeeze(0).requires_grad_()


@pytest.fixture
def tabular() -> Callable[..., Tensor]:
    """``tabular(seed, states, actions)``: logits of a softmax policy in float64."""
    return softmax_policy
