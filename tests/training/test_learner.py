"""One optimiser step: the gradient of the written formula, whatever the batching."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from sparring.scenarios.errors import TrainingStopped
from sparring.scenarios.schema import OptimizerSpec, TrainingSpec
from sparring.training.batch import micro_batches
from sparring.training.learner import Learner, Update
from sparring.training.losses.presets import Dapo, Reinforce
from sparring.training.model import Model
from sparring.training.rows import Row

Rows = Callable[..., Row]
New = Callable[..., Any]


def spec(**more: Any) -> TrainingSpec:
    """Plain gradient descent at rate 1: the weights' change is minus the gradient."""
    return TrainingSpec(optimizer=OptimizerSpec(kind="sgd", lr=1.0), max_grad_norm=1e9, **more)


def learner(model: Any, settings: TrainingSpec, loss: Any = None) -> Learner:
    return Learner(Model(model), {"policy": loss or Dapo()}, settings)


def gradient(model: Any, rows: Sequence[Row], loss: Any = None, **more: Any) -> tuple[torch.Tensor, Update]:
    """The flat gradient of a step's last epoch, and what the step reports; ``model`` is put back."""
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    update = learner(model, spec(**more), loss).step(rows)
    found = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    model.load_state_dict(before)
    return found, update


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Distance of two gradients, relative to their length."""
    return float(((one - other).norm() / other.norm()).item())


def entropies(update: Update) -> dict[str, float]:
    return {name: value for name, value in update.figures.items() if name.startswith("entropy/")}


@pytest.fixture
def rows(row: Rows) -> list[Row]:
    return [row(3, 5, 1.0), row(11, 2, -0.5, role="critic"), row(2, 9, 0.3), row(6, 1, -2.0, role="critic")]


def test_batching_order_and_padding_change_nothing(model: Any, rows: list[Row]) -> None:
    whole, told = gradient(model, rows, micro_batch_tokens=100_000)
    for tokens, order in ((1, 1), (1, -1), (24, 1), (24, -1), (100_000, -1)):
        again, other = gradient(model, rows[::order], micro_batch_tokens=tokens)
        assert apart(again, whole) < 1e-6
        assert other.figures["train/loss"] == pytest.approx(told.figures["train/loss"], abs=1e-6)
        assert entropies(other) == pytest.approx(entropies(told), abs=1e-5)
        assert (other.figures["train/tokens"], other.figures["train/rows"]) == (17, 4)


def test_a_step_equals_the_formula_written_plainly(model: Any, rows: list[Row]) -> None:
    rows = [dataclasses.replace(one, temperature=0.8) for one in rows]
    moved, told = gradient(model, rows)
    total = torch.zeros(())
    for one in rows:
        logits = model(input_ids=torch.tensor([one.token_ids])).logits[0, :-1] / one.temperature
        logprob_T = logits.log_softmax(-1).gather(1, torch.tensor(one.token_ids)[1:, None])[:, 0]
        ratio_T = (logprob_T - logprob_T.detach()).exp()
        pull_T = torch.tensor(one.coefficient_T)[1:] * torch.tensor(one.streams["advantage"])[1:]
        total = total - (pull_T * ratio_T).sum()
    model.zero_grad()
    total.backward()
    expected = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    assert apart(moved, expected) < 1e-6
    assert told.figures["train/loss"] == pytest.approx(total.item(), abs=1e-6)
    assert told.figures["train/grad_norm"] == pytest.approx(expected.norm().item(), rel=1e-5)


def test_the_end_of_turn_token_is_trained(model: Any, row: Rows) -> None:
    one = row(4, 3, 1.0)
    only_end = dataclasses.replace(one, coefficient_T=[0.0] * 6 + [1.0])
    moved, told = gradient(model, [only_end])
    assert told.figures["train/tokens"] == 1 and one.token_ids[-1] == 260
    assert moved.norm().item() > 1e-3


def test_context_tokens_get_no_gradient(model: Any, row: Rows) -> None:
    one = row(6, 4, 1.0)
    noisy = one.having(
        advantage=[9.0] * 6 + one.streams["advantage"][6:], logprob_old=[-5.0] * 6 + one.streams["logprob_old"][6:]
    )
    looked_up: list[int] = []
    model.lm_head.register_forward_hook(lambda module, seen, logits: looked_up.append(len(seen[0])))
    assert apart(gradient(model, [noisy])[0], gradient(model, [one])[0]) == 0
    assert [n for n in looked_up if n > 1] == [4, 4]  # the vocabulary is looked at only where a trained token was drawn


def test_no_rows_leave_the_weights(model: Any) -> None:
    trainer = learner(model, TrainingSpec())
    before = trainer.weights_sha()
    told = trainer.step([])
    assert trainer.weights_sha() == before and told.figures["train/tokens"] == 0


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_is_not_applied(model: Any, row: Rows, bad: float) -> None:
    trainer = learner(model, TrainingSpec())
    before = trainer.weights_sha()
    with pytest.raises(TrainingStopped, match="not applied"):
        trainer.step([row(3, 3, 1.0), row(3, 3, bad)])
    assert trainer.weights_sha() == before


def test_long_gradients_are_cut_to_the_norm(new_model: New, row: Rows) -> None:
    model = new_model()
    settings = spec().model_copy(update={"max_grad_norm": 0.01})
    before = torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])
    told = learner(model, settings).step([row(3, 5, 1.0)])
    moved = torch.cat([weight.detach().flatten() for weight in model.parameters()]) - before
    assert told.figures["train/grad_norm"] > 0.01 and float(moved.norm()) == pytest.approx(0.01, rel=1e-2)


def test_on_policy_the_gap_to_the_engine_is_nothing(model: Any, engine: Any) -> None:
    from sparring.agents.engine import Request
    from sparring.scenarios.schema import Sampling

    asked = [Request((1, 2, seed), Sampling(max_tokens=9, temperature=0.7), seed) for seed in range(6)]
    rows = []
    for one, done in zip(asked, engine.sample(asked), strict=True):
        zeros, n = [0.0] * 3, len(done.token_ids)
        ids = [*one.prompt_ids, *done.token_ids]
        streams = {"advantage": [*zeros, *[1.0] * n], "logprob_old": [*zeros, *done.logprobs]}
        rows.append(Row("r", ids, [*zeros, *[0.1] * n], streams, 0.7))
    told = gradient(model, rows)[1]
    assert told.figures["train/gap"] < 1e-5 and told.figures["train/clipped"] == 0.0
    hotter = [dataclasses.replace(one, temperature=1.0) for one in rows]
    assert gradient(model, hotter)[1].figures["train/gap"] > 0.01


def test_a_gap_beyond_the_clip_is_counted(model: Any, row: Rows) -> None:
    told = gradient(model, [row(3, 4, 1.0, old=-50.0), row(3, 4, 1.0)])[1]
    assert told.figures["train/clipped"] == pytest.approx(0.5)


def test_entropy_is_per_role_and_of_the_first_epoch(model: Any, rows: list[Row]) -> None:
    once = gradient(model, rows, micro_batch_tokens=1)[1]
    twice = gradient(model, rows, micro_batch_tokens=1, epochs=3)[1]
    assert set(entropies(once)) == {"entropy/solver", "entropy/critic"}
    assert entropies(twice) == pytest.approx(entropies(once))
    assert twice.figures["train/tokens"] == once.figures["train/tokens"]


def test_epochs_repeat_the_update(model: Any, rows: list[Row]) -> None:
    second = gradient(model, rows, epochs=2, loss=Reinforce())[0]
    assert apart(second, gradient(model, rows, loss=Reinforce())[0]) > 0.01


def test_the_pace_warms_up(model: Any) -> None:
    trainer = learner(model, TrainingSpec(optimizer=OptimizerSpec(lr=1.0, warmup=4)))
    assert [trainer.step([]).figures["train/lr"] for _ in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_micro_batches_hold_each_row_once_within_their_size(row: Rows) -> None:
    rows = [row(2, 1 + at % 13, 1.0) for at in range(40)]
    batches = list(micro_batches(rows, 30))
    assert sorted(map(id, rows)) == sorted(id(one) for batch in batches for one in batch)
    assert all(len(batch) * max(len(one.token_ids) for one in batch) <= 30 for batch in batches)
    assert [len(batch) for batch in micro_batches([row(50, 9, 1.0), row(1, 1, 1.0)], 30)] == [1, 1]
