"""Where weights come from, in which type they are held, and that 16 bits lose nothing but their own rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sparring.scenarios.errors import EngineError
from sparring.scenarios.schema import PolicySpec
from sparring.training.batch import collate
from sparring.training.model import Model
from sparring.training.policy import load_policy, locate, weight_type
from sparring.training.precision import Masters
from sparring.training.rows import Row

CPU = torch.device("cpu")
Rows = Callable[..., Row]


@pytest.mark.parametrize(("name", "device", "expected"), [
    ("auto", "cpu", torch.float32), ("auto", "cuda", torch.bfloat16),
    ("float16", "cpu", torch.float16), ("bfloat16", "cpu", torch.bfloat16), ("float32", "cuda", torch.float32),
])  # fmt: skip
def test_the_weights_type_follows_the_scenario_and_the_device(name: str, device: str, expected: torch.dtype) -> None:
    assert weight_type(name, device) is expected


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_weights_are_loaded_in_their_type(folder: Path, name: Any) -> None:
    policy = load_policy(PolicySpec(model=str(folder), dtype=name), folder)
    assert {weight.dtype for weight in policy.model.parameters()} == {getattr(torch, name)}


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no config\.json"):
        locate("./nothing", tmp_path)
    with pytest.raises(EngineError, match="the built-in model is"):
        locate("builtin:large", tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EngineError, match="is not JSON"):
        locate(str(tmp_path), tmp_path)


def test_an_adapter_without_lora_is_refused(folder: Path) -> None:
    with pytest.raises(EngineError, match=r"critic.*policy\.lora"):
        load_policy(PolicySpec(model=str(folder)), folder, adapters=["critic"])


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_sixteen_bit_weights_are_updated_in_thirty_two(model: Any, row: Rows, name: str) -> None:
    """Steps too small for the 16-bit weights to show add up in their masters."""
    policy = Model(model.to(getattr(torch, name)))
    masters = policy.parameters()
    assert all(one.dtype == torch.float32 for one in masters)
    start = [weight.detach().clone() for weight in policy.weights()]
    optimizer = torch.optim.SGD(masters, lr=1e-6)
    for _ in range(3):
        optimizer.zero_grad()
        policy.backward(policy.score(collate([row(4, 6, 1.0)], CPU)).logprob_N.sum())
        assert all(weight.grad is None for weight in policy.weights())
        optimizer.step()
        policy.settle()
    moved = max(float((one - old.float()).detach().abs().max()) for one, old in zip(masters, start, strict=True))
    assert moved > 0
    for weight, one in zip(policy.weights(), masters, strict=True):
        assert torch.equal(weight, one.to(weight.dtype))


@pytest.mark.parametrize(("name", "close"), [("bfloat16", 0.15), ("float16", 0.02)])
def test_sixteen_bit_gradients_are_near_the_exact_one(
    new_model: Callable[..., Any], row: Rows, name: str, close: float
) -> None:
    flat = []
    for dtype in (torch.float32, getattr(torch, name)):
        policy = Model(new_model().to(dtype))
        masters = policy.parameters()
        for one in (row(4, 6, 1.0), row(3, 9, 1.0)):
            found = policy.score(collate([one], CPU))
            assert found.logprob_N.dtype == found.entropy_N.dtype == torch.float32
            policy.backward(found.logprob_N.sum())
        flat.append(torch.cat([one.grad.flatten() for one in masters if one.grad is not None]))
    assert float((flat[1] - flat[0]).norm() / flat[0].norm()) < close


def test_a_float16_overflow_is_taken_again_at_a_smaller_scale() -> None:
    weight = torch.full((4,), 2.0, dtype=torch.float16, requires_grad=True)
    head = torch.ones(4, requires_grad=True)  # 32-bit weights beside it are treated alike
    masters = Masters([weight, head])
    before = masters.scale
    for _ in range(2):
        masters.backward((weight * 30.0).float().mul(head).sum())
    assert masters.scale < before and masters.masters[1] is head
    assert [one.grad.tolist() for one in masters.masters if one.grad is not None] == [[60.0] * 4, [120.0] * 4]


def test_a_gradient_no_scale_can_hold_is_an_error() -> None:
    weight = torch.ones(2, dtype=torch.float16, requires_grad=True)
    with pytest.raises(EngineError, match="bfloat16"):
        Masters([weight]).backward((weight.float() * float("inf")).sum())


def test_float32_weights_are_their_own_masters(model: Any) -> None:
    policy = Model(model)
    assert all(one is weight for one, weight in zip(policy.parameters(), policy.weights(), strict=True))


def test_an_unknown_layer_kind_cannot_recompute(folder: Path) -> None:
    from transformers import MptConfig, MptForCausalLM

    from sparring.training.policy import checkpoint_layers

    other = MptForCausalLM(MptConfig(d_model=16, n_heads=2, n_layers=1, vocab_size=50))
    other.supports_gradient_checkpointing = False
    with pytest.raises(EngineError, match="cannot recompute"):
        checkpoint_layers(other)
