"""``retry`` around any environment: only "wrong" is ever said, what success and repetition earn, snapshots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.base import Environment
from sparring.envs.check import inspect_environment
from sparring.envs.echo import EchoEnvironment
from sparring.envs.games.kuhn import KuhnEnvironment
from sparring.envs.retry import ATTEMPTS, Retry, Retrying, RetryOptions, answered
from sparring.envs.types import Score, Task
from sparring.scenarios.errors import MissingExtra, ScenarioError
from sparring.scenarios.load import load
from sparring.scenarios.ref import Ref
from sparring.scenarios.registry import environments, make

CODE = {"kind": "code", "mode": "predict_output"}


def world(**retry: Any) -> Environment:
    made: Environment = make(environments, Ref.model_validate({**CODE, "retry": retry}))
    return made


def reference(environment: Environment) -> str:
    assert environment.task is not None
    return str(environment.task.secret["reference"])


def said(environment: Environment, *answers: str) -> tuple[list[str], list[Score]]:
    """What is heard after each answer, and the last one's scores; ``=`` is the right answer."""
    heard = []
    scores: list[Score] = []
    for answer in answers:
        text = reference(environment) if answer == "=" else answer
        observation, _, over, _, info = environment.step(f"<answer>{text}</answer>")
        heard.append(observation)
        scores = list(info["scores"])
        assert over == (len(heard) == len(answers))
    return heard, scores


def earned(scores: list[Score]) -> float:
    (score,) = [score for score in scores if score.name == ATTEMPTS]
    assert score.value is not None
    return score.value


@pytest.fixture
def environment() -> Any:
    made = world(attempts=5, decay=0.5, repeat_penalty=0.1)
    made.reset(seed=0)
    yield made
    made.close()


@pytest.mark.parametrize("t", [1, 2, 3, 5])
def test_success_at_the_answer_number_t_earns_decay_to_t_less_1(environment: Environment, t: int) -> None:
    wrong = [f"no {number}" for number in range(t - 1)]
    _, scores = said(environment, *wrong, "=")
    assert earned(scores) == pytest.approx(0.5 ** (t - 1))
    assert [score.value for score in scores if score.name == "verifier"] == [1.0]


def test_one_wrong_and_then_right_earns_a_half(environment: Environment) -> None:
    assert earned(said(environment, "no", "=")[1]) == 0.5


def test_three_same_wrong_answers_of_three_cost_two_thirds_of_the_penalty() -> None:
    made = world(attempts=3, repeat_penalty=0.3)
    made.reset(seed=0)
    assert earned(said(made, "no", "no", " no ")[1]) == pytest.approx(-0.3 * (1 - 1 / 3))
    made.close()


@given(st.lists(st.sampled_from(["no 1", "no 2", "no 3"]), max_size=4), st.booleans(), st.floats(0, 1), st.floats(0, 2))
def test_what_is_earned_is_the_formula(wrong: list[str], right: bool, decay: float, penalty: float) -> None:
    answers = [*wrong, "="] if right or not wrong else wrong
    options = RetryOptions(attempts=len(answers), decay=decay, repeat_penalty=penalty)
    made = make(environments, Ref.model_validate({"kind": "echo", "retry": options.model_dump()}))
    made.reset(seed=0)
    for answer in answers:
        text = made.oracle() if answer == "=" else answer
        *_, over, _, info = made.step(text)
    n, different = len(answers), len({*wrong}) + (answers[-1] == "=")
    success = decay ** (n - 1) if answers[-1] == "=" else 0.0
    assert over and earned(info["scores"]) == pytest.approx(success - penalty * (1 - different / n))


def test_nothing_but_that_it_was_wrong_is_ever_heard(environment: Environment) -> None:
    heard, _ = said(environment, "1", "2", "=")
    assert heard == ["Try again.", "Try again.", ""]
    environment.reset(seed=1)
    assert said(environment, "a", "b", "c", "d", "e")[0] == ["Try again."] * 5


def test_a_world_without_snapshots_begins_anew() -> None:
    class Forgetful(EchoEnvironment):
        def state(self) -> object:
            return NotImplemented

    made = Retry.around(Forgetful, RetryOptions(attempts=3))()
    made.reset(seed=3)
    assert not made.can_snapshot
    task, best = made.task, made.oracle()
    assert made.step("wrong")[0] == "Try again."
    assert (made.task, made.oracle()) == (task, best)
    assert made.step(best or "")[2]


def test_an_episode_goes_on_from_a_snapshot_with_what_was_said(environment: Environment) -> None:
    environment.step("<answer>no</answer>")
    kept = environment.snapshot()
    first = said(environment, "no", "=")
    other = world(attempts=5, decay=0.5, repeat_penalty=0.1)
    other.reset(seed=9)
    other.restore(kept)
    assert said(other, "no", "=") == first
    assert earned(first[1]) == pytest.approx(0.25 - 0.1 * (1 - 2 / 3))
    other.close()


