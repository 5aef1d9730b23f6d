"""What every trainer part keeps to, whatever it teaches."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparring.envs.types import Ending, Episode, Score
from sparring.scenarios.registry import trainers
from sparring.scenarios.schema import Scenario
from sparring.training.losses.base import Loss
from sparring.training.trainers.base import Made, Played, TrainerPart
from sparring.training.trainers.distillation import TeacherMatching
from sparring.training.trainers.fine_tuning import FineTuning
from sparring.training.trainers.policy_gradient import PolicyGradient
from sparring.training.trainers.preference import PreferencePairs
from sparring.training.trainers.replay import TextReplay
from sparring.training.trainers.reward_heads import ImplicitProcess, ProcessModel, RewardModel, ValueModel

Make = Callable[..., Episode]
Play = Callable[..., Played]
World = Callable[..., Scenario]


class Tried(NamedTuple):
    """A trainer with options; ``after``: its marks stand one token later (heads that judge what they have read)."""

    part: Any
    options: dict[str, Any] = {}  # noqa: RUF012 - a default that nobody writes to
    after: int = 0


KNOWN = {
    "rl": PolicyGradient,
    "sft": FineTuning,
    "dpo": PreferencePairs,
    "reward": RewardModel,
    "value": ValueModel,
    "process": ProcessModel,
    "implicit_reward": ImplicitProcess,
    "distill": TeacherMatching,
    "replay": TextReplay,
}
TRIED = {
    "rl": Tried(PolicyGradient),
    "sft": Tried(FineTuning),
    "sft by reward": Tried(FineTuning, {"keep": "all", "weigh": "reward", "unique": False}),
    "dpo": Tried(PreferencePairs),
    "dpo all": Tried(PreferencePairs, {"pairs": "all", "form": "ipo"}),
    "dpo steps": Tried(PreferencePairs, {"level": "step", "pairs": "closest"}),
    "reward": Tried(RewardModel, after=1),
    "reward pairs": Tried(RewardModel, {"form": "pairs"}, after=1),
    "value": Tried(ValueModel),
    "process": Tried(ProcessModel, after=1),
    "process tokens": Tried(ProcessModel, {"at": "tokens"}, after=1),
    "process mean": Tried(ProcessModel, {"at": "mean"}, after=1),
    "implicit_reward": Tried(ImplicitProcess),
    "distill": Tried(TeacherMatching),
    "distill wrong": Tried(TeacherMatching, {"keep": "wrong"}),
}
WORLD = {"policy": {"lora": {"rank": 2}}, "training": {"advantage": "mean"}}
WHOLE = [name for name in TRIED if name not in ("rl", "sft by reward")]  # whose weights are all 1


def build(name: str, scenario: World) -> TrainerPart:
    tried = TRIED[name]
    part: TrainerPart = tried.part(tried.part.Config.model_validate(tried.options), scenario(**WORLD))
    return part


def test_every_registered_trainer_is_tried_here() -> None:
    for name in trainers.names():
        assert trainers.get(name) is KNOWN[name]


turn = st.fixed_dictionaries(
    {
        "author": st.sampled_from(["solver", "solver", "solver", "critic", "judge"]),
        "ids": st.lists(st.integers(5, 9), min_size=1, max_size=3),
        "follow": st.booleans(),
    },
    optional={
        "verifier": st.sampled_from([0.0, 0.5, 1.0]),
        "verdict": st.sampled_from([0.0, 1.0]),
        "train_context": st.just([1, 2]),
    },
)


@st.composite
def steps(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Up to three episodes; a turn may go on from the one before it of the same role."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        turns = draw(st.lists(turn, max_size=6))
        last: dict[str, int] = {}
        for at, one in enumerate(turns, 1):
            before = last.get(str(one["author"]))
            if one.pop("follow") and before is not None:
                one |= {"follows": before, "parent": before, "node": "again", "context": (7,)}
            last[str(one["author"])] = at
        found.append(turns)
    return found


def check(made: Made, step: Played, after: int) -> None:
    """Trained tokens are sampled ones of trainable roles, in rows that lead back to a record of their turn."""
    told = {(row.episode, row.turn): row for row in made.advantages}
    assert len(told) == len(made.advantages)
    assert all(0 <= row.group < len(made.groups) for row in made.advantages)
    assert [group.index for group in made.groups] == list(range(len(made.groups)))
    for row in made.rows:
        spans = {at + after: span for span in row.spans for at in range(span.start, span.stop)}
        for at in row.trained:
            span = spans[at]
            said = step.episodes[span.episode].turns[span.turn]
            assert step.roles[said.author].trainable and said.author == row.role
            assert row.token_ids[at - after] == said.token_ids[at - after - span.start]
            assert told[span.episode, span.turn].role == said.author
            assert told[span.episode, span.turn].weight > 0
        assert all(math.isfinite(share) for share in row.coefficient_T)


@pytest.mark.parametrize("name", TRIED)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(turns=steps())
def test_rows_train_what_trainable_roles_said_and_every_turn_has_one_record(
    name: str, turns: list[list[dict[str, Any]]], scenario: World, played: Play, episode: Make
) -> None:
    step = played([episode(*given, index=at) for at, given in enumerate(turns)])
    part = build(name, scenario)
    assert all(isinstance(loss, Loss) for loss in part.losses.values())
    made = part.make(step)
    check(made, step, TRIED[name].after)
    assert {row.loss for row in made.rows} <= set(part.losses)
    if name in WHOLE:
        for role in {row.role for row in made.rows}:
            total = math.fsum(share for row in made.rows if row.role == role for share in row.coefficient_T)
            assert total == pytest.approx(step.roles[role].weight)


@pytest.mark.parametrize("name", TRIED)
def test_a_step_with_nothing_to_learn_has_no_rows(name: str, scenario: World, played: Play, episode: Make) -> None:
    invalid = {"verifier": Score.invalid("verifier", "test", "crashed")}
    broke = episode({"verifier": 1.0}, {"verifier": 0.0}, ending=Ending.BROKE)
    steps = [[], [broke], [episode({"author": "judge", "verifier": 1.0})]]
    if not name.startswith("distill") or "wrong" in name:
        steps.append([episode(invalid, invalid)])
    for episodes in steps:
        made = build(name, scenario).make(played(episodes))
        assert not made.rows
        assert name == "rl" or 0.0 in [made.figures.get("turns"), made.figures.get("pairs")]


@pytest.mark.parametrize("name", TRIED)
def test_the_same_step_makes_the_same_rows(name: str, scenario: World, played: Play, episode: Make) -> None:
    turns = [{"verifier": float(at % 2), "ids": (5, 6 + at)} for at in range(4)]
    one, other = (build(name, scenario).make(played([episode(*turns)])) for _ in range(2))
    assert repr(one.rows) == repr(other.rows) and one.advantages == other.advantages


@pytest.mark.parametrize("name", TRIED)
def test_what_a_trainer_remembers_is_json(name: str, scenario: World, played: Play, episode: Make) -> None:
    state: dict[str, Any] = {}
    build(name, scenario).make(played([episode({"verifier": 1.0}, {"verifier": 0.0, "ids": (9,)})], state))
    assert json.loads(json.dumps(state)) == state


def test_a_roles_weight_scales_its_share_and_nobody_elses(scenario: World, played: Play, episode: Make) -> None:
    step = played([episode({"verifier": 1.0}, {"author": "critic", "verdict": 1.0})])
    for name in ("value", "distill"):
        rows = build(name, scenario).make(step).rows
        sums = {row.role: math.fsum(row.coefficient_T) for row in rows}
        assert sums == pytest.approx({"solver": 1.0, "critic": 0.5})


def test_replay_rows_have_no_turn_and_no_record(scenario: World, played: Play, tmp_path: Path) -> None:
    file = tmp_path / "general.txt"
    file.write_text("some general text")
    part = TextReplay(TextReplay.Config(path=str(file)), scenario())
    made = part.make(dataclasses.replace(played([])))
    assert made.rows and not made.advantages and not made.groups
    assert made.figures["rows"] == 1
