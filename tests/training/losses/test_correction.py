"""Weights for the mismatch of trainer and engine: truncation, masks, their levels, two ways to be off policy."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sparring.training.losses.base import Tokens
from sparring.training.losses.correction import Correction, importance, mismatch
from sparring.training.losses.offpolicy import Oreal
from sparring.training.losses.policy import PolicyGradient
from sparring.training.losses.presets import Dapo, Reinforce, Shaped

Packed = Callable[..., Tokens]
Tabular = Callable[..., Tensor]


def tokens_apart(packed: Packed, gaps: list[float], units: list[int]) -> Tokens:
    """Tokens whose trainer's log-prob is ``gaps`` above the engine's."""
    logprob = torch.full((len(gaps),), -1.0, dtype=torch.float64)
    return packed(logprob, [1.0] * len(gaps), [math.exp(gap) for gap in gaps], units)


def test_a_small_gap_per_token_grows_with_length_and_its_geometric_mean_does_not(packed: Packed) -> None:
    # trl#4772: 0.012 nats over 100 tokens is 3.3, over TRL's cap of 3, so long answers vanish
    tokens = tokens_apart(packed, [0.012] * 110, [10, 100])
    raw = mismatch(tokens, "sequence")
    assert [float(raw[0]), float(raw[10])] == pytest.approx([1.127, 3.32], abs=5e-3)
    assert mismatch(tokens, "geometric").tolist() == pytest.approx([math.exp(0.012)] * 110)
    masked = importance(tokens, [Correction(mode="mask", level="sequence", high=3.0)])
    assert (masked[:10] > 1).all() and (masked[10:] == 0).all()


@pytest.mark.parametrize(
    ("mode", "expected"), [("truncate", [0.5, 1.5, 2.0]), ("mask", [0.0, 1.5, 0.0]), ("reject", [0.0, 1.0, 0.0])]
)
def test_what_happens_outside_the_bounds(mode: str, expected: list[float], packed: Packed) -> None:
    tokens = tokens_apart(packed, [math.log(0.1), math.log(1.5), math.log(9.0)], [1, 1, 1])
    correction = Correction.model_validate({"mode": mode, "low": 0.5})
    assert importance(tokens, [correction]).tolist() == pytest.approx(expected)


def test_a_geometric_rejection_and_a_token_truncation_multiply(packed: Packed) -> None:
    # SkyRL's advice: reject trajectories whose geometric mean leaves [.99, 1.01], truncate tokens at 2
    tokens = tokens_apart(packed, [math.log(4.0), -math.log(4.0), 0.02, 0.02], [2, 2])
    both = [Correction(mode="reject", level="geometric", low=0.99, high=1.01), Correction()]
    assert importance(tokens, both).tolist() == pytest.approx([2.0, 0.25, 0.0, 0.0])


def test_the_weight_has_no_gradient_and_scales_the_ratio_against_the_start(packed: Packed) -> None:
    logprob = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    tokens = packed(logprob, [2.0], [5.0], start=torch.tensor([-1.1], dtype=torch.float64))
    loss = PolicyGradient(PolicyGradient.Config.model_validate({"old": "start", "correction": [{}]})).per_token(tokens)
    assert loss.item() == pytest.approx(-2.0 * 2.0 * math.exp(0.1))  # engine to start is 4.5, truncated at 2
    assert torch.autograd.grad(loss.sum(), logprob)[0].item() == pytest.approx(loss.item())


def test_text_the_policy_did_not_sample_bears_no_correction(packed: Packed) -> None:
    tokens = tokens_apart(packed, [math.log(9.0)] * 2, [1, 1])
    options = {"old": "start", "correction": [{"mode": "mask"}]}
    shaped, cloned = Shaped(Shaped.Config.model_validate(options)), Oreal(Oreal.Config.model_validate(options))
    assert shaped.parts(tokens).weight_N.tolist() == cloned.parts(tokens).weight_N.tolist() == [1.0, 1.0]
    assert Reinforce(Reinforce.Config.model_validate(options)).parts(tokens).weight_N.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("level", ["token", "sequence", "geometric"])
def test_decoupled_is_bypass_when_engine_and_trainer_agree(level: str, packed: Packed, tabular: Tabular) -> None:
    # verl's rollout_corr: three policies against two
    logits = tabular(states=4)
    logprob = logits.log_softmax(-1)[:, 1]
    tokens = packed(logprob, [1.0, 1.0, -1.0, -1.0], [0.7, 1.1, 1.0, 1.4], [2, 2])
    tokens = packed(logprob, [1.0, 1.0, -1.0, -1.0], [0.7, 1.1, 1.0, 1.4], [2, 2], start=tokens.old_N)
    decoupled = Dapo(Dapo.Config.model_validate({"old": "start", "correction": [{"level": level}]}))
    gradients = [torch.autograd.grad(loss(tokens), logits, retain_graph=True)[0] for loss in (Dapo(), decoupled)]
    torch.testing.assert_close(*gradients)


def test_the_raw_ratio_is_reported_before_any_bound(packed: Packed) -> None:
    # trl#5231: ratios were logged only after clipping
    tokens = tokens_apart(packed, [0.0, math.log(3.0)], [1, 1])
    loss = Dapo(Dapo.Config.model_validate({"old": "start", "correction": [{"mode": "mask"}]}))
    figures = loss.figures(tokens)
    assert figures["mismatch"].tolist() == pytest.approx([1.0, 3.0])
    assert figures["correction"].tolist() == [1.0, 0.0]
    means = {name: float(column.mean()) for name, column in figures.items()}
    assert loss.summary(means)["mismatch_effective"] == pytest.approx((1 + 3) ** 2 / (2 * (1 + 9)))


def test_the_figures_say_what_the_mask_stopped_and_where_the_reference_is(packed: Packed) -> None:
    logprob = torch.full((2,), -1.0, dtype=torch.float64, requires_grad=True)
    loss = Dapo(Dapo.Config.model_validate({"kl": {"coefficient": 0.1}}))
    figures = loss.figures(packed(logprob, [1.0, 1.0], [1.5, 1.0], reference=logprob.detach() - 1))
    assert figures["stopped"].tolist() == [1.0, 0.0] and figures["ratio"].tolist() == pytest.approx([1.5, 1.0])
    assert figures["kl"].tolist() == pytest.approx([math.exp(-1)] * 2)
    assert not any(column.requires_grad for column in figures.values())
