"""Fine-tuning: which turns are taken, how much each weighs, and that a step makes them likelier."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sparring.envs.types import Ending, Episode, Score
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.schema import OptimizerSpec, Scenario, TrainingSpec
from sparring.training.learner import Learner
from sparring.training.losses.policy import PolicyGradient
from sparring.training.model import Model
from sparring.training.trainers.base import Made, Played
from sparring.training.trainers.fine_tuning import FineTuning

Make = Callable[..., Episode]
Play = Callable[..., Played]
World = Callable[..., Scenario]


def taught(scenario: Scenario, played: Played, **options: Any) -> Made:
    return FineTuning(FineTuning.Config.model_validate(options), scenario).make(played)


def turns(made: Made) -> list[int]:
    return [row.turn for row in made.advantages]


@pytest.fixture
def four(episode: Make) -> Episode:
    """Right, wrong, right in other words, half right."""
    return episode({"verifier": 1.0}, {"verifier": 0.0}, {"verifier": 1.0}, {"verifier": 0.5})


@pytest.mark.parametrize(
    ("keep", "expected"), [("right", [1, 3]), ("wrong", [2, 4]), ("best", [1]), ("all", [1, 2, 3, 4])]
)
def test_turns_are_kept_by_outcome_or_rank(
    keep: str, expected: list[int], scenario: World, played: Play, four: Episode
) -> None:
    assert turns(taught(scenario(), played([four]), keep=keep)) == expected


def test_equal_answers_to_one_prompt_are_taken_once(scenario: World, played: Play, episode: Make) -> None:
    same, asked = {"verifier": 1.0, "said": "12"}, {"verifier": 1.0, "said": "12", "context": (9, 9)}
    step = played([episode(same, same, asked)])
    assert turns(taught(scenario(), step)) == [1, 3]
    assert turns(taught(scenario(), step, unique=False)) == [1, 2, 3]


def test_best_needs_the_threshold_too(scenario: World, played: Play, episode: Make) -> None:
    step = played([episode({"verifier": 0.25}, {"verifier": 0.0})])
    assert turns(taught(scenario(), step, keep="best")) == [1]
    assert turns(taught(scenario(), step, keep="best", threshold=0.5)) == []


def test_an_improved_turn_beats_the_one_before_it_in_its_conversation(
    scenario: World, played: Play, episode: Make
) -> None:
    step = episode(
        {"verifier": 0.0},
        {"verifier": 1.0, "follows": 1, "parent": 1, "node": "revise", "context": (4,)},
        {"verifier": 1.0},
        {"verifier": 1.0, "follows": 3, "parent": 3, "node": "revise", "context": (4,)},
    )
    assert turns(taught(scenario(), played([step]), keep="improved")) == [2]


def test_a_demonstration_is_told_from_a_sample(scenario: World, played: Play, episode: Make) -> None:
    made = taught(
        scenario(), played([episode({"verifier": 1.0}, {"verifier": 1.0, "engine": "demonstration"})]),
        keep="demonstrations",
    )  # fmt: skip
    assert [(row.turn, row.note) for row in made.advantages] == [(2, "demonstration")]


def test_rewards_as_weights_scale_the_coefficients(scenario: World, played: Play, four: Episode) -> None:
    made = taught(scenario(), played([four]), keep="all", weigh="reward")
    assert turns(made) == [1, 3, 4]  # a reward of 0 weighs nothing
    sums = [sum(row.coefficient_T) for row in made.rows]
    assert sums == pytest.approx([1 / 3, 1 / 3, 0.5 / 3])
    assert [row.pull for row in made.advantages] == pytest.approx(sums)


def test_utility_is_highest_where_half_of_what_follows_is_right(scenario: World, played: Play, episode: Make) -> None:
    def proposal(*right: float) -> Episode:
        below = [{"verifier": value, "parent": 1} for value in right]
        return episode({"author": "critic", "verdict": 1.0}, *below)

    made = taught(
        scenario(), played([proposal(1, 0), proposal(1, 1), proposal(1, 1, 1, 0)]),
        keep="all", weigh="utility", roles=["critic"], unique=False,
    )  # fmt: skip
    expected = [0.5 * math.exp(-((s - 0.5) ** 2) / 0.08) for s in (0.5, 1.0, 0.75)]
    assert [row.weight for row in made.advantages] == pytest.approx(expected)


def test_utility_falls_back_on_the_turns_own_group(scenario: World, played: Play, four: Episode) -> None:
    made = taught(scenario(), played([four]), weigh="utility")
    assert [row.weight for row in made.advantages] == pytest.approx([1.0, 1.0])  # two of four are right


def test_help_shown_while_sampling_is_not_trained_with(scenario: World, played: Play, episode: Make) -> None:
    helped = {"verifier": 1.0, "context": (1, 2, 3, 99, 98), "train_context": (1, 2, 3)}
    (row,) = taught(scenario(), played([episode(helped)])).rows
    assert row.token_ids == [1, 2, 3, 11, 20, 30]
    assert row.trained == [3, 4, 5]


@pytest.mark.parametrize("options", [{"roles": ["solvr"]}, {"roles": ["judge"]}, {"nodes": ["solv"]}])
def test_names_the_scenario_lacks_are_refused(options: dict[str, Any], scenario: World) -> None:
    with pytest.raises(ScenarioError, match=next(iter(options.values()))[0]):
        FineTuning(FineTuning.Config.model_validate(options), scenario())


def test_broken_episodes_and_invalid_scores_teach_nothing(scenario: World, played: Play, episode: Make) -> None:
    broke = episode({"verifier": 1.0}, ending=Ending.BROKE)
    crashed = episode({"verifier": Score.invalid("verifier", "test", "crashed")}, index=1)
    made = taught(scenario(), played([broke, crashed]), keep="all")
    assert not made.rows and made.figures["turns"] == 0


def stepped(model: Any, made: Made, loss: Any) -> torch.Tensor:
    """The gradient of one step, flat; the weights have moved."""
    spec = TrainingSpec(optimizer=OptimizerSpec(kind="sgd", lr=0.05), max_grad_norm=1e9)
    Learner(Model(model), {"policy": loss}, spec).step(list(made.rows))
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


def test_a_right_answer_becomes_likelier(
    scenario: World, played: Play, four: Episode, model: Any, fresh: Callable[..., torch.Tensor]
) -> None:
    made = taught(scenario(), played([four]))
    ids = list(made.rows[0].token_ids)

    def logprob() -> float:
        return float(sum(fresh(model, ids)[at, ids[at]] for at in made.rows[0].trained))

    before = logprob()
    stepped(model, made, FineTuning(FineTuning.Config(), scenario()).losses["policy"])
    assert logprob() > before + 0.01


def test_the_step_is_the_policy_gradients_with_advantage_one(
    scenario: World, played: Play, four: Episode, new_model: Callable[..., Any]
) -> None:
    made = taught(scenario(), played([four]))
    ours = stepped(new_model(), made, FineTuning(FineTuning.Config(), scenario()).losses["policy"])
    theirs = stepped(new_model(), made, PolicyGradient(PolicyGradient.Config(denominator="now")))
    assert ours.norm().item() > 0
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_turns_wait_until_so_many_are_there(scenario: World, played: Play, episode: Make) -> None:
    trainer = FineTuning(FineTuning.Config(at=3), scenario())
    state: dict[str, Any] = {}
    told = []
    for step in (1, 2, 3):
        made = trainer.make(played([episode({"verifier": 1.0}, {"verifier": 1.0, "ids": (9,)})], state, step=step))
        told.append((len(made.rows), made.figures["waiting"], [(row.episode, row.note) for row in made.advantages]))
        assert [row.weight > 0 for row in made.advantages] == [row.note != "waits" for row in made.advantages]
        assert sum(row.pull for row in made.advantages) == pytest.approx(1.0 if made.rows else 0.0)
        state = json.loads(json.dumps(state))
    assert told == [
        (0, 2, [(0, "waits")] * 2),
        (3, 1, [(0, ""), (0, "waits"), (-1, "waited"), (-1, "waited")]),  # what is left over waits on
        (3, 0, [(0, ""), (0, ""), (-1, "waited")]),
    ]
    assert made.earlier == [(2, 0)] and made.groups[-1].note == "waited since step 2"


def test_turns_that_waited_are_trained_as_if_they_were_of_this_step(
    scenario: World, played: Play, four: Episode
) -> None:
    step = played([four])
    waited, once = (taught(scenario(), step, keep="all", weigh="reward", at=at) for at in (3, 0))
    assert [(row.token_ids, row.coefficient_T) for row in waited.rows] == [
        (row.token_ids, row.coefficient_T) for row in once.rows
    ]


def test_only_tasks_nobody_solved_are_demonstrated(scenario: World, played: Play, episode: Make) -> None:
    failed = episode({"verifier": 0.0, "task": "a"}, {"verifier": 0.0, "task": "a"})
    solved = episode({"verifier": 0.0, "task": "a"}, {"verifier": 1.0, "task": "a"}, index=1)
    stages = [{"kind": "demonstrations", "role": "solver", "template": "<answer>{{ reference }}</answer>"}]
    config = FineTuning.Config.model_validate({"keep": "demonstrations", "stages": stages})
    trainer, step = FineTuning(config, scenario()), played([failed, solved])
    made = trainer.make(played(trainer.offer(step.episodes, step.renderer)))
    (row,) = made.rows
    assert step.renderer.decode([row.token_ids[at] for at in row.trained]) == "<answer>12</answer>"
    assert [(row.episode, row.turn, row.note) for row in made.advantages] == [(0, 3, "demonstration")]