def test_a_move_that_ends_nothing_is_no_attempt() -> None:
    made = make(environments, Ref.model_validate({"kind": "code", "mode": "notebook", "retry": {"attempts": 2}}))
    made.reset(seed=0)
    observation, _, over, _, info = made.step("<python>print(1)</python>")
    assert not over and observation != "Try again." and not info["scores"]
    assert [made.step("<answer>no</answer>")[2] for _ in range(2)] == [False, True]
    made.close()


class Coin(Environment):
    """A plain Gymnasium environment: the reward is the verdict, and nobody gives scores."""

    def sample(self, parameters: Any, rng: Any) -> Task:
        return Task("coin", {"question": "which side?"})

    def begin(self, task: Task) -> str:
        return "heads or tails?"

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        thinks = action == "hm"
        return "so it was", float(action == "heads"), not thinks and action != "late", action == "late", {}


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_reward_alone_is_a_verdict_where_the_episode_ends(share: float) -> None:
    class Graded(Coin):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            said, reward, over, cut, info = super().step(action)
            return said, reward or share, over, cut, info

    made = Retry.around(Graded, RetryOptions(attempts=3))()
    made.reset(seed=0)
    assert made.step("hm")[4] == {}
    heard, _, over, _, info = made.step("tails")
    assert (heard, over) == ("Try again.", False)
    assert [(one.name, one.value) for one in info["scores"]] == [("verifier", share)]
    heard, reward, over, _, info = made.step("heads")
    assert (heard, reward, over) == ("", 1.0, True)
    assert [(one.name, one.value) for one in info["scores"]] == [("verifier", 1.0), (ATTEMPTS, 0.5)]


def test_an_answer_that_is_cut_off_ends_the_episode_and_earns_what_the_last_one_does() -> None:
    made = Retry.around(Coin, RetryOptions(attempts=5, repeat_penalty=0.4))()
    made.reset(seed=0)
    made.step("tails")
    *_, over, cut, info = made.step("late")
    assert (over or cut) and earned(info["scores"]) == 0.0
    made.reset(seed=0)
    made.step("tails")
    made.step("tails")
    assert earned(made.step("late")[4]["scores"]) == pytest.approx(-0.4 * (1 - 2 / 3))


def test_a_game_between_seats_is_played_once() -> None:
    made = make(environments, Ref.model_validate({"kind": "kuhn", "retry": {}}))
    assert isinstance(made, KuhnEnvironment)
    made.reset(seed=0)
    over = False
    while not over:
        *_, over, _, info = made.step(made.oracle() or "")
    assert isinstance(info["scores"], dict)


@pytest.mark.parametrize("kind", [{"kind": "echo"}, CODE])
def test_a_wrapped_environment_keeps_the_whole_contract(kind: dict[str, Any]) -> None:
    report = inspect_environment(lambda: make(environments, Ref.model_validate({**kind, "retry": {}})), tasks=3)
    assert [(finding.name, finding.detail) for finding in report.broken] == []


@pytest.mark.parametrize("name", environments.names())
def test_it_hides_no_name_of_an_environment(name: str) -> None:
    try:
        kind = environments.get(name)
    except MissingExtra as absent:
        pytest.skip(f"not installed here: {absent}")
    own = {given for base in kind.__mro__ if base not in Environment.__mro__ for given in vars(base)}
    put_before = {given for given in vars(Retrying) if not given.startswith("__")} | {"said"}
    assert put_before & own <= {"reset", "step", "state", "set_state"}  # which go on to the environment's own


def test_the_last_tag_is_the_answer() -> None:
    assert answered("<answer>1</answer> no <answer> 2 </answer>") == "2"
    assert answered(" rock <answer>") == "rock <answer>"


def test_one_key_of_a_scenario_turns_it_on_and_null_off() -> None:
    on = load("quickstart", ["environment.retry={attempts: 3}", "roles.solver.reward=[attempts]"])
    assert on.environment.options["retry"]["decay"] == 0.5  # filled in
    off = load("quickstart", ["environment.retry=null"])
    assert off.digest == load("quickstart").digest


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("environment.retry={attemps: 3}", "environment.retry.attemps: unknown option of 'retry' 'attemps'; did you"),
        ("environment.retry={attempts: 0}", "environment.retry.attempts: found 0; at least 1 is needed"),
        ("environment.retry=often", "its options are needed, or null"),
        ("roles.solver.reward=[attempts]", "unknown reward 'attempts'"),
    ],
)
def test_what_is_wrong_with_it_is_told(override: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load("quickstart", [override])
    assert words in str(caught.value)


def test_a_task_is_of_the_environment_itself() -> None:
    made, plain = world(), make(environments, Ref.model_validate(CODE))
    rng = [np.random.default_rng(4) for _ in range(2)]
    tasks: list[Task] = [one.sample({"depth": 2}, r) for one, r in zip((made, plain), rng, strict=True)]
    assert tasks[0] == tasks[1]
