"""Questions about documents: what is admitted and why not, what is right, what each role would best say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparring.envs.reading import ReadingEnvironment
from sparring.envs.types import Refusal, Score, Task
from sparring.scenarios.errors import ScenarioError

ROW = {"documents": ["The number of tom is 52.", "The number of bam is 7."], "question": "bam?", "answer": "7"}


def placed(row: dict[str, Any] | None = None, **options: Any) -> ReadingEnvironment:
    environment = ReadingEnvironment(options)
    environment.reset(seed=0, options={"task": environment.task_from_row(row or ROW, "here")})
    return environment


def admitted(text: str, **options: Any) -> Task | Refusal:
    return placed(**options).admit(text, {}, np.random.default_rng(0))


def scored(environment: ReadingEnvironment, action: str) -> dict[str, Score]:
    return {score.name: score for score in environment.step(action)[4]["scores"]}


def test_a_grounded_question_becomes_a_task_about_the_same_documents() -> None:
    task = admitted("<question>What has tom?</question><answer>52</answer>")
    assert isinstance(task, Task)
    assert task.payload == {"documents": ROW["documents"], "question": "What has tom?"}
    assert task.secret["reference"] == "52" and task.operator == "asked"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tom?", "format"),
        ("<answer>52</answer>", "format"),
        ("tom?<answer>53</answer>", "ungrounded"),
        ("tom 52?<answer>52</answer>", "told"),
        ("what?<answer>52</answer>", "off_topic"),
        ("tom" + "?" * 400 + "<answer>52</answer>", "long"),
    ],
)
def test_a_refusal_says_which_rule_was_broken(text: str, reason: str) -> None:
    found = admitted(text)
    assert isinstance(found, Refusal) and found.reason == reason


def test_without_a_task_there_is_nothing_to_ask_about() -> None:
    found = ReadingEnvironment().admit("tom?<answer>52</answer>", {}, np.random.default_rng(0))
    assert isinstance(found, Refusal) and found.reason == "no_seed"


def test_an_answer_must_stand_in_the_excerpt_not_somewhere_else() -> None:
    row = {**ROW, "excerpt": ROW["documents"][:1]}
    found = placed(row).admit("tom or bam?<answer>7</answer>", {}, np.random.default_rng(0))
    assert isinstance(found, Refusal) and found.reason == "ungrounded"


def test_words_are_compared_not_signs() -> None:
    assert scored(placed(), "<answer>7.</answer>")["verifier"].value == 1.0
    assert scored(placed(), "<answer>52</answer>")["verifier"].value == 0.0
    assert scored(placed(), "7")["verifier"].value == 0.0


def test_a_wrong_reference_is_right_by_the_rule_and_wrong_by_the_facts() -> None:
    environment = ReadingEnvironment({"shown": 2})
    seed = environment.sample({"documents": 2}, np.random.default_rng(1))
    (one, _), (_, other) = seed.secret["facts"].items()
    environment.reset(seed=0, options={"task": seed})
    task = environment.admit(f"{one}?<answer>{other}</answer>", {}, np.random.default_rng(0))
    assert isinstance(task, Task)
    environment.reset(seed=0, options={"task": task})
    scores = scored(environment, f"<answer>{other}</answer>")
    assert (scores["verifier"].value, scores["truth"].value) == (1.0, 0.0)


def test_documents_without_a_question_have_no_verifier() -> None:
    assert "verifier" in scored(placed({"documents": ["tom"]}), "x")
    assert scored(placed({"documents": ["tom"]}), "x")["verifier"].value is None


@pytest.mark.parametrize("row", [{"documents": []}, {"documents": [1]}, {"documents": ["a"], "question": "a?"},
                                 {"documents": ["a"], "excerpt": "a"}, {**ROW, "answer": "+"}])  # fmt: skip
def test_a_row_that_is_no_task_is_told(row: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match="here"):
        placed(row)


@pytest.mark.parametrize("seed", range(20))
def test_it_shows_every_role_what_it_would_best_say(seed: int) -> None:
    environment = ReadingEnvironment({"shown": 3})
    environment.reset(seed=seed, options={"parameters": {"documents": 6, "linked": 2}})
    assert environment.task is not None
    question = environment.demonstration("question", "") or ""
    task = environment.admit(question, {}, np.random.default_rng(0))
    assert isinstance(task, Task), task
    environment.reset(seed=seed, options={"task": task})
    answer = environment.demonstration("answer", "") or ""
    assert environment.demonstration("verdict", answer) == "<verdict>right</verdict>"
    assert environment.demonstration("verdict", "<answer>no</answer>") == "<verdict>wrong</verdict>"
    assert {score.value for score in scored(environment, answer).values()} == {1.0}


def test_the_documents_are_as_many_as_asked_and_the_excerpt_is_part_of_them() -> None:
    task = ReadingEnvironment({"shown": 2}).sample({"documents": 9, "linked": 3}, np.random.default_rng(0))
    assert len(task.payload["documents"]) == 9
    assert len(task.payload["excerpt"]) == 2 and set(task.payload["excerpt"]) < set(task.payload["documents"])
