"""Distillation and replay: which tokens, what a step of them does, and what is remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sparring.envs.types import Episode
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.schema import OptimizerSpec, Scenario, TrainingSpec
from sparring.training.learner import Learner
from sparring.training.losses.presets import Dapo
from sparring.training.model import Model
from sparring.training.rows import Row
from sparring.training.trainers.base import Made, Played
from sparring.training.trainers.distillation import TeacherMatching
from sparring.training.trainers.replay import TextReplay, read_texts

Make = Callable[..., Episode]
Play = Callable[..., Played]
World = Callable[..., Scenario]


def turns(made: Made) -> list[int]:
    return [row.turn for row in made.advantages]


def test_distillation_takes_every_turn_judged_or_not(scenario: World, played: Play, episode: Make) -> None:
    step = played([episode({"verifier": 1.0}, {"verifier": 0.0}, {}, {"author": "judge", "verifier": 1.0})])
    config = TeacherMatching.Config
    assert turns(TeacherMatching(config(), scenario()).make(step)) == [1, 2, 3]
    assert turns(TeacherMatching(config(keep="wrong"), scenario()).make(step)) == [2]


def test_a_step_of_distillation_moves_towards_the_teacher(
    scenario: World, played: Play, episode: Make, new_model: Callable[..., Any]
) -> None:
    trainer = TeacherMatching(TeacherMatching.Config(), scenario())
    rows = list(trainer.make(played([episode({"ids": (10, 11, 12)}, {"ids": (13, 14)})])).rows)
    policy, teacher = Model(new_model(0)), Model(new_model(1))
    spec = TrainingSpec(optimizer=OptimizerSpec(lr=1e-3))
    learner = Learner(policy, trainer.losses, spec, teacher)
    losses = [learner.step(rows).figures["train/loss"] for _ in range(8)]
    assert losses[0] > 0.1
    assert losses[-1] < 0.7 * losses[0]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "general.txt"
    file.write_text("The first text.\n\nThe second one is\nof two lines.\n\n\n\nA third.\n")
    return file


def replay(scenario: Scenario, **options: Any) -> TextReplay:
    return TextReplay(TextReplay.Config.model_validate(options), scenario)


def test_texts_are_parted_by_blank_lines(texts: Path) -> None:
    assert read_texts(texts) == ["The first text.", "The second one is\nof two lines.", "A third."]


def test_json_lines_hold_a_text_each(tmp_path: Path) -> None:
    file = tmp_path / "general.jsonl"
    file.write_text('{"text": "one\\n\\nstill one"}\n\n{"text": "two", "more": 1}\n')
    assert read_texts(file) == ["one\n\nstill one", "two"]


@pytest.mark.parametrize("line", ["{", "[]", '{"text": 1}', '{"words": "x"}'])
def test_a_bad_line_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "general.jsonl"
    file.write_text('{"text": "one"}\n' + line)
    with pytest.raises(ScenarioError, match=r"general\.jsonl:2"):
        read_texts(file)


def test_a_missing_or_empty_file_is_said_before_the_run(scenario: World, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        replay(scenario(), path=str(tmp_path / "absent.txt"))
    (tmp_path / "empty.txt").write_text("\n\n \n")
    with pytest.raises(ScenarioError, match="holds no text"):
        replay(scenario(), path=str(tmp_path / "empty.txt"))


def test_every_token_of_the_texts_drawn_counts_alike(scenario: World, played: Play, texts: Path) -> None:
    made = replay(scenario(), path=str(texts), rows=2, length=6).make(played([], seed=3))
    assert len(made.rows) == 2 and not made.advantages
    assert {len(row.token_ids) for row in made.rows} == {6}
    assert [row.trained for row in made.rows] == [[1, 2, 3, 4, 5]] * 2
    assert sum(share for row in made.rows for share in row.coefficient_T) == pytest.approx(1.0)


def test_the_same_generator_draws_the_same_texts(scenario: World, played: Play, texts: Path) -> None:
    trainer = replay(scenario(), path=str(texts), rows=1)
    drawn = [[row.token_ids for row in trainer.make(played([], seed=seed)).rows] for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({str(one) for one in drawn}) > 1


def test_earlier_turns_are_kept_and_drawn_later(scenario: World, played: Play, episode: Make) -> None:
    trainer, state = replay(scenario(), rows=4), {}  # type: tuple[TextReplay, dict[str, Any]]
    first = trainer.make(played([episode({"verifier": 1.0}, {"verifier": 0.0})], state))
    assert not first.rows and first.figures["pool"] == 0
    state = json.loads(json.dumps(state))
    assert state["kept"][0]["from"] == [1, 0, 1]
    second = trainer.make(played([], state, step=2))
    assert [(row.role, row.token_ids, row.trained) for row in second.rows] == [
        ("solver", [1, 2, 3, 11, 20, 30], [3, 4, 5])
    ]
    (record,) = second.advantages
    assert (second.earlier, record.episode, record.turn) == ([(1, 0)], -1, 1)
    assert (record.reward, record.value, record.note) == (1.0, 1.0, "replayed")
    assert record.pull == pytest.approx(1.0)


def test_the_buffer_keeps_each_turn_with_the_same_chance(scenario: World, played: Play, episode: Make) -> None:
    trainer = replay(scenario(), buffer=2)
    counts = dict.fromkeys(range(1, 7), 0)
    for seed in range(120):
        state: dict[str, Any] = {}
        trainer.make(played([episode(*({"verifier": 1.0} for _ in range(6)))], state, seed=seed))
        assert len(state["kept"]) == 2 and state["seen"] == 6
        for item in state["kept"]:
            counts[item["from"][2]] += 1
    assert all(22 <= count <= 60 for count in counts.values())  # 40 expected; a turn always or never kept fails


def test_replay_leaves_other_losses_as_they_are(
    scenario: World, played: Play, texts: Path, row: Callable[..., Row], new_model: Callable[..., Any]
) -> None:
    trainer = replay(scenario(), path=str(texts))
    text = list(trainer.make(played([])).rows)
    spec = TrainingSpec(optimizer=OptimizerSpec(kind="sgd", lr=1.0), max_grad_norm=1e9)
    mine = [row(3, 5, 1.0), row(4, 2, -0.5)]

    def gradient(rows: list[Row]) -> torch.Tensor:
        model = new_model()
        losses = {"policy": Dapo(), "replay": trainer.losses["policy"]}
        Learner(Model(model), losses, spec).step(rows)
        return torch.cat([weight.grad.flatten() for weight in model.parameters()])

    named = [Row(one.role, one.token_ids, one.coefficient_T, loss="replay", unit=one.unit) for one in text]
    alone, beside, both = gradient(mine), gradient(named), gradient([*mine, *named])
    assert beside.norm().item() > 0.1
    assert ((alone + beside - both).norm() / both.norm()).item() < 1e-6


def test_a_kl_term_stays_silent_while_the_policy_is_the_reference(
    scenario: World, played: Play, texts: Path, model: Any
) -> None:
    trainer = replay(scenario(), path=str(texts), ce=0.0, kl=1.0)
    policy = Model(model)
    learner = Learner(policy, trainer.losses, TrainingSpec(), policy.reference())
    figures = learner.step(list(trainer.make(played([])).rows)).figures
    assert abs(figures["train/loss"]) < 1e-6
    assert figures["train/grad_norm"] < 1e-4
