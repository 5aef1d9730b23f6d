"""A beginning that rows have in common is read once, and nothing else changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparring.training import prefix
from sparring.training.batch import collate
from sparring.training.model import Model
from sparring.training.rows import Row

CPU = torch.device("cpu")
tokens = st.integers(0, 249)
prompts = st.lists(st.lists(tokens, min_size=1, max_size=20), min_size=1, max_size=3)


def conversation(prompt: Sequence[int], said: Sequence[int]) -> Row:
    return Row("solver", [*prompt, *said], [0.0] * len(prompt) + [1.0] * len(said))


@pytest.fixture(scope="module")
def shared_model() -> Model:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    small: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 16}
    config = Qwen3Config(vocab_size=272, num_attention_heads=2, num_key_value_heads=1, **small)
    return Model(Qwen3ForCausalLM(config).eval())


def read(model: Model, rows: Sequence[Row], shared: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """States and the gradient of their weighted sum."""
    model.probe = dataclasses.replace(model.probe, shared=shared)
    model.module.zero_grad()
    states = model.hidden(collate(rows, CPU))
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).mean().backward()
    return states.detach(), [
        weight.grad.clone() for weight in model.module.model.parameters() if weight.grad is not None
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompts, st.lists(st.lists(tokens, min_size=1, max_size=8), min_size=2, max_size=6), st.randoms())
def test_sharing_changes_neither_states_nor_gradients(
    shared_model: Model, starts: list[list[int]], said: list[list[int]], order: Any
) -> None:
    rows = [conversation(start, words) for start in starts for words in said]
    order.shuffle(rows)
    (plain, by_plain), (shared, by_shared) = read(shared_model, rows, False), read(shared_model, rows, True)
    assert torch.allclose(plain, shared, atol=1e-5)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(by_plain, by_shared, strict=True))


def test_siblings_prompt_is_read_once() -> None:
    rows = [conversation(range(40), [at, at + 1]) for at in range(50, 58)]
    plan = prefix.plan(collate(rows, CPU))
    assert plan is not None
    assert (plan.beginning_PK.shape, plan.rest_BS.shape) == ((1, 40), (8, 1))


def test_families_follow_prompts_not_the_template_they_share() -> None:
    template = list(range(10))
    rows = [conversation([*template, *[task] * 20], [at]) for task in (100, 101) for at in range(200, 204)]
    assert sorted(family.shared for family in prefix.families(rows)) == [30, 30]


def test_rows_with_nothing_in_common_are_read_plainly() -> None:
    rows = [conversation([at], [1, 2, 3]) for at in range(4)]
    assert prefix.plan(collate(rows, CPU)) is None
