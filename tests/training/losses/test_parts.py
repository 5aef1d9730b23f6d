"""The four parts and how they compose: HPT's estimator, GSPO's two forms, masks, dialects of other trainers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sparring.training.losses import stable
from sparring.training.losses.base import Tokens
from sparring.training.losses.gradient import likelihood
from sparring.training.losses.policy import PolicyGradient
from sparring.training.losses.presets import Cispo, Dapo, Grpo, Gspo, Ppo, Reinforce
from sparring.training.losses.ratio import attached, bounded_exp, log_ratio

Packed = Callable[..., Tokens]
Tabular = Callable[..., Tensor]
RATIO = [0.5, 0.9, 1.0, 1.25, 1.4, 3.0]
ADVANTAGE = [1.0, 1.0, -0.5, -0.5, 2.0, 2.0]


def drawn(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1)[:, 2]


def direct(name: str, logprob: Tensor, ratio: Tensor, advantage: Tensor) -> Tensor:
    """The usual way to write each loss, per token."""
    r = (logprob - (logprob.detach() - ratio.log())).exp()
    return {
        "sft": -logprob,
        "reinforce": -advantage * logprob,
        "ppo": -torch.minimum(r * advantage, r.clamp(0.8, 1.2) * advantage),
        "grpo": -torch.minimum(r * advantage, r.clamp(0.8, 1.2) * advantage),
    }[name]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sft", {"denominator": "now"}),
        ("reinforce", {"denominator": "now"}),
        ("ppo", {"denominator": "old", "mask": "clip"}),
        ("grpo", {"denominator": "old", "mask": "clip", "aggregate": "trajectories"}),
    ],
)
def test_sft_reinforce_ppo_and_grpo_are_choices_of_the_four_parts(
    name: str, options: dict[str, str], packed: Packed, tabular: Tabular
) -> None:
    logits = tabular(states=6)
    advantage = [1.0] * 6 if name == "sft" else ADVANTAGE
    tokens = packed(drawn(logits), advantage, RATIO)
    part = PolicyGradient(PolicyGradient.Config.model_validate(options))
    mine = part(tokens)
    plain = (tokens.coefficient_N * direct(name, drawn(logits), torch.tensor(RATIO).double(), tokens.advantage_N)).sum()
    torch.testing.assert_close(mine, plain)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (mine, plain)))


def test_the_estimator_is_mask_times_advantage_over_the_denominator(packed: Packed, tabular: Tabular) -> None:
    # HPT, arXiv 2509.04419: 1[stable] (1 / pi_ref) A grad pi, written with probabilities instead of logs
    logits = tabular(states=6)
    tokens = packed(drawn(logits), ADVANTAGE, RATIO)
    (mine,) = torch.autograd.grad(Grpo()(tokens), logits)
    p = drawn(logits).exp()
    old, kept = p.detach() / torch.tensor(RATIO), torch.tensor([True, True, True, True, False, False])
    (unified,) = torch.autograd.grad(-(kept * tokens.advantage_N / old * p).mean(), logits)
    torch.testing.assert_close(mine, unified)


def test_a_denominator_of_one_differentiates_the_probability(tabular: Tabular) -> None:
    logprob = drawn(tabular(states=4)).detach().requires_grad_()
    (slope,) = torch.autograd.grad(likelihood(logprob, logprob, "one").sum(), logprob)
    torch.testing.assert_close(slope, logprob.detach().exp())


@pytest.mark.parametrize("kind", ["sequence", "sequence_token"])
def test_gspo_in_its_direct_and_its_stop_gradient_form(kind: Any, packed: Packed, tabular: Tabular) -> None:
    # TRL takes the direct form, verl the stop-gradient one (core_algos.py:1546): equal values, equal gradients
    logits = tabular(states=6)
    tokens = packed(drawn(logits), [1.0] * 2 + [-1.0] * 4, [0.9, 1.2, 1.3, 0.6, 1.1, 1.0], [2, 4])
    (mine,) = torch.autograd.grad(Gspo(Gspo.Config(level=kind, low=0.5, high=0.5))(tokens), logits)
    by_hand = torch.zeros_like(mine)
    for rows, ratios, advantage in ((range(2), [0.9, 1.2], 1.0), (range(2, 6), [1.3, 0.6, 1.1, 1.0], -1.0)):
        s = math.prod(ratios) ** (1 / len(ratios))
        for row in rows:
            by_hand[row] = -advantage * s / 6 * (torch.eye(8)[2] - logits[row].detach().softmax(-1))
    torch.testing.assert_close(mine, by_hand)


def test_gspo_stops_a_trajectory_whole_over_all_its_turns(packed: Packed, tabular: Tabular) -> None:
    # the scope is the trajectory, not the row: two rows of one unit share one ratio
    logits = tabular(states=4)
    tokens = packed(drawn(logits), [1.0] * 4, [1.0, 1.0, 1.0, 1.01], [2, 2])
    whole = Tokens(tokens.logprob_N, tokens.coefficient_N, tokens.unit_N, 0 * tokens.unit_N, tokens.streams)
    stopped = [Gspo().parts(one).stable_N.tolist() for one in (tokens, whole)]
    assert stopped == [[True, True, False, False], [False] * 4]
    assert Gspo().every_token  # tokens of advantage 0 are in the mean


def test_a_product_of_ratios_is_a_trajectorys_weight(packed: Packed) -> None:
    logprob = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    tokens = packed(logprob, [1.0] * 3, [0.5, 0.6, 2.0], [2, 1])
    ratio = log_ratio(tokens, tokens.old_N, "product").exp()
    assert ratio.tolist() == pytest.approx([0.3, 0.3, 2.0])
    (slope,) = torch.autograd.grad(ratio.sum(), logprob)
    assert slope.tolist() == pytest.approx([0.3, 0.3, 2.0])


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_dual_clip_is_trls_delta(advantage: float, packed: Packed) -> None:
    # TRL 1.16: min(clamp(r, max=delta) A, clip(r) A)
    ratio = torch.tensor([0.5, 1.0, 1.1, 2.9, 3.1, 50.0], dtype=torch.float64)
    logprob = torch.full((6,), -4.0, dtype=torch.float64, requires_grad=True)
    tokens = packed(logprob, [advantage] * 6, ratio.tolist())
    mine = Grpo(Grpo.Config(ceiling=3.0)).per_token(tokens)
    r = (logprob - tokens.old_N).exp()
    trl = -torch.minimum(r.clamp(max=3.0) * advantage, r.clamp(0.8, 1.2) * advantage)
    torch.testing.assert_close(mine, trl)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss.sum(), logprob, retain_graph=True)[0] for loss in (mine, trl))
    )


def test_the_off_policy_mask_drops_only_bad_trajectories_that_drifted(packed: Packed) -> None:
    # DeepSeek-V3.2's sign table, TRL's get_off_policy_mask: keep A >= 0, or mean(old - new) <= delta
    logprob = torch.full((8,), -2.0, dtype=torch.float64)
    ratio = [math.exp(-0.9), math.exp(-0.3)] * 2 + [math.exp(-0.6), math.exp(-0.2)] * 2
    tokens = packed(logprob, [1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0], ratio, [2, 2, 2, 2])
    assert stable.fresh(tokens, tokens.advantage_N, 0.5).tolist() == [True] * 2 + [False] * 2 + [True] * 4
    loss = Reinforce(Reinforce.Config(drift=0.5))
    assert loss.per_token(tokens).tolist() == [2.0, 2.0, 0.0, 0.0, 2.0, 2.0, -2.0, -2.0]


def test_the_off_policy_mask_takes_ppos_bound_too(packed: Packed) -> None:
    tokens = packed(torch.full((2,), -2.0).double(), [-1.0, -1.0], [0.1, 0.1], [2])
    assert Grpo(Grpo.Config(drift=0.5)).per_token(tokens).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("bounds", "expected"), [((0.0, 5.0), [0.3, 1.0, 5.0]), ((0.8, 1.28), [0.8, 1.0, 1.28])])
def test_cispo_in_trls_and_in_verls_dialect(bounds: tuple[float, float], expected: list[float], packed: Packed) -> None:
    # TRL clamps to an absolute cap, verl (core_algos.py:2047) to [1 - low, 1 + high]
    logprob = torch.full((3,), -1.5, dtype=torch.float64, requires_grad=True)
    loss = Cispo(Cispo.Config(positive_ratio=bounds, negative_ratio=bounds))
    (slope,) = torch.autograd.grad(loss.per_token(packed(logprob, [-2.0] * 3, [0.3, 1.0, 7.0])).sum(), logprob)
    assert slope.tolist() == pytest.approx([2.0 * weight for weight in expected])


def test_preclip_holds_the_log_ratio_before_the_exponential(packed: Packed) -> None:
    # StableReinforce of R1-Reward, arXiv 2505.02835
    logprob = torch.full((3,), -1.5, dtype=torch.float64, requires_grad=True)
    loss = PolicyGradient(PolicyGradient.Config(preclip=1000.0))
    values = loss.per_token(packed(logprob, [-1.0] * 3, [math.exp(-50), 2.0, math.exp(50)]))
    assert values.tolist() == pytest.approx([1e-3, 2.0, 1e3])
    assert torch.autograd.grad(values.sum(), logprob)[0].tolist() == pytest.approx([0.0, 2.0, 0.0])


def test_the_exponential_stops_growing_but_keeps_its_direction() -> None:
    x = torch.tensor([-800.0, 0.0, 19.0, 21.0, 800.0], requires_grad=True)
    value = bounded_exp(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert value.tolist() == pytest.approx([0.0, 1.0, math.exp(19), math.exp(20), math.exp(20)], rel=1e-6)
    assert torch.equal(slope, value)


def test_attached_has_one_tensors_value_and_the_others_gradient() -> None:
    value, source = torch.tensor([3.0], requires_grad=True), torch.tensor([-1.0], requires_grad=True)
    made = attached(value, source)
    slopes = torch.autograd.grad(made.sum(), [value, source], allow_unused=True)
    assert made.item() == 3.0 and slopes[0] is None and slopes[1] is not None and slopes[1].item() == 1.0


def test_token_weights_scale_the_policy_term_and_nothing_else(packed: Packed) -> None:
    # OREAL's token channel: weight 0 leaves the KL
    logprob = torch.full((2,), -1.0, dtype=torch.float64)
    weight, reference = torch.tensor([3.0, 0.0]).double(), torch.full((2,), -2.0).double()
    tokens = packed(logprob, [1.0, 1.0], [1.0, 1.0], weight=weight, reference=reference)
    loss = Reinforce(Reinforce.Config.model_validate({"kl": {"coefficient": 0.5}}))
    assert loss.per_token(tokens).tolist() == pytest.approx([3.0 + 0.25, 0.25])


def test_an_entropy_bonus_spreads_the_policy(tabular: Tabular, packed: Packed) -> None:
    logits = tabular(states=1, actions=4)
    logprob = logits.log_softmax(-1)
    entropy = -(logprob.exp() * logprob).sum().expand(1)
    loss = Dapo(Dapo.Config(entropy=0.1))
    (gradient,) = torch.autograd.grad(
        loss(packed(logprob[:1], [0.0], [1.0], entropy=entropy)), logits, retain_graph=True
    )
    (up,) = torch.autograd.grad(entropy.sum(), logits)
    torch.testing.assert_close(gradient, -0.1 * up)
    with pytest.raises(ValueError, match="needs the entropies"):
        loss(packed(logprob[:1], [0.0], [1.0]))


def test_a_price_on_length_is_paid_by_every_token_of_a_long_trajectory(packed: Packed) -> None:
    loss = Reinforce(Reinforce.Config(length_cost=0.5, length=10))
    tokens = packed(torch.full((5,), -1.0).double(), [1.0] * 5, [1.0] * 5, [1, 4])
    assert loss.parts(tokens).advantage_N.tolist() == pytest.approx([0.95] + [0.8] * 4)


def test_the_value_clip_stops_a_head_that_moved_far_enough(packed: Packed) -> None:
    value = torch.tensor([1.1, 1.5, 0.5], dtype=torch.float64, requires_grad=True)
    ones = torch.ones(3, dtype=torch.float64)
    more = {"return": 3.0 * ones, "value": ones, "score_value": value}
    tokens = packed(torch.full((3,), -1.0).double(), [0.0] * 3, [1.0] * 3, **more)
    loss = Ppo().per_token(tokens)
    assert loss.tolist() == pytest.approx([0.5 * 1.9**2 / 2, 0.5 * 1.8**2 / 2, 0.5 * 2.5**2 / 2])
    assert torch.autograd.grad(loss.sum(), value)[0].tolist() == pytest.approx([0.5 * -1.9, 0.0, 0.5 * -2.5])


def test_a_value_head_without_returns_says_what_is_missing(packed: Packed) -> None:
    ones = torch.ones(1, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="gae"):
        Ppo()(packed(-ones, [1.0], [1.0], value=ones, score_value=ones))


def test_the_clip_is_where_the_options_say(packed: Packed) -> None:
    loss = Dapo(Dapo.Config(low=0.5, high=1.0))
    tokens = packed(torch.zeros(2).double(), [-1.0, 1.0], [0.4, 2.5])
    assert loss.per_token(tokens).tolist() == pytest.approx([0.5, -2.0])
