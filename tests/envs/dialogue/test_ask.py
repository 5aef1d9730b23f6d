"""Asking: what is revealed earns once, the last word is judged whole, and who may not ask cannot know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparring.envs.dialogue.env import DialogueEnvironment
from sparring.envs.types import Task
from sparring.scenarios.errors import ScenarioError

ROW = {"subject": "Ovi", "facts": {"pet": "grey owl", "hue": "mauve", "job": "smith"}, "wanted": ["pet", "hue"]}


@pytest.fixture
def ovi() -> Task:
    """A subject with two facts wanted and one beside them."""
    return DialogueEnvironment().task_from_row(ROW, "rows.jsonl:1")


def test_a_fact_earns_when_it_comes_to_light_and_never_again(sit: Any, ovi: Task) -> None:
    table = sit(task=ovi)
    assert table.heard == "Ovi: pet, hue"
    assert table.say("pet?").scores == {"revealed": 0.5} and table.heard == "pet: grey owl"
    assert table.say("And the pet again?").scores == {"revealed": 0.0}
    assert table.say("job?").scores == {"revealed": 0.0} and table.heard == "job: smith"
    assert table.say("hue?").scores == {"revealed": 0.5}


def test_a_question_costs_what_the_option_says(sit: Any, ovi: Task) -> None:
    assert sit(task=ovi, cost=0.1).say("pet").scores["revealed"] == pytest.approx(0.4)
    assert sit(task=ovi, cost=0.1).say("nonsense").scores["revealed"] == pytest.approx(-0.1)


def test_a_partner_tells_one_fact_a_turn_unless_it_may_tell_more(sit: Any, ovi: Task) -> None:
    assert sit(task=ovi).say("hue and pet").heard == "hue: mauve"
    assert sit(task=ovi, answers=2).say("hue and pet").scores == {"revealed": 1.0}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("grey owl, mauve", 1.0),
        ("GREY OWL mauve.", 1.0),
        ("pet: grey owl; hue: mauve", 1.0),
        ("mauve, grey owl", 0.0),
        ("grey owl", 0.0),
        ("grey owl, mauve, smith", 0.0),
        ("", 0.0),
    ],
)
def test_an_answer_is_right_when_all_of_it_is(sit: Any, ovi: Task, answer: str, right: float) -> None:
    table = sit(task=ovi).say(f"<think>so</think><answer>{answer}</answer>")
    assert table.scores == {"verifier": right, "revealed": 0.0}
    assert table.over and not table.truncated and table.environment.addressee is None


def test_a_thought_is_neither_asked_nor_answered(sit: Any, ovi: Task) -> None:
    table = sit(task=ovi).say("<think>pet? <answer>grey owl, mauve</answer></think>hue?")
    assert table.heard == "hue: mauve" and not table.over
    assert sit(task=ovi).say("<think>pet? hue? still thinking").heard == "What do you mean?"


def test_one_turn_too_many_truncates_with_a_score(sit: Any, ovi: Task) -> None:
    table = sit(task=ovi, max_turns=1).say("pet")
    assert not table.over
    assert table.say("hue").scores == {"verifier": 0.0, "revealed": 0.0} and table.truncated


def test_without_questions_only_an_answer_is_taken(sit: Any, ovi: Task) -> None:
    assert sit(task=ovi, max_turns=0).say("pet").truncated
    assert sit(task=ovi, max_turns=0).play_oracle().scores["verifier"] == 1.0


@pytest.mark.parametrize("facts", [1, 3, 6])
def test_generated_tasks_have_what_was_asked_for(facts: int) -> None:
    task = DialogueEnvironment().sample({"facts": facts, "distractors": 2}, np.random.default_rng(0))
    values = list(task.secret["facts"].values())
    assert len(task.payload["wanted"]) == facts and len(values) == facts + 2 == len(set(values))
    assert set(task.payload["wanted"]) < set(task.secret["facts"])


def test_train_and_held_out_tasks_never_meet() -> None:
    environment, rng = DialogueEnvironment({"syllables": 1}), np.random.default_rng(0)
    train = {environment.sample({"facts": 1}, rng).key for _ in range(400)}
    held_out = {environment.held_out({"facts": 1}, rng).key for _ in range(100)}
    assert not train & held_out and len(held_out) > 90


def test_the_same_question_about_another_world_is_another_task(ovi: Task) -> None:
    other = DialogueEnvironment().task_from_row({**ROW, "facts": {**ROW["facts"], "hue": "red"}}, "x")  # type: ignore[dict-item]  # a test row is an untyped mapping
    assert other.payload == ovi.payload and other.key != ovi.key


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"facts": {}}, "mapping of topics"),
        ({"facts": {"pet": 3}}, "mapping of topics"),
        ({"facts": {"pet": "owl", "hue": "Owl!"}}, "told apart"),
        ({"wanted": ["name"]}, "not in facts"),
        ({"wanted": []}, "list of topics"),
        ({"subject": " "}, "'subject' must be a text"),
    ],
)
def test_a_row_that_is_no_task_is_refused_with_file_and_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=f"^rows.jsonl:7: .*{words}"):
        DialogueEnvironment().task_from_row({**ROW, **change}, "rows.jsonl:7")


def test_a_parameter_of_another_mode_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"mode ask: .*'items'"):
        DialogueEnvironment().sample({"items": 2}, np.random.default_rng(0))
