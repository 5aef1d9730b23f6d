"""Supervised losses: values and gradients as written."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparring.training.losses.base import Tokens
from sparring.training.losses.policy import PolicyGradient
from sparring.training.losses.supervised import NextToken, Supervised

COEFFICIENT = torch.tensor([0.5, 0.25, 0.125, 2.0], dtype=torch.float64)


def slope(leaf: torch.Tensor) -> torch.Tensor:
    """What the backward pass left there."""
    assert leaf.grad is not None
    return leaf.grad


def tokens(**more: Any) -> Tokens:
    """Four tokens of two rows, advantage 1, sampled by another policy."""
    logprob_N = torch.tensor([-0.1, -2.0, -0.7, -3.0], dtype=torch.float64, requires_grad=True)
    index_N = torch.tensor([0, 0, 1, 1])
    streams = {"advantage": torch.ones(4).double(), "logprob_old": torch.tensor([-1.0, -1.5, -0.2, -3.0]).double()}
    return Tokens(logprob_N, COEFFICIENT, index_N, index_N, streams, **more)


def test_supervised_is_minus_the_weighted_log_likelihood() -> None:
    shown = tokens()
    loss = Supervised()(shown)
    loss.backward()
    assert loss.item() == pytest.approx(0.05 + 0.5 + 0.0875 + 6.0, abs=1e-12)
    assert torch.equal(slope(shown.logprob_N), -COEFFICIENT)
    assert Supervised().every_token and not Supervised().needs


def test_supervised_is_the_policy_gradient_of_advantage_one_without_ratio_and_mask() -> None:
    ours, theirs = tokens(), tokens()
    loss, other = Supervised()(ours), PolicyGradient(PolicyGradient.Config(denominator="now"))(theirs)
    loss.backward()
    other.backward()
    assert torch.equal(loss, other)
    assert torch.equal(slope(ours.logprob_N), slope(theirs.logprob_N))


def test_replay_weighs_the_text_and_the_reference() -> None:
    divergence_N = torch.tensor([0.3, 0.1, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    shown = tokens(divergence_N=divergence_N)
    loss = NextToken(NextToken.Config(ce=0.5, kl=2.0))(shown)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * 6.6375 + 2.0 * (0.15 + 0.025 + 0.0 + 2.0), abs=1e-12)
    assert torch.equal(slope(shown.logprob_N), -0.5 * COEFFICIENT)
    assert torch.equal(slope(divergence_N), 2.0 * COEFFICIENT)


def test_replay_asks_for_a_teacher_only_when_it_has_a_kl_term() -> None:
    assert NextToken().needs == frozenset()
    assert NextToken(NextToken.Config(kl=0.1)).needs == {"teacher"}
    assert NextToken(NextToken.Config(kl=0.1)).direction == "forward"


def test_replay_without_a_kl_term_is_fine_tuning() -> None:
    assert torch.equal(NextToken()(tokens()), Supervised()(tokens()))
    assert set(NextToken().figures(tokens())) == {"nll"}
