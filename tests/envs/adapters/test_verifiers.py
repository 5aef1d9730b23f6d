"""Environments of the verifiers library; skipped where it is not installed (it brings about 700 MB with it)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparring.envs.adapters.apart import apart
from sparring.envs.adapters.verifiers import VerifiersEnvironment
from sparring.envs.check import inspect_environment
from sparring.envs.types import Validity
from sparring.scenarios.errors import ScenarioError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("verifiers") is None, reason="pip install 'sparring[verifiers]' (about 700 MB)"
)


@pytest.fixture(autouse=True)
def _found_by_name(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    yield
    apart(VerifiersEnvironment.far, False).close()


def world(name: str, **options: Any) -> VerifiersEnvironment:
    environment = VerifiersEnvironment({"id": f"verifiers_worlds:{name}", **options})
    environment.reset(seed=0)
    return environment


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sums", "guess", "fruit"])
def test_real_environments_keep_the_contract(name: str) -> None:
    report = inspect_environment(VerifiersEnvironment({"id": f"verifiers_worlds:{name}", "score": _main(name)}))
    assert [finding.name for finding in report.broken] == []


def _main(name: str) -> str:
    return "found" if name == "guess" else "right"


def test_one_turn_is_scored_by_the_rubric() -> None:
    environment = world("sums")
    assert environment.task is not None
    observation, _ = environment.reset(seed=0)
    assert observation.startswith("Add.\n\n")
    answer = environment.task.secret["answer"]
    _, reward, over, _, info = environment.step(f" {answer}   ")
    values = {score.name: score.value for score in info["scores"]}
    assert over and reward == 1.0 and values["right"] == 1.0 and values["short"] == 0.0
    environment.reset(seed=0)
    assert environment.step(answer)[1] == 1.5


def test_one_function_may_be_the_verifier() -> None:
    environment = world("sums", score="short")
    assert environment.step("x")[1] == 1.0
    nothing = world("sums", score="long").step("x")[4]["scores"][0]
    assert nothing.validity is Validity.INVALID and "it gave right, short" in nothing.note


@pytest.mark.parametrize(("judge", "note"), [("raises", "OSError"), ("nan", "nan"), ("hangs", "no answer within")])
def test_a_rubric_that_fails_is_never_zero(judge: str, note: str) -> None:
    environment = world("sums", options={"judge": judge}, timeout_s=20.0)
    if judge == "hangs":
        environment.config = environment.config.model_copy(update={"timeout_s": 1.0})
    score = environment.step("1")[4]["scores"][0]
    assert score.name == "verifier" and score.validity is Validity.INVALID and note in score.note


def test_tools_are_called_until_there_is_an_answer() -> None:
    environment = world("fruit")
    assert environment.task is not None and environment.told == ("price: Price of a fruit.",)
    fruit = environment.task.payload["question"].removesuffix("?").split()[-1]
    said, _, over, _, _ = environment.step(
        f'<tool_call>{{"name": "price", "arguments": {{"name": "{fruit}"}}}}</tool_call>'
    )
    assert not over and said == environment.task.secret["answer"]
    assert environment.step("<tool_call>{not json</tool_call>")[2] is False
    assert environment.step(said)[1] == 1.0


def test_several_turns_with_hints_are_the_same_wherever_they_are_replayed() -> None:
    one, other = world("guess"), world("guess")
    said = [one.step(str(number))[0] for number in (3, 5)]
    other.restore(one.snapshot())
    assert other.step("6") == one.step("6")
    one.reset(seed=0)
    assert [one.step(str(number))[0] for number in (3, 5)] == said


def test_training_and_evaluation_rows_are_apart() -> None:
    environment = world("sums")
    rng = np.random.default_rng(0)
    trained = {environment.sample({}, rng).payload["question"] for _ in range(40)}
    held = {environment.held_out({}, rng).payload["question"] for _ in range(20)}
    assert len(trained) == 8 and len(held) == 2 and not trained & held


def test_what_cannot_be_loaded_is_refused_at_once() -> None:
    with pytest.raises(ScenarioError, match="'verifiers_worlds:nothing' cannot be loaded"):
        VerifiersEnvironment({"id": "verifiers_worlds:nothing"})
