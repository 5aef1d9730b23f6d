"""Tutoring: who learns what from which words, what the exam shows, and that telling its answers earns nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.envs.dialogue.env import DialogueEnvironment
from sparring.envs.dialogue.tutor import TutorTalk, gain, marked
from sparring.envs.types import Task

RULES = {"zib": "add 3", "kol": "times 4", "mer": "add 7"}
EXAM = ["12 zib", "20 kol", "11 mer"]


@pytest.fixture
def lesson() -> Task:
    """Three rules: zib is known, kol is not, mer is taken for another."""
    secret = {"unknown": [1], "mistaken": {"2": "times 2"}, "exam": EXAM}
    return Task("dialogue", {"subject": "Tal", "rules": RULES}, secret)


def tutored(sit: Any, lesson: Task, *turns: str, **options: Any) -> Any:
    return sit(task=lesson, mode="tutor", **options).say(*turns)


def test_the_tutor_reads_the_rules_and_how_many_were_right(sit: Any, lesson: Task) -> None:
    assert tutored(sit, lesson).heard == "zib: add 3\nkol: times 4\nmer: add 7\nright before: 1 of 3"
    assert "before" not in tutored(sit, lesson, report="none").heard


def test_what_is_not_known_is_learnt_by_being_told(sit: Any, lesson: Task) -> None:
    table = tutored(sit, lesson, "kol means times 4")
    assert table.heard == "I see, kol is times 4." and table.scores == {"learnt": pytest.approx(1 / 3)}
    assert table.say("kol is times 4").scores == {"learnt": 0.0}


def test_a_mistake_goes_only_when_it_is_denied(sit: Any, lesson: Task) -> None:
    table = tutored(sit, lesson, "mer is add 7.")
    assert table.heard == "But I thought mer is times 2." and table.scores == {"learnt": 0.0}
    assert table.say("mer is add 7, not times 2.").heard == "I see, mer is add 7."


def test_a_student_says_what_it_believes_when_asked(sit: Any, lesson: Task) -> None:
    assert tutored(sit, lesson, "What is mer?").heard == "I think mer is times 2."
    assert tutored(sit, lesson, "And kol?").heard == "I do not know kol."
    assert tutored(sit, lesson, "Hello").heard == "I do not follow."


@pytest.mark.parametrize(
    ("turns", "verifier"),
    [
        (["<done>"], 0.0),
        (["kol is times 4", "<done>"], 0.5),
        (["kol is times 4", "mer is add 7, not times 2", "<done>"], 1.0),
        (["kol is times 4, mer is add 7, not times 2", "<done>"], 0.5),
    ],
)
def test_the_gain_is_what_was_learnt_of_what_could_be(
    sit: Any, lesson: Task, turns: list[str], verifier: float
) -> None:
    table = tutored(sit, lesson, *turns)
    assert table.over and not table.truncated and table.scores["verifier"] == pytest.approx(verifier)


def test_the_lesson_ends_by_itself_after_max_turns(sit: Any, lesson: Task) -> None:
    table = tutored(sit, lesson, "kol is times 4", "kol", max_turns=1)
    assert table.over and table.scores["verifier"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "turns",
    [
        ["12 zib is 15. kol is times 4"],
        ["20 kol?", "that is 80", "mer is add 7, not times 2"],
        ["<think>x</think>11 mer = 18"],
    ],
)
def test_an_exam_answer_that_was_told_takes_the_whole_gain(sit: Any, lesson: Task, turns: list[str]) -> None:
    table = tutored(sit, lesson, *turns, "<done>")
    assert table.scores["verifier"] == 0.0


def test_what_was_told_is_known_by_heart_and_still_earns_nothing(sit: Any, lesson: Task) -> None:
    table = tutored(sit, lesson, "20 kol is 80", "<done>")
    assert table.heard == "exam: 0.67, before: 0.33" and table.scores["verifier"] == 0.0


def test_a_flood_of_rules_is_not_taken_in(sit: Any, lesson: Task) -> None:
    flood = "look here " * 10 + "kol is times 4"
    assert tutored(sit, lesson, flood).heard == "I do not follow."


def test_other_examples_are_no_leak(sit: Any, lesson: Task) -> None:
    assert tutored(sit, lesson, "kol is times 4: 5 kol is 20", "<done>").scores["verifier"] == pytest.approx(0.5)


def test_a_shown_exam_is_read_by_the_tutor_and_a_hidden_one_is_not(sit: Any) -> None:
    def first(exam: str) -> str:
        return str(sit(mode="tutor", exam=exam, parameters={"topics": 2}).heard)

    assert len(first("shown").splitlines()) == 5 and len(first("hidden").splitlines()) == 3


@settings(max_examples=30)
@given(seed=st.integers(0, 300), topics=st.integers(1, 6), mistakes=st.integers(0, 3))
def test_every_generated_student_has_something_to_learn(seed: int, topics: int, mistakes: int) -> None:
    environment = DialogueEnvironment({"mode": "tutor"})
    task = environment.sample({"topics": topics, "mistakes": mistakes}, np.random.default_rng(seed))
    environment.reset(options={"task": task})
    assert isinstance(environment.talk, TutorTalk) and environment.talk.before < 1.0
    assert len(task.secret["mistaken"]) == min(topics, mistakes)


def test_a_student_that_is_a_role_is_examined_twice_and_marked_by_its_own_lines(sit: Any, lesson: Task) -> None:
    table = sit(task=lesson, mode="tutor", partner="role")
    assert table.environment.addressee == "student" and table.heard.endswith("12 zib\n20 kol\n11 mer")
    table.say("15\nno idea\n22")
    assert table.by_seat["student"][0].value == 0.0
    table.say("kol is times 4", "thanks", "<done>")
    assert table.environment.addressee == "student"
    table.say("12 zib: 15\n20 kol: 80\n11 mer: 22")
    told = {seat: {score.name: score.value for score in scores} for seat, scores in table.by_seat.items()}
    assert told["tutor"]["verifier"] == pytest.approx(0.5) and told["student"]["outcome"] == pytest.approx(2 / 3)


def test_a_student_that_knew_everything_gives_no_score_to_learn_from(sit: Any, lesson: Task) -> None:
    table = sit(task=lesson, mode="tutor", partner="role").say("15\n80\n18", "<done>", "15\n80\n18")
    assert table.over and table.scores["verifier"] is None


def test_marks_are_read_line_by_line(lesson: Task) -> None:
    assert marked(lesson, "") == 0.0
    assert marked(lesson, "\n15\n\n80\n18 or 19") == pytest.approx(2 / 3)
    assert marked(lesson, "٣" * 4000 + "9" * 9000) == 0.0


@given(before=st.floats(0, 0.99), after=st.floats(0, 1))
def test_the_gain_is_at_most_one_and_never_below_minus_one(before: float, after: float) -> None:
    assert -1.0 <= gain(before, after) <= 1.0
    assert (gain(before, after) > 0) == (after > before)
