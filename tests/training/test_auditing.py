"""A run whose verifier a cheap answer fools is refused before anything exists, unless it is told to trust it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sparring.envs.base import Environment
from sparring.envs.sources import JsonlSource
from sparring.envs.types import Score, Task
from sparring.scenarios.errors import ContractBroken, ScenarioError
from sparring.scenarios.load import loads
from sparring.scenarios.registry import environments, make
from sparring.training import auditing
from sparring.training.auditing import audit_scenario, audited


@environments("yes-or-no-for-audit")
class YesOrNo(Environment):
    """Half of the answers are yes."""

    parameters = {"level": range(1, 4)}  # noqa: RUF012  # as a newcomer writes it

    def sample(self, parameters: Mapping[str, Any], rng: np.random.Generator) -> Task:
        number = int(rng.integers(10**6))
        return Task(
            "yes-or-no", {"number": number, "level": parameters["level"]}, {"reference": ["yes", "no"][number % 2]}
        )

    def begin(self, task: Task) -> str:
        return str(task.payload["number"])

    def oracle(self) -> str | None:
        assert self.task is not None
        return str(self.task.secret["reference"])

    def task_from_row(self, row: Mapping[str, Any], where: str) -> Task:
        return Task("yes-or-no", {"number": row["number"], "level": 1}, {"reference": row["answer"]})

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        right = action == self.oracle()
        return "", float(right), True, False, {"scores": [Score.valued("verifier", right, by="test")]}


TEXT = """
name: asks
environment: yes-or-no-for-audit
roles: {solver: {kind: plain, prompt: brief/solver, reward: [verifier]}}
graph: {nodes: {solve: {role: solver}, judge: {do: step}}, edges: [solve -> judge]}
curriculum: {kind: random, arms: {level: [2, 3]}}
"""
CODE = """
name: codes
environment: code
roles: {solver: {prompt: brief/solver, reward: [verifier]}}
graph: solve
curriculum: {kind: sec, arms: {depth: [1, 2, 3, 4]}}
"""


def world(text: str, *overrides: str) -> tuple[Any, Environment]:
    scenario = loads(text, overrides=overrides)
    return scenario, make(environments, scenario.environment)


def test_the_refusal_names_verifier_answer_mean_limit_and_both_ways_on() -> None:
    with pytest.raises(ContractBroken) as refused:
        audited(*world(TEXT))
    said = str(refused.value)
    for part in (
        "'yes-or-no-for-audit'",
        "'no' earns 0.",
        "audit.most is 0.25",
        "-s audit.most=0.",
        "--trust-verifier",
    ):
        assert part in said


def test_the_limit_it_suggests_is_accepted() -> None:
    with pytest.raises(ContractBroken) as refused:
        audited(*world(TEXT))
    suggested = next(word for word in str(refused.value).split() if word.startswith("audit.most="))
    assert audited(*world(TEXT, suggested))["oracle"] == 1.0


def test_a_trusted_verifier_is_audited_and_kept_as_plain_data() -> None:
    kept = audited(*world(TEXT), trust=True)
    assert json.loads(json.dumps(kept)) == kept
    assert kept["trusted"] and kept["ways"][0]["mean"] > 0.25 and kept["most"] == 0.25


def test_a_sound_environment_is_not_refused() -> None:
    assert audited(*world(CODE))["ways"][0]["mean"] < 0.25


def test_the_tasks_are_those_of_the_curriculum() -> None:
    levels = set()

    def source(parameters: dict[str, Any], rng: np.random.Generator) -> Task:
        levels.add(parameters["level"])
        return YesOrNo().sample(parameters, rng)

    scenario, environment = world(TEXT, "audit.tasks=4")
    assert audit_scenario(scenario, environment, source).tasks == 4 and levels == {2, 3}


def test_tasks_of_a_file_are_tried_where_another_row_has_the_same_answer(tmp_path: Any) -> None:
    file = tmp_path / "rows.jsonl"
    scenario, environment = world(TEXT)
    rows = [{"number": number, "answer": answer} for number, answer in enumerate(["oak", "elm", "ash"])]
    file.write_text("\n".join(map(json.dumps, rows)))
    report = audit_scenario(scenario, environment, JsonlSource({"path": str(file)}, environment).sample)
    assert report.tasks == 3 and report.best is not None and report.best.mean == 0.0


def test_the_audit_depends_on_the_seed_alone_and_leaves_the_environments_episodes_as_they_were() -> None:
    scenario, environment = world(CODE)
    before = environment.reset(seed=5)[0]
    one, two = audit_scenario(scenario, environment), audit_scenario(*world(CODE))
    assert one.ways == two.ways and environment.reset(seed=5)[0] == before
    assert audit_scenario(*world(CODE, "seed=1")).ways != one.ways


def test_an_environment_without_a_generator_says_why_nothing_was_tried() -> None:
    class Bare(YesOrNo):
        def sample(self, parameters: Mapping[str, Any], rng: np.random.Generator) -> Task:
            return Environment.sample(self, parameters, rng)

    scenario, _ = world(TEXT)
    assert "no task generator" in audited(scenario, Bare())["skipped"]


def test_an_environment_that_never_comes_back_is_named_instead_of_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    class Waiting(YesOrNo):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            free.wait(60)
            return super().step(action)

    monkeypatch.setattr(auditing, "HANGS_S", 0.2)
    with pytest.raises(ContractBroken, match="did not come back within"):
        audited(world(TEXT)[0], Waiting())
    free.set()


def test_a_source_without_a_task_is_named_with_the_parameters_the_curriculum_leaves_out() -> None:
    scenario, environment = world(TEXT, "curriculum={kind: random}")
    with pytest.raises(ScenarioError, match=r"no task can be drawn with no parameters: KeyError.*arms: {level: \[1\]}"):
        audited(scenario, environment, environment.sample)
