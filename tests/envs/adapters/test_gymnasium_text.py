"""Gymnasium worlds in text: the contract on real ones, and every way a foreign world can fail."""

from __future__ import annotations

import random
from typing import Any

import gymnasium
import pytest
from gymnasium import spaces

from sparring.envs.adapters.gymnasium_text import GymnasiumEnvironment
from sparring.envs.check import check_environment
from sparring.envs.types import Score, Validity
from sparring.scenarios.errors import ScenarioError


class Foreign(gymnasium.Env[Any, Any]):
    """Counts to three; ``how`` says what goes wrong."""

    def __init__(self, how: str = "") -> None:
        self.how, self.count = how, 0
        self.observation_space = spaces.Dict({"count": spaces.Discrete(9), "word": spaces.Text(20)})
        self.action_space: spaces.Space[Any] = spaces.Text(10) if how == "text" else spaces.Discrete(3, start=5)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.count = 0
        return self.seen(), {}

    def seen(self) -> dict[str, Any]:
        return {"count": self.count, "word": f"{random.random():.4f}" if self.how == "draws" else "on"}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        if self.how == "raises" and self.count == 2:
            raise OSError("the lake is dry")
        if self.how == "exits":
            raise SystemExit(3)
        reward = float("nan") if self.how == "nan" and self.count == 2 else 1.0
        return self.seen(), reward, self.how != "endless" and self.count == 3, False, {}


class Lines(gymnasium.Env[Any, Any]):
    observation_space = action_space = spaces.Box(0.0, 1.0)


def world(how: str = "", **options: Any) -> GymnasiumEnvironment:
    environment = GymnasiumEnvironment({"id": f"{__name__}:Foreign", "options": {"how": how}, **options})
    environment.reset(seed=1)
    return environment


def verdict(scores: list[Score]) -> Score:
    return next(score for score in scores if score.name == "verifier")


@pytest.mark.parametrize(
    "config",
    [
        *GymnasiumEnvironment.examples,
        {"id": "Taxi-v4", "render": True, "max_steps": 4, "invalid": "retry"},
        {"id": "Blackjack-v1", "actions": ["stick", "hit"], "invalid": "retry", "threshold": 1.0},
        {"id": "CliffWalking-v1", "max_steps": 5, "lost": -20},
    ],
)
def test_real_worlds_keep_the_contract(config: dict[str, Any]) -> None:
    assert check_environment(GymnasiumEnvironment(config)).broken == ()


def test_actions_are_read_by_name_and_by_number() -> None:
    environment = world(actions=["Wait", "go", "stop"])
    for text in ("wait", " GO. ", "<answer>7</answer>", "I think.\nstop"):
        environment.reset(seed=1)
        assert environment.step(text)[2] is False, text


@pytest.mark.parametrize("text", ["", "4", "8", "-5", "five", "5 6", "9" * 5000, "<answer></answer>5"])
def test_what_is_no_action_loses(text: str) -> None:
    said, reward, over, _, info = world().step(text)
    assert over and reward == 0.0 and verdict(info["scores"]).value == 0.0
    assert "5 to 7" in said


def test_losing_may_cost_what_the_scenario_says() -> None:
    assert world(lost=-3.5).step("nothing")[1] == -3.5


def test_a_try_again_costs_a_step_and_max_steps_ends_it() -> None:
    environment = world(invalid="retry", max_steps=2)
    assert environment.step("what")[2:4] == (False, False)
    _, reward, terminated, truncated, _ = environment.step("5")
    assert (reward, terminated, truncated) == (1.0, False, True)


@pytest.mark.parametrize(("options", "value"), [({}, 3.0), ({"score": "last"}, 1.0), ({"threshold": 4.0}, 0.0)])
def test_the_end_is_scored_as_asked(options: dict[str, Any], value: float) -> None:
    environment = world(**options)
    steps = [environment.step("5") for _ in range(3)]
    assert verdict(steps[2][4]["scores"]).value == value
    assert [len(step[4]["scores"]) for step in steps] == [1, 1, 2]


def test_a_world_that_never_ends_is_cut() -> None:
    environment = world("endless", max_steps=5)
    assert [environment.step("5")[3] for _ in range(5)] == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("how", "note"), [("raises", "OSError: the lake is dry"), ("nan", "reward nan"), ("exits", "SystemExit: 3")]
)
def test_a_world_that_fails_gives_an_invalid_score_and_ends(how: str, note: str) -> None:
    environment = world(how)
    steps = [environment.step("5")]
    if not steps[-1][2]:
        steps.append(environment.step("5"))
    score = verdict(steps[-1][4]["scores"])
    assert steps[-1][2] and score.validity is Validity.INVALID and note in score.note and score.value is None


def test_after_a_failure_the_next_episode_is_whole() -> None:
    environment = world("raises")
    environment.step("5"), environment.step("5")
    environment.reset(seed=1)
    assert environment.step("5")[4]["scores"][0].value == 1.0


def test_a_foreign_draw_between_turns_changes_nothing() -> None:
    one, other = world("draws"), world("draws")
    random.seed(4)
    expected = [one.step("5")[0], one.step("6")[0]]
    seen = [other.step("5")[0]]
    random.seed(12)
    assert [*seen, other.step("6")[0]] == expected
    random.seed(12)
    first = random.random()
    random.seed(12)
    other.step("7")
    assert random.random() == first


def test_a_moment_is_restored_by_playing_to_it() -> None:
    one, other = world("draws"), world("draws")
    one.step("5")
    moment = one.snapshot()
    expected = one.step("5")[0]
    other.restore(moment)
    assert other.step("5")[0] == expected


def test_words_go_to_text_spaces_as_they_are() -> None:
    environment = world("text")
    assert environment.step("hello")[2] is False
    assert environment.step("far too long a text")[1] == 0.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"id": "FrozenLak-v1"}, "did you mean 'FrozenLake-v1'"),
        ({"id": "FrozenLake-v1", "options": {"depth": 3}}, "does not take these options"),
        ({"id": "FrozenLake-v1", "actions": ["up"]}, "has 4 actions, actions names 1"),
        ({"id": f"{__name__}:Lines"}, "Discrete and Text action spaces"),
        ({"id": "no_module:Class"}, "no module:Class"),
    ],
)
def test_a_world_that_cannot_be_played_is_refused_at_once(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        GymnasiumEnvironment(config)
