"""reasoning-gym: the contract, levels, mixtures, right answers, and answers that would run as code."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from sparring.envs.adapters.apart import ForeignError, apart
from sparring.envs.adapters.reasoning_gym import ReasoningGymEnvironment
from sparring.envs.adapters.reasoning_gym_entries import harmless
from sparring.envs.adapters.reasoning_gym_solutions import boxnet, rush_hour
from sparring.envs.types import Validity
from sparring.scenarios.errors import ScenarioError

installed = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="pip install 'sparring[reasoning-gym]'"
)


@installed
@pytest.mark.parametrize(
    "name", ["countdown", "graph_color", "rush_hour", "boxnet", "rubiks_cube", "word_ladder", "acre"]
)
def test_right_answers_earn_one_and_junk_nothing(name: str) -> None:
    environment = ReasoningGymEnvironment({"dataset": name})
    for seed in range(3):
        environment.reset(seed=seed)
        answer = environment.oracle()
        assert answer is not None and environment.step(answer)[1] == 1.0
        environment.reset(seed=seed)
        assert environment.step("<answer>zebra</answer>")[1] == 0.0


@installed
@pytest.mark.parametrize(
    ("name", "answer"), [("complex_arithmetic", "nan"), ("puzzle24", "1*2*3*4"), ("coin_flip", "0")]
)
def test_answers_that_fool_the_librarys_scorer_earn_nothing(name: str, answer: str) -> None:
    environment = ReasoningGymEnvironment({"dataset": name})
    for seed in range(3):
        environment.reset(seed=seed)
        assert environment.step(answer)[1] == 0.0


@installed
def test_levels_make_tasks_harder_and_end_where_the_curriculum_ends() -> None:
    environment = ReasoningGymEnvironment({"dataset": "spell_backward"})
    lengths = []
    for level in (0, 4):
        drawn = [environment.sample({"level": level}, np.random.default_rng(seed)) for seed in range(8)]
        lengths.append(np.mean([len(task.secret["reference"]) for task in drawn]))
    assert lengths[0] < lengths[1]
    with pytest.raises(ScenarioError, match="found level 5, has levels 0 to 4"):
        environment.sample({"level": 5}, np.random.default_rng(0))


@installed
def test_several_datasets_are_mixed_by_weight() -> None:
    environment = ReasoningGymEnvironment({"datasets": {"chain_sum": {"weight": 3}, "leg_counting": {}}})
    rng = np.random.default_rng(0)
    drawn = [environment.sample({}, rng).payload["dataset"] for _ in range(60)]
    assert 35 <= drawn.count("chain_sum") <= 54


@installed
def test_training_and_evaluation_draw_from_two_halves_of_the_seeds() -> None:
    environment = ReasoningGymEnvironment({"dataset": "chain_sum"})
    rng = np.random.default_rng(0)
    trained = [environment.sample({}, rng).secret["seed"] for _ in range(5)]
    held = [environment.held_out({}, rng).secret["seed"] for _ in range(5)]
    assert max(trained) < 1 << 30 <= min(held)


@installed
def test_partial_credit_is_the_librarys_own_number() -> None:
    options = {"dataset": "countdown", "credit": "partial"}
    environment = ReasoningGymEnvironment(options)
    environment.reset(seed=0)
    scores = environment.step("<answer>1 + 1</answer>")[4]["scores"]
    assert [score.name for score in scores] == ["verifier", "upstream"] and scores[0].value == scores[1].value == 0.05


@installed
@pytest.mark.parametrize(("raised", "validity"), [("invalid", Validity.INVALID), ("wrong", Validity.VALUED)])
def test_a_scorer_that_raises_is_never_zero_unless_asked(raised: str, validity: Validity) -> None:
    environment = ReasoningGymEnvironment({"dataset": "prime_factorization", "raised": raised})
    environment.reset(seed=0)
    score = environment.step("<answer>many</answer>")[4]["scores"][0]
    assert score.validity is validity and "the scorer raised: ValueError" in score.note


@installed
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "leg_countin"}, "did you mean 'leg_counting'"),
        ({"dataset": "leg_counting", "options": {"legs": 4}}, "does not take its options"),
        ({"dataset": "leg_counting", "options": {"min_animals": 9, "max_animals": 3}}, "does not take its options"),
    ],
)
def test_wrong_names_and_options_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        ReasoningGymEnvironment(options)


@installed
def test_the_process_apart_can_neither_write_nor_connect() -> None:
    far = apart("sparring.envs.adapters.reasoning_gym_entries")
    key: tuple[Any, ...] = ("string_insertion", {}, None, 3)
    assert far.call("score", *key, "__import__('os').system('id')") == [
        0.0,
        "no plain expression, and this scorer would run it as code",
    ]
    assert "seccomp" in far.lock_in and "landlock" in far.lock_in


@installed
def test_a_call_that_hangs_ends_the_process_and_the_next_one_works() -> None:
    far = apart("sparring.envs.adapters.reasoning_gym_entries")
    with pytest.raises(ForeignError, match="no answer within") as caught:
        far.call("make", "sudoku", {}, None, 1, timeout_s=0.0)
    assert caught.value.how == "hung"
    assert far.call("make", "chain_sum", {}, None, 1)["proof"] == 1.0


@pytest.mark.parametrize(
    "text", ["(3 + 4)*2", "x**2/2 + C", "sqrt(x)*exp(2*x)", "[[1, 0], [0, 1]]", "['a', 'b']", "-7"]
)
def test_mathematics_and_lists_are_plain(text: str) -> None:
    assert harmless(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('id')", "().__class__", "open('/etc/passwd')", "lambda: 0", "[x for x in y]",
        "9**9**9", "((9**99)**99)**99", "[0]*10**9", "'a'*10**9", "1 << 10**9", "exec('1')", "f'{x}'", "x if x else y",
        "a.b", "x := 3", "sqrt(open)", "print(1)", "10**(10**9)", "(" * 5000, "0" * 30_000, "\ud800", "\x00",
    ],
)  # fmt: skip
def test_anything_that_could_run_or_grow_is_not_plain(text: str) -> None:
    assert not harmless(text)


def test_searched_solutions_are_right() -> None:
    assert rush_hour("ooo" + "oBo" + "ooo" + "oBo" + "AAo" + "ooo" + "o" * 18) is not None
    assert rush_hour("o" * 12 + "AAoxoo" + "o" * 18) is None
    plan = boxnet({"0.5_0.5": ["box_red"], "0.5_1.5": [], "1.5_1.5": ["target_red"]})
    assert plan.count("move(box_red, square") == 2 and plan.count("target_red") == 1
