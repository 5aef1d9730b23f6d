"""Criteria written in files, and the rubric a task brings along."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sparring.envs.code.env import CodeEnvironment
from sparring.envs.criteria import kept, read_criteria
from sparring.envs.echo import EchoEnvironment
from sparring.envs.search.env import SearchEnvironment
from sparring.envs.sources import JsonlSource
from sparring.envs.types import Criterion, CriterionKind
from sparring.scenarios.errors import ScenarioError


def test_lines_and_mappings_become_criteria_and_survive_being_kept() -> None:
    found = read_criteria(
        ["2 answer is 7", "-1 at most 1 words", {"text": "is kind", "points": 0.5}, "veto: says x"], "f:1"
    )
    assert [one.points for one in found] == [2.0, -1.0, 0.5, 0.0]
    assert found[3].kind is CriterionKind.VETO
    assert read_criteria(kept(found), "f:1") == found
    assert read_criteria("1 says a\n\n1 says b", "f:1")[1].text == "says b"


@pytest.mark.parametrize(
    ("given", "said"),
    [(["veto: says a"], "nothing can be earned"), ([{"text": "a", "kind": "veto"}], "nothing can be earned"),
     ([{"text": "a", "points": 10**400}], "points are a number, at most 1e"), (3, "is a int"),
     ([], "0 criteria"), (["-1 says a"], "nothing can be earned"), (["about a"], "POINTS text"),
     ([{"text": "a", "worth": 1}], "POINTS text"), ([{"text": "a", "points": "1"}], "points are a number"),
     ([{"text": "a", "kind": "odd"}], "kind is one of"), ([{"text": " "}], "POINTS text")],
)  # fmt: skip
def test_what_is_no_rubric_is_told_with_its_place(given: object, said: str) -> None:
    with pytest.raises(ScenarioError, match=said) as error:
        read_criteria(given, "tasks.jsonl:3")
    assert str(error.value).startswith("tasks.jsonl:3:")


def test_a_rows_rubric_is_the_tasks_in_any_environment_and_no_prompt_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps({"question": "where?", "answer": "abc", "rubric": ["2 says abc", "-1 says zzz"]}))
    world = SearchEnvironment()
    (task,) = JsonlSource({"path": file}, world).tasks()
    assert world.rubric(task) == (Criterion("says abc", 2.0), Criterion("says zzz", -1.0))
    assert task.payload == {"question": "where?"}


def test_a_bad_rubric_is_found_when_the_file_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps({"text": "abc", "rubric": "no points"}))
    with pytest.raises(ScenarioError, match=r"tasks\.jsonl:1: field 'rubric'"):
        JsonlSource({"path": file}, EchoEnvironment())


def test_rubric_trace_asks_for_the_answer_every_lines_value_and_some_working() -> None:
    world = CodeEnvironment({"rubric": "trace", "sandbox": "compute-only"})
    task = world.sample({"depth": 3}, np.random.default_rng(0))
    *values, answer, penalty = world.rubric(task)
    assert (answer.text, answer.points) == (f"answer is {task.secret['reference']}", 2.0)
    assert [one.text for one in values] == [
        "{} is {} after line {}".format(*step.split("="), line) for line, step in enumerate(task.secret["trace"], 1)
    ]
    assert (penalty.text, penalty.points) == ("at most 1 words", -1.0)
    assert CodeEnvironment({"sandbox": "compute-only"}).rubric(task) == ()


def test_rubric_trace_is_refused_where_there_is_no_trace() -> None:
    with pytest.raises(ValueError, match="tasks of find_input have no trace"):
        CodeEnvironment({"mode": "find_input", "rubric": "trace"})
