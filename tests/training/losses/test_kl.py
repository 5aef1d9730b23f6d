"""Which KL each estimate follows: expectations enumerated over one softmax of 8 tokens (trl#4967, NeMo-RL#2506)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparring.training.advantages.base import Trace
from sparring.training.losses.base import Tokens
from sparring.training.losses.kl import Estimate, Kl, RewardKl, estimate, kl_in_reward
from sparring.training.losses.policy import PolicyGradient
from sparring.training.losses.presets import Reinforce

Packed = Callable[..., Tokens]


def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits with gradient, the reference's log-probs, and the gradients of KL(pi || ref) and KL(ref || pi)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, generator=generator, dtype=torch.float64).requires_grad_()
    reference = torch.randn(8, generator=generator, dtype=torch.float64).log_softmax(-1)
    p, d = logits.detach().softmax(-1), logits.detach().log_softmax(-1) - reference
    return logits, reference, p * (d - (p * d).sum()), p - reference.exp()


@pytest.mark.parametrize(
    ("kind", "ratio", "norm", "to_reverse", "to_forward"),
    [
        ("k1", False, 0.0, 0.4608, 0.5106),
        ("k2", False, 0.4608, 0.0, 0.3643),
        ("k3", False, 0.5106, 0.3643, 0.0),
        ("k1", True, 0.4608, 0.0, 0.3643),
        ("k3", True, 0.4608, 0.0, 0.3643),
    ],
)
def test_what_a_kl_in_the_loss_follows(
    kind: Estimate, ratio: bool, norm: float, to_reverse: float, to_forward: float
) -> None:
    logits, reference, reverse, forward = case()
    logprob = logits.log_softmax(-1)
    kl_V = estimate(logprob, reference, kind) * ((logprob - logprob.detach()).exp() if ratio else 1.0)
    (gradient,) = torch.autograd.grad((logprob.detach().exp() * kl_V).sum(), logits)
    assert float(gradient.norm()) == pytest.approx(norm, abs=5e-5)
    assert float((gradient - reverse).norm()) == pytest.approx(to_reverse, abs=5e-5 if to_reverse else 1e-15)
    assert float((gradient - forward).norm()) == pytest.approx(to_forward, abs=5e-5 if to_forward else 1e-15)


def test_k1_in_the_reward_follows_the_reverse_kl(packed: Packed) -> None:
    logits, reference, reverse, _ = case()
    logprob = logits.log_softmax(-1)
    k1 = (logprob.detach() - reference).numpy()
    advantage = [float(kl_in_reward(np.zeros(1), k1[at : at + 1], 1.0)[0]) for at in range(8)]
    tokens = packed(logprob, advantage, [1.0] * 8, coefficient=logprob.detach().exp())
    (gradient,) = torch.autograd.grad(Reinforce()(tokens), logits)
    assert float((gradient - reverse).norm()) < 1e-15


@pytest.mark.parametrize(("kind", "ratio"), [("k2", False), ("k3", False), ("k1", True), ("k3", True)])
def test_the_loss_adds_the_estimate_and_the_correction_never_weighs_it(packed: Packed, kind: str, ratio: bool) -> None:
    # trl#4772's weights belong to the policy term: a masked token still feels the reference
    logits, reference, _, _ = case()
    options: dict[str, Any] = {"denominator": "now", "old": "start", "correction": [{"mode": "mask", "high": 1.5}]}
    options["kl"] = {"coefficient": 0.3, "estimate": kind, "ratio": ratio}
    loss = PolicyGradient(PolicyGradient.Config.model_validate(options))
    logprob = logits.log_softmax(-1)
    tokens = packed(logprob, [5.0] * 8, [2.0] * 8, reference=reference)
    d = logprob.detach() - reference
    plain = {"k1": d, "k2": d.square() / 2, "k3": (-d).exp() + d - 1}[kind]
    torch.testing.assert_close(loss.per_token(tokens).detach(), 0.3 * plain)


def test_an_early_token_answers_for_the_kl_of_the_later_ones() -> None:
    assert kl_in_reward(np.array([1.0, 2.0, 3.0]), np.array([0.1, -0.2, 0.4]), 2.0).tolist() == pytest.approx(
        [1 - 0.6, 2 - 0.4, 3 - 0.8]
    )


def test_the_estimator_of_a_kl_in_the_reward_takes_it_from_each_trace() -> None:
    ones = np.ones(2)
    trace = Trace("solver", 0 * ones, ones, ones, logprob_n=np.array([-1.0, -2.0]), reference_n=np.array([-1.5, -1.0]))
    loss = Reinforce(Reinforce.Config(kl=Kl(coefficient=0.1, estimate="k1", into="reward")))
    assert loss.token_advantage is not None and loss.token_advantage.needs == loss.needs == {"reference"}
    assert loss.token_advantage.shape([trace])[0].advantage_n.tolist() == pytest.approx([1.05, 1.1])
    blind = Trace("solver", 0 * ones, ones, ones, ones)
    with pytest.raises(ValueError, match="role 'solver' has no reference"):
        RewardKl(0.1).shape([blind])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"estimate": "k1"}, "no gradient on average"),
        ({"estimate": "k3", "into": "reward"}, "subtracts k1"),
        ({"estimate": "k1", "into": "reward", "ratio": True}, "subtracts k1"),
    ],
)
def test_a_kl_that_would_mislead_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Kl.model_validate({"coefficient": 0.1, **options})
