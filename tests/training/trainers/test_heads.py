"""Heads: where they are read, what they are told, and that they learn it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from sparring.envs.types import Episode
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.schema import OptimizerSpec, Scenario, TrainingSpec
from sparring.training.batch import collate
from sparring.training.learner import Learner, Update
from sparring.training.model import Model
from sparring.training.rows import Row
from sparring.training.trainers.base import Made, Played
from sparring.training.trainers.reward_heads import ImplicitProcess, ProcessModel, RewardModel, ValueModel

Make = Callable[..., Episode]
Play = Callable[..., Played]
World = Callable[..., Scenario]


def marks(row: Row, stream: str = "label") -> dict[int, float]:
    """Positions a head is read at, with what it is told there."""
    return {at: row.streams[stream][at] for at in row.trained}


def made(kind: Any, scenario: Scenario, played: Played, **options: Any) -> Made:
    found = kind(kind.Config.model_validate(options), scenario).make(played)
    assert isinstance(found, Made)
    return found


@pytest.fixture
def two(episode: Make) -> Episode:
    """A right answer of three tokens, a wrong one of two."""
    return episode({"verifier": 1.0, "ids": (10, 11, 20)}, {"verifier": 0.0, "ids": (12, 20)})


def test_an_outcome_is_read_once_the_last_token_was(scenario: World, played: Play, two: Episode) -> None:
    rows = made(RewardModel, scenario(), played([two])).rows
    assert [marks(row) for row in rows] == [{6: 1.0}, {5: 0.0}]  # the place after; the state there has read it all
    assert [row.token_ids for row in rows] == [[1, 2, 3, 10, 11, 20, 20], [1, 2, 3, 12, 20, 20]]
    assert [sum(row.coefficient_T) for row in rows] == pytest.approx([0.5, 0.5])


def test_the_head_has_read_a_turns_last_token_and_nothing_after_it(
    scenario: World, played: Play, two: Episode, model: Any
) -> None:
    row = made(RewardModel, scenario(), played([two])).rows[0]
    policy = Model(model, heads=("reward",))
    weight: Any = policy.heads["reward"].weight
    torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))

    def score(*end: int) -> float:
        changed = Row(row.role, [*row.token_ids[:5], *end], row.coefficient_T, row.streams)
        with torch.no_grad():
            return float(policy.score(collate([changed], torch.device("cpu")), heads=("reward",)).heads["reward"])

    assert score(20, 99) == pytest.approx(score(20, 20), abs=1e-6)
    assert abs(score(21, 20) - score(20, 20)) > 1e-3


def test_pairs_of_rewards_are_read_at_both_ends(scenario: World, played: Play, two: Episode) -> None:
    found = made(RewardModel, scenario(), played([two]), form="pairs")
    assert [marks(row, "advantage") for row in found.rows] == [{6: 1.0}, {5: -1.0}]
    assert {row.unit for row in found.rows} == {0}
    assert [(row.turn, row.value, row.pull) for row in found.advantages] == [(1, 1.0, 0.5), (2, -1.0, -0.5)]


def test_a_value_stands_before_every_token(scenario: World, played: Play, two: Episode) -> None:
    rows = made(ValueModel, scenario(), played([two])).rows
    assert [marks(row, "return") for row in rows] == [{3: 1.0, 4: 1.0, 5: 1.0}, {3: 0.0, 4: 0.0}]


def test_a_steps_label_is_its_own_or_the_mean_of_what_came_of_it(scenario: World, played: Play, episode: Make) -> None:
    step = episode(
        {"ids": (10,)},
        {"parent": 1, "follows": 1, "ids": (11,), "context": (7,), "verifier": 1.0},
        {"parent": 1, "follows": 1, "ids": (12,), "context": (7,), "verifier": 0.0},
        {"ids": (13,)},
    )
    found = made(ProcessModel, scenario(), played([step]))
    assert {row.turn: row.value for row in found.advantages} == {1: 0.5, 2: 1.0, 3: 0.0}  # nothing came of turn 4
    assert [marks(row) for row in found.rows] == [{4: 0.5, 6: 1.0}, {6: 0.0}]


def test_stored_process_labels_are_used_where_named(scenario: World, played: Play, episode: Make) -> None:
    step = played([episode({"verifier": 1.0, "process": 0.25}, {"verifier": 1.0, "process": 7.0})])
    found = made(ProcessModel, scenario(), step, labels="process")
    assert [row.value for row in found.advantages] == [0.25]
    assert found.figures["not_a_chance"] == 1


def test_the_mean_form_has_one_row_per_turn(scenario: World, played: Play, episode: Make) -> None:
    step = episode(
        {"ids": (10, 11), "verifier": 0.0},
        {"parent": 1, "follows": 1, "ids": (12, 13), "context": (7,), "verifier": 1.0},
    )
    rows = made(ProcessModel, scenario(), played([step]), at="mean").rows
    assert [marks(row) for row in rows] == [{4: 0.0, 5: 0.0}, {7: 1.0, 8: 1.0}]


def test_the_implicit_reward_trains_an_adapter_of_its_own(scenario: World, played: Play, two: Episode) -> None:
    with pytest.raises(ScenarioError, match="lora"):
        made(ImplicitProcess, scenario(), played([two]))
    world = scenario(policy={"lora": {"rank": 2}})
    found = made(ImplicitProcess, world, played([two]))
    assert {row.adapter for row in found.rows} == {"implicit_reward"}
    assert [marks(row) for row in found.rows] == [{3: 1.0, 4: 1.0, 5: 1.0}, {3: 0.0, 4: 0.0}]


def learnt(model: Model, loss: Any, rows: Sequence[Row], steps: int = 12) -> list[Update]:
    spec = TrainingSpec(optimizer=OptimizerSpec(lr=3e-3), max_grad_norm=1.0)
    learner = Learner(model, {"policy": loss}, spec)
    return [learner.step(list(rows)) for _ in range(steps)]


@pytest.fixture
def classes(episode: Make) -> Episode:
    """Right answers end in one token, wrong ones in another; only the last token tells."""
    return episode(
        *({"verifier": float(at % 2), "ids": (30 + at, 50, 60 + at % 2), "context": (1, 2, at)} for at in range(12))
    )


@pytest.mark.parametrize("kind", [RewardModel, ProcessModel])
def test_a_head_tells_two_classes_apart(kind: Any, scenario: World, played: Play, classes: Episode, model: Any) -> None:
    trainer = kind(kind.Config(), scenario())
    loss = trainer.losses["policy"]
    name = next(iter(loss.needs)).removeprefix("score:")
    policy, rows = Model(model, heads=(name,)), trainer.make(played([classes])).rows
    learnt(policy, loss, rows)
    with torch.no_grad():
        score_N = policy.score(collate(rows, torch.device("cpu")), heads=(name,)).heads[name]
    label_N = torch.tensor([label for row in rows for label in marks(row).values()])
    assert ((score_N > 0) == (label_N > 0.5)).float().mean().item() == 1.0


def test_a_value_head_learns_the_returns(scenario: World, played: Play, classes: Episode, model: Any) -> None:
    trainer = ValueModel(ValueModel.Config(), scenario())
    rows = trainer.make(played([classes])).rows
    told = learnt(Model(model, heads=("value",)), trainer.losses["policy"], rows)
    losses = [update.figures["train/loss"] for update in told]
    assert losses[0] == pytest.approx(0.25)  # heads start at 0; half of the returns are 1
    assert losses[-1] < 0.1
