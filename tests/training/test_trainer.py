"""One optimiser step: the gradient of the written formula, whatever the batching."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from sparring.scenarios.errors import TrainingStopped
from sparring.scenarios.schema import OptimizerSpec, TrainingSpec
from sparring.training.losses import ClipHigher, Reinforce
from sparring.training.pack import Row
from sparring.training.trainer import Trainer, Update, micro_batches

Rows = Callable[..., Row]
New = Callable[..., Any]


def spec(**more: Any) -> TrainingSpec:
    """Plain gradient descent at rate 1: the weights' change is minus the gradient."""
    return TrainingSpec(optimizer=OptimizerSpec(kind="sgd", lr=1.0), max_grad_norm=1e9, **more)


def gradient(model: Any, rows: Sequence[Row], loss: Any = None, **more: Any) -> tuple[torch.Tensor, Update]:
    """The flat gradient of a step's last epoch, and what the step reports; ``model`` is put back."""
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    update = Trainer(model, spec(**more), loss or ClipHigher()).step(rows)
    found = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    model.load_state_dict(before)
    return found, update


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Distance of two gradients, relative to their length."""
    return float(((one - other).norm() / other.norm()).item())


@pytest.fixture
def rows(row: Rows) -> list[Row]:
    return [row(3, 5, 1.0), row(11, 2, -0.5, role="critic"), row(2, 9, 0.3), row(6, 1, -2.0, role="critic")]


def test_batching_order_and_padding_change_nothing(model: Any, rows: list[Row]) -> None:
    whole, told = gradient(model, rows, micro_batch_tokens=100_000)
    for tokens, order in ((1, 1), (1, -1), (24, 1), (24, -1), (100_000, -1)):
        again, other = gradient(model, rows[::order], micro_batch_tokens=tokens)
        assert apart(again, whole) < 1e-6
        assert other.loss == pytest.approx(told.loss, abs=1e-6)
        assert other.entropy == pytest.approx(told.entropy, abs=1e-5)
        assert (other.tokens, other.rows) == (17, 4)


def test_a_step_equals_the_formula_written_plainly(model: Any, rows: list[Row]) -> None:
    rows = [dataclasses.replace(one, temperature=0.8) for one in rows]
    moved, told = gradient(model, rows)
    total = torch.zeros(())
    for one in rows:
        logits = model(input_ids=torch.tensor([one.token_ids])).logits[0, :-1] / one.temperature
        logprob_T = logits.log_softmax(-1).gather(1, torch.tensor(one.token_ids)[1:, None])[:, 0]
        ratio_T = (logprob_T - logprob_T.detach()).exp()
        total = total - (torch.tensor(one.coefficient_T)[1:] * torch.tensor(one.advantage_T)[1:] * ratio_T).sum()
    model.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    expected = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    assert apart(moved, expected) < 1e-6
    assert told.loss == pytest.approx(total.item(), abs=1e-6)
    assert told.grad_norm == pytest.approx(expected.norm().item(), rel=1e-5)


def test_the_end_of_turn_token_is_trained(model: Any, row: Rows) -> None:
    one = row(4, 3, 1.0)
    only_end = dataclasses.replace(one, coefficient_T=[0.0] * 6 + [1.0])
    moved, told = gradient(model, [only_end])
    assert told.tokens == 1 and one.token_ids[-1] == 260
    assert moved.norm().item() > 1e-3


def test_context_tokens_get_no_gradient(model: Any, row: Rows) -> None:
    one = row(6, 4, 1.0)
    noisy = dataclasses.replace(
        one, advantage_T=[9.0] * 6 + one.advantage_T[6:], logprob_old_T=[-5.0] * 6 + one.logprob_old_T[6:]
    )
    looked_up: list[int] = []
    model.lm_head.register_forward_hook(lambda module, seen, logits: looked_up.append(len(seen[0])))
    assert apart(gradient(model, [noisy])[0], gradient(model, [one])[0]) == 0
    assert looked_up == [4, 4]  # the vocabulary is looked at only where a trained token was drawn


def test_no_rows_leave_the_weights(model: Any) -> None:
    trainer = Trainer(model, TrainingSpec(), ClipHigher())
    before = trainer.weights_sha()
    told = trainer.step([])
    assert trainer.weights_sha() == before and (told.tokens, told.loss, told.grad_norm) == (0, 0.0, 0.0)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_is_not_applied(model: Any, row: Rows, bad: float) -> None:
    trainer = Trainer(model, TrainingSpec(), ClipHigher())
    before = trainer.weights_sha()
    with pytest.raises(TrainingStopped, match="not applied"):
        trainer.step([row(3, 3, 1.0), row(3, 3, bad)])
    assert trainer.weights_sha() == before


def test_long_gradients_are_cut_to_the_norm(new_model: New, row: Rows) -> None:
    model = new_model()
    settings = spec().model_copy(update={"max_grad_norm": 0.01})
    before = torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])
    told = Trainer(model, settings, ClipHigher()).step([row(3, 5, 1.0)])
    moved = torch.cat([weight.detach().flatten() for weight in model.parameters()]) - before
    assert told.grad_norm > 0.01 and float(moved.norm()) == pytest.approx(0.01, rel=1e-2)


def test_on_policy_the_gap_to_the_engine_is_nothing(model: Any, engine: Any) -> None:
    from sparring.agents.engine import Request
    from sparring.scenarios.schema import Sampling

    asked = [Request((1, 2, seed), Sampling(max_tokens=9, temperature=0.7), seed) for seed in range(6)]
    rows = []
    for one, done in zip(asked, engine.sample(asked), strict=True):
        zeros, n = [0.0] * 3, len(done.token_ids)
        ids = [*one.prompt_ids, *done.token_ids]
        rows.append(Row("r", ids, [*zeros, *[0.1] * n], [*zeros, *[1.0] * n], [*zeros, *done.logprobs], 0.7))
    told = gradient(model, rows)[1]
    assert told.gap < 1e-5 and told.clipped == 0.0
    hotter = [dataclasses.replace(one, temperature=1.0) for one in rows]
    assert gradient(model, hotter)[1].gap > 0.01


def test_a_gap_beyond_the_clip_is_counted(model: Any, row: Rows) -> None:
    told = gradient(model, [row(3, 4, 1.0, old=-50.0), row(3, 4, 1.0)])[1]
    assert told.clipped == pytest.approx(0.5)


def test_entropy_is_per_role_and_of_the_first_epoch(model: Any, rows: list[Row]) -> None:
    once = gradient(model, rows, micro_batch_tokens=1)[1]
    twice = gradient(model, rows, micro_batch_tokens=1, epochs=3)[1]
    assert set(once.entropy) == {"solver", "critic"}
    assert twice.entropy == pytest.approx(once.entropy) and twice.tokens == once.tokens


def test_epochs_repeat_the_update(model: Any, rows: list[Row]) -> None:
    second = gradient(model, rows, epochs=2, loss=Reinforce())[0]
    assert apart(second, gradient(model, rows, loss=Reinforce())[0]) > 0.01


def test_the_pace_warms_up(model: Any) -> None:
    trainer = Trainer(model, TrainingSpec(optimizer=OptimizerSpec(lr=1.0, warmup=4)), ClipHigher())
    assert [trainer.step([]).lr for _ in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_micro_batches_hold_each_row_once_within_their_size(row: Rows) -> None:
    rows = [row(2, 1 + at % 13, 1.0) for at in range(40)]
    batches = list(micro_batches(rows, 30))
    assert sorted(map(id, rows)) == sorted(id(one) for batch in batches for one in batch)
    assert all(len(batch) * max(len(one.token_ids) for one in batch) <= 30 for batch in batches)
    assert [len(batch) for batch in micro_batches([row(50, 9, 1.0), row(1, 1, 1.0)], 30)] == [1, 1]
