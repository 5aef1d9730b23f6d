"""Losses on stale rows and on one sign of samples: softmax bandits, expectations taken exactly."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sparring.training.losses.base import Tokens
from sparring.training.losses.offpolicy import Nsr, Oreal, Psr, RecOneSide, Topr, WReinforce
from sparring.training.losses.policy import PolicyGradient
from sparring.training.losses.presets import Reinforce, Shaped

Packed = Callable[..., Tokens]
Tabular = Callable[..., Tensor]


def bandit(loss: PolicyGradient, steps: int) -> float:
    """Largest |log pi / pi_old| after ``steps`` of descent on samples of a policy that is never refreshed.

    Four arms with rewards 1, 0, 0, 0 less their mean under the old policy; every arm weighed by its probability.
    """
    start = torch.tensor([0.0, 0.5, 1.0, -0.5], dtype=torch.float64).log_softmax(-1)
    reward = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    advantage, index = reward - (start.exp() * reward).sum(), torch.arange(4)
    logits = start.clone().requires_grad_()
    for _ in range(steps):
        streams = {"advantage": advantage, "logprob_old": start}
        value = loss(Tokens(logits.log_softmax(-1), start.exp(), index, index, streams))
        (gradient,) = torch.autograd.grad(value, logits)
        logits = (logits - 0.2 * gradient).detach().requires_grad_()
    return float((logits.detach().log_softmax(-1) - start).abs().max())


def test_rec_one_side_stays_where_plain_reinforce_runs_away_on_stale_samples() -> None:
    # arXiv 2509.24203: the expected gradient of REINFORCE on fixed samples never ends
    plain, masked = [[bandit(loss, steps) for steps in (200, 800)] for loss in (Reinforce(), RecOneSide())]
    assert plain[1] > 3 * plain[0] > 6.0
    assert masked[1] == pytest.approx(masked[0], abs=1e-9) and masked[1] < 0.75  # every arm is stopped: it stands still


def test_topr_forgets_a_bad_trajectory_that_the_policy_left(packed: Packed, tabular: Tabular) -> None:
    logits = tabular(states=5)
    logprob = logits.log_softmax(-1)[:, 0]
    tokens = packed(logprob, [-1.0] * 3 + [1.0] * 2, [0.01] * 3 + [0.01] * 2, [3, 2])
    (gradient,) = torch.autograd.grad(Topr()(tokens), logits, retain_graph=True)
    (plain,) = torch.autograd.grad(Reinforce()(tokens), logits)
    torch.testing.assert_close(gradient[:3], 1e-6 * plain[:3])  # three tokens at 0.01
    torch.testing.assert_close(gradient[3:], plain[3:])  # good samples bear no weight


def test_topr_never_weighs_a_bad_trajectory_more_than_once(packed: Packed) -> None:
    logprob = torch.full((2,), -3.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Topr().per_token(packed(logprob, [-1.0] * 2, [4.0] * 2, [2])).sum(), logprob)
    assert slope.tolist() == [1.0, 1.0]


def test_a_positive_weight_of_nothing_leaves_no_gradient_from_good_samples(packed: Packed, tabular: Tabular) -> None:
    logits = tabular(states=4)
    tokens = packed(logits.log_softmax(-1)[:, 1], [1.0, 2.0, -1.0, -2.0], [1.0] * 4)
    for loss in (Nsr(), WReinforce(WReinforce.Config(positive=0.0))):
        (gradient,) = torch.autograd.grad(loss(tokens), logits, retain_graph=True)
        assert (gradient[:2] == 0).all() and (gradient[2:] != 0).all()
    (gradient,) = torch.autograd.grad(Psr()(tokens), logits, retain_graph=True)
    assert (gradient[:2] != 0).all() and (gradient[2:] == 0).all()


def test_nsr_gives_the_mass_of_a_wrong_answer_to_the_others_in_proportion_to_their_own(tabular: Tabular) -> None:
    # arXiv 2506.01347: the policy's own beliefs decide where the mass goes
    logits = tabular()
    index, prior = torch.zeros(1, dtype=torch.long), logits.detach().softmax(-1)
    streams = {"advantage": torch.tensor([-1.0]).double(), "logprob_old": torch.zeros(1).double()}
    wrong = 5
    logprob = logits.log_softmax(-1)[wrong : wrong + 1]
    (gradient,) = torch.autograd.grad(Nsr()(Tokens(logprob, torch.ones(1), index, index, streams)), logits)
    others = [arm for arm in range(8) if arm != wrong]
    torch.testing.assert_close(-gradient[others], prior[others])
    assert -gradient[wrong] == pytest.approx(-(1 - float(prior[wrong])))


def test_oreal_on_good_samples_alone_is_weighted_cloning(packed: Packed, tabular: Tabular) -> None:
    logits = tabular(states=3)
    logprob = logits.log_softmax(-1)[:, 2]
    weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    tokens = packed(logprob, [1.0] * 3, [0.2, 1.0, 3.0], weight=weight)  # stale, and yet no ratio
    torch.testing.assert_close(Oreal(Oreal.Config(kl=None)).per_token(tokens), -weight * logprob)


@pytest.mark.parametrize("wins", [1, 3, 7])
def test_oreal_pushes_bad_samples_away_by_half_the_pass_rate(wins: int, packed: Packed) -> None:
    # rewards 0 and 1 less the mean of eight: a bad sample's advantage is -pass rate
    logprob = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    tokens = packed(logprob, [-wins / 8], [1.0])
    (slope,) = torch.autograd.grad(Oreal(Oreal.Config(kl=None))(tokens), logprob)
    assert slope.item() == pytest.approx(0.5 * wins / 8)


def test_a_shaped_likelihood_learns_rare_tokens_faster_than_the_probability_does(packed: Packed) -> None:
    # arXiv 2504.14945: the slope peaks at p = gamma, and is not 1 at p = 1
    logprob = torch.tensor([math.log(p) for p in (0.01, 0.1, 0.9)], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Shaped().per_token(packed(logprob, [1.0] * 3, [1.0] * 3)).sum(), logprob)
    assert (-slope).tolist() == pytest.approx([0.1 * p / (p + 0.1) ** 2 for p in (0.01, 0.1, 0.9)])
    assert -slope[1] == pytest.approx(0.25) and -slope[0] > 5 * 0.01 > 0
