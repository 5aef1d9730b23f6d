"""Our losses against a pinned TRL: the same completions, the same policies, the same loss and gradient to 1e-6.

TRL's ``bnpo`` is a token mean over one micro-batch and has nothing to do with the paper of that name. TRL 1.16
multiplies the KL by the ratio unless told otherwise (trl#6503), so ``use_bias_correction_kl`` is always set here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

from sparring.training.losses import presets
from sparring.training.losses.correction import Correction
from sparring.training.losses.kl import Kl
from sparring.training.losses.policy import PolicyGradient

Differ = Callable[..., tuple[float, float]]
LONGEST = 12
TOLERANCE = 1e-6
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

OBJECTIVES: dict[str, tuple[dict[str, Any], type[PolicyGradient], dict[str, Any]]] = {
    # name: TRL's options, our loss, its options
    "grpo": ({"loss_type": "grpo"}, presets.Grpo, {}),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.003, "epsilon_high": 0.004},
        presets.Gspo,
        {"low": 0.003, "high": 0.004},
    ),
    "bnpo": ({"loss_type": "bnpo"}, presets.Dapo, {"high": 0.2}),
    "dr_grpo": ({"loss_type": "dr_grpo"}, presets.DrGrpo, {"length": LONGEST}),
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28}, presets.Dapo, {}),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.1},
        presets.Cispo,
        {"positive_ratio": (0, 1.1), "negative_ratio": (0, 1.1)},
    ),
}
WEIGHTED = {"vllm_importance_sampling_correction": True, "vllm_importance_sampling_mode": "token_truncate"}
CORRECTIONS: dict[str, tuple[Literal["truncate", "mask"], Literal["token", "sequence"]]] = {
    "token_truncate": ("truncate", "token"),
    "token_mask": ("mask", "token"),
    "sequence_truncate": ("truncate", "sequence"),
    "sequence_mask": ("mask", "sequence"),
}


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("tools", [True, False], ids=["tools", "plain"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_equals_trl(name: str, tools: bool, layout: str, differ: Differ) -> None:
    options, loss, mine = OBJECTIVES[name]
    found = differ(options, loss(loss.Config(old="start", **mine)), tools=tools, layout=layout)
    assert max(found) <= TOLERANCE


@pytest.mark.parametrize("corrected", [True, False], ids=["times-ratio", "without-ratio"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_kl_to_a_reference_equals_trl(name: str, corrected: bool, differ: Differ) -> None:
    options, loss, mine = OBJECTIVES[name]
    kl = Kl(coefficient=0.04, estimate="k3", ratio=corrected)
    theirs = options | {"beta": 0.04, "use_bias_correction_kl": corrected}
    assert max(differ(theirs, loss(loss.Config(old="start", kl=kl, **mine)))) <= TOLERANCE


@pytest.mark.parametrize("mode", CORRECTIONS)
@pytest.mark.parametrize("name", ["grpo", "dapo", "cispo"])
def test_importance_weights_equal_trl(name: str, mode: str, differ: Differ) -> None:
    options, loss, mine = OBJECTIVES[name]
    how, level = CORRECTIONS[mode]
    correction = (Correction(mode=how, level=level, low=0.8, high=1.3),)
    bounds = {"vllm_importance_sampling_clip_min": 0.8, "vllm_importance_sampling_clip_max": 1.3}
    theirs = options | bounds | {"vllm_importance_sampling_correction": True, "vllm_importance_sampling_mode": mode}
    assert max(differ(theirs, loss(loss.Config(old="start", correction=correction, **mine)))) <= TOLERANCE


def test_importance_weights_leave_the_kl_alone_as_in_trl(differ: Differ) -> None:
    theirs = WEIGHTED | {"loss_type": "dapo", "epsilon_high": 0.28, "vllm_importance_sampling_clip_max": 1.1}
    theirs |= {"beta": 0.04, "use_bias_correction_kl": False}
    ours = presets.Dapo.Config(
        old="start", correction=(Correction(high=1.1),), kl=Kl(coefficient=0.04, estimate="k3", ratio=False)
    )
    assert max(differ(theirs, presets.Dapo(ours))) <= TOLERANCE


@pytest.mark.parametrize("name", ["grpo", "gspo", "dapo", "cispo"])
def test_ratio_straight_to_the_engine_equals_trl(name: str, differ: Differ) -> None:
    options, loss, mine = OBJECTIVES[name]
    assert max(differ(options, loss(loss.Config(**mine)), bypass=True)) <= TOLERANCE


@pytest.mark.parametrize("name", ["grpo", "dapo"])
def test_second_bound_on_falling_tokens_equals_trl(name: str, differ: Differ) -> None:
    options, loss, mine = OBJECTIVES[name]
    found = differ(options | {"delta": 1.3}, loss(loss.Config(ceiling=1.3, **mine)), bypass=True)
    assert max(found) <= TOLERANCE


@pytest.mark.parametrize("name", ["grpo", "dapo", "cispo"])
def test_mask_of_stale_bad_trajectories_equals_trl(name: str, differ: Differ) -> None:
    options, loss, mine = OBJECTIVES[name]
    theirs = options | {"off_policy_mask_threshold": 0.05}
    assert max(differ(theirs, loss(loss.Config(old="start", drift=0.05, **mine)))) <= TOLERANCE


@pytest.mark.parametrize("name", OBJECTIVES)
def test_temperature_divides_the_logits_as_in_trl(name: str, differ: Differ) -> None:
    options, loss, mine = OBJECTIVES[name]
    assert max(differ(options | {"temperature": 0.7}, loss(loss.Config(old="start", **mine)))) <= TOLERANCE


def test_entropy_bonus_equals_trl(differ: Differ) -> None:
    theirs = {"loss_type": "dapo", "epsilon_high": 0.28, "entropy_coef": 0.01}
    assert max(differ(theirs, presets.Dapo(presets.Dapo.Config(old="start", entropy=0.01)))) <= TOLERANCE


FLAGS: dict[str, dict[str, Any]] = {
    "epsilon": {"epsilon_high": 0.2},
    "kl": {"beta": 0.04, "use_bias_correction_kl": False},
    "weights": WEIGHTED,
    "delta": {"delta": 1.3},
    "drift": {"off_policy_mask_threshold": 0.05},
    "temperature": {"temperature": 0.7},
    "entropy": {"entropy_coef": 0.01},
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_setting_only_trl_has_would_be_seen(flag: str, differ: Differ) -> None:
    theirs: dict[str, Any] = {"loss_type": "dapo", "epsilon_high": 0.28, **FLAGS[flag]}
    ours = presets.Dapo(presets.Dapo.Config(old="start"))
    assert max(differ(theirs, ours, temperature=1.0)) > 100 * TOLERANCE
