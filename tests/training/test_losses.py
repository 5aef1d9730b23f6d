"""Losses against their closed forms, value and gradient."""

from __future__ import annotations

import math

import pytest
import torch

from sparring.training.losses.presets import Dapo, Reinforce

RATIOS = (0.5, 0.79, 0.81, 1.0, 1.27, 1.29, 2.0)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("advantage", [1.5, -0.7])
def test_clip_higher_is_the_smaller_branch(ratio: float, advantage: float) -> None:
    logprob = torch.tensor([math.log(ratio) - 2.0], dtype=torch.float64, requires_grad=True)
    old, pull = torch.tensor([-2.0], dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64)
    loss = ClipHigher()(logprob, old, pull)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    stopped = ratio > 1.28 if advantage > 0 else ratio < 0.8
    bound = 1.28 if advantage > 0 else 0.8
    assert loss.item() == pytest.approx(-(bound if stopped else ratio) * advantage)
    assert logprob.grad is not None
    assert logprob.grad.item() == pytest.approx(0.0 if stopped else -ratio * advantage)


def test_the_clip_is_where_the_options_say() -> None:
    loss = ClipHigher(ClipHigher.Config(low=0.5, high=1.0))
    ratio = torch.tensor([0.4, 2.5]).log()
    assert loss(ratio, torch.zeros(2), torch.tensor([-1.0, 1.0])).tolist() == pytest.approx([0.5, -2.0])


def test_reinforce_is_minus_advantage_times_log_prob() -> None:
    logprob = torch.tensor([-1.0, -3.0], requires_grad=True)
    loss = Reinforce()(logprob, torch.tensor([0.0, 9.0]), torch.tensor([2.0, -1.0]))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.tolist() == [2.0, -3.0]
    assert logprob.grad is not None and logprob.grad.tolist() == [-2.0, 1.0]


def test_on_policy_both_have_one_gradient() -> None:
    old, advantage = torch.tensor([-0.5, -2.0, -7.0]), torch.tensor([1.0, -2.0, 0.3])
    gradients = []
    for loss in (ClipHigher(), Reinforce()):
        logprob = old.clone().requires_grad_()
        loss(logprob, old, advantage).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append(logprob.grad)
    torch.testing.assert_close(*gradients)
