"""Losses of scalar heads: closed forms in value and gradient."""

from __future__ import annotations

import math

import pytest
import torch

from sparring.training.losses.base import Tokens
from sparring.training.losses.heads import ImplicitReward, ProcessHead, RewardHead, ValueHead

SCORE = [2.0, -1.0, 0.5, 0.0]
ROW = [0, 0, 1, 1]


def slope(leaf: torch.Tensor) -> torch.Tensor:
    """What the backward pass left there."""
    assert leaf.grad is not None
    return leaf.grad


def real(values: list[float]) -> torch.Tensor:
    """Numbers in double precision."""
    return torch.tensor(values, dtype=torch.float64)


def tokens(head: str = "reward", score: list[float] = SCORE, **streams: list[float]) -> Tokens:
    """Four tokens in two rows of one unit, with a head's scores; coefficient 1/4 each."""
    score_N = real(score).requires_grad_()
    logprob_N = real([-0.1, -2.0, -0.7, -3.0]).requires_grad_()
    given = {name: real(values) for name, values in streams.items()}
    row_N = torch.tensor(ROW)
    return Tokens(logprob_N, torch.full((4,), 0.25).double(), row_N, row_N * 0, given, scores={head: score_N})


def gradient(shown: Tokens, head: str) -> list[float]:
    found = shown.scores[head].grad
    assert found is not None
    return found.tolist()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_outcome_reward_is_binary_cross_entropy() -> None:
    label = [1.0, 0.0, 0.0, 1.0]
    shown = tokens(label=label)
    loss = RewardHead()(shown)
    loss.backward()
    each = [-math.log(sigmoid(s) if y else 1 - sigmoid(s)) for s, y in zip(SCORE, label, strict=True)]
    assert loss.item() == pytest.approx(sum(each) / 4, abs=1e-12)
    expected = [(sigmoid(s) - y) / 4 for s, y in zip(SCORE, label, strict=True)]
    assert gradient(shown, "reward") == pytest.approx(expected, abs=1e-12)


def test_pairs_follow_bradley_and_terry() -> None:
    shown = Tokens(
        torch.zeros(2).double(),
        real([0.5, 0.5]),
        torch.tensor([0, 1]),
        torch.tensor([0, 0]),
        {"advantage": real([1.0, -1.0])},
        scores={"reward": real([0.2, 0.9]).requires_grad_()},
    )
    loss = RewardHead(RewardHead.Config(form="pairs", centre=0.1))(shown)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(sigmoid(-0.7)) + 0.1 * 1.1**2, abs=1e-12)
    wrong = sigmoid(0.7)
    assert gradient(shown, "reward") == pytest.approx([-wrong + 0.22, wrong + 0.22], abs=1e-12)


def test_values_are_drawn_to_returns() -> None:
    shown = tokens("value", **{"return": [1.0, 1.0, 0.0, 0.0]})
    loss = ValueHead()(shown)
    loss.backward()
    assert loss.item() == pytest.approx((1.0 + 4.0 + 0.25 + 0.0) / 8, abs=1e-12)
    assert gradient(shown, "value") == pytest.approx([0.25, -0.5, 0.125, 0.0], abs=1e-12)


def test_the_logistic_value_is_a_chance_in_log_odds() -> None:
    shown = tokens("value", **{"return": [0.5, 1.0, 0.25, 0.0]})
    part = ValueHead(ValueHead.Config(form="logistic"))
    part(shown).backward()
    returns = [0.5, 1.0, 0.25, 0.0]
    expected = [(sigmoid(v) - r) / 4 for v, r in zip(SCORE, returns, strict=True)]
    assert gradient(shown, "value") == pytest.approx(expected, abs=1e-12)
    assert part.figures(shown)["value"].tolist() == pytest.approx([sigmoid(v) for v in SCORE])


def test_each_step_has_its_own_label() -> None:
    shown = tokens("process", label=[1.0, 0.5, 0.0, 0.25])
    ProcessHead()(shown).backward()
    expected = [(sigmoid(s) - y) / 4 for s, y in zip(SCORE, [1.0, 0.5, 0.0, 0.25], strict=True)]
    assert gradient(shown, "process") == pytest.approx(expected, abs=1e-12)


def test_the_mean_form_shares_one_outcome_among_the_tokens_of_a_row() -> None:
    shown = tokens("process", label=[1.0, 1.0, 0.0, 0.0])
    loss = ProcessHead(ProcessHead.Config(form="mean"))(shown)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(sigmoid(0.5)) / 2 - math.log(1 - sigmoid(0.25)) / 2, abs=1e-12)
    first, second = (sigmoid(0.5) - 1) / 4, sigmoid(0.25) / 4
    assert gradient(shown, "process") == pytest.approx([first, first, second, second], abs=1e-12)


def test_the_implicit_reward_is_the_summed_log_ratio() -> None:
    shown = tokens(label=[1.0, 1.0, 0.0, 0.0], reference=[-0.2, -1.0, -0.7, -5.0])
    loss = ImplicitReward(ImplicitReward.Config(beta=0.5))(shown)
    loss.backward()
    rewards = 0.5 * (0.1 - 1.0), 0.5 * 2.0
    assert loss.item() == pytest.approx(-math.log(sigmoid(rewards[0])) / 2 - math.log(1 - sigmoid(rewards[1])) / 2)
    pull = 0.5 * (sigmoid(rewards[0]) - 1) / 2, 0.5 * sigmoid(rewards[1]) / 2
    assert slope(shown.logprob_N).tolist() == pytest.approx([pull[0], pull[0], pull[1], pull[1]], abs=1e-12)


@pytest.mark.parametrize("score", [1e4, -1e4])
def test_far_scores_give_no_nan(score: float) -> None:
    shown = tokens(score=[score] * 4, label=[1.0, 0.0, 1.0, 0.0])
    loss = RewardHead()(shown)
    loss.backward()
    assert loss.item() == pytest.approx(5e3)
    assert all(map(math.isfinite, gradient(shown, "reward")))


def test_a_reward_head_tells_two_classes_apart() -> None:
    rng = torch.Generator().manual_seed(0)
    hidden_ND = torch.randn(64, 3, generator=rng).double()
    label_N = (hidden_ND[:, 0] - 0.5 * hidden_ND[:, 1] > 0).double()
    weight_D = torch.zeros(3).double().requires_grad_()
    index_N = torch.arange(64)
    for _ in range(50):
        shown = Tokens(
            label_N, torch.full((64,), 1 / 64).double(), index_N, index_N,
            {"label": label_N}, scores={"reward": hidden_ND @ weight_D},
        )  # fmt: skip
        (down,) = torch.autograd.grad(RewardHead()(shown), weight_D)
        weight_D = (weight_D - 4 * down).detach().requires_grad_()
    assert RewardHead().figures(shown)["agrees"].mean().item() > 0.95
