"""Rubric text becomes criteria; criteria give a text its share of the points."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.rubric import lines, make_rubric, mark, parse_rubric
from sparring.envs.types import Rubric, Validity

SAID = "<think>a=7\nb=5</think><answer>12</answer>"


def written(text: str) -> Rubric:
    found = make_rubric(parse_rubric(text), 3)
    assert found is not None
    return found


def test_the_share_is_points_earned_over_points_checked() -> None:
    marked = mark(written("4 answer is 12\n1 a is 7 after line 1\n1 b is 12 after line 2"), SAID)
    assert marked.share == pytest.approx(5 / 6)
    assert [row.share for row in marked.rows] == [1, 1, 0]
    assert [row.quote for row in marked.rows] == ["12", "a=7", ""]
    assert {row.rubric_turn for row in marked.rows} == {3}


def test_a_broken_veto_takes_all_points() -> None:
    assert mark(written("4 answer is 12\nveto: at most 1 words"), SAID).share == 0
    assert mark(written("4 answer is 12\nveto: at most 9 words"), SAID).share == 1


def test_an_unanswered_judges_criterion_is_missing_and_not_counted() -> None:
    marked = mark(written("4 answer is 12\n9 is elegant"), SAID)
    assert marked.share == 1
    assert (marked.rows[1].validity, marked.rows[1].share) == (Validity.MISSING, None)


def test_judges_are_averaged() -> None:
    marked = mark(written("1 answer is 12\n1 is elegant"), SAID, {1: [True, False]})
    assert marked.share == pytest.approx(0.75)


def test_nothing_checked_is_no_share() -> None:
    assert mark(written("2 is elegant"), SAID).share is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "no criterion"), ("I think so.", "no criterion"), ("0.1 says a\n11 says a", "no criterion"),
     ("1 says a\n" * 13, "13 lines; at most 12 are read")],
)  # fmt: skip
def test_what_is_no_rubric_says_why(text: str, problem: str) -> None:
    assert parse_rubric(text).problem == problem


def test_lines_of_other_shapes_are_passed_over() -> None:
    assert [c.text for c in written("Here it is:\n- 2 says a\n0.5 is nice").criteria] == ["says a", "is nice"]


def test_kind_and_checker_follow_from_the_sentence() -> None:
    found = [(c.kind.value, c.checker) for c in written("2 says a\n2 is nice\nveto: says b\nveto: is rude").criteria]
    assert found == [("hard", "rule"), ("principle", "judge"), ("veto", "rule"), ("veto", "judge")]


def test_criteria_are_numbered_through_all_rubrics() -> None:
    assert lines([written("1 says a\n1 says b"), written("1 says c")]) == ("1. says a", "2. says b", "3. says c")


@given(st.lists(st.text() | st.sampled_from(["2 answer is 12", "veto: says x", "3 is fine"])).map("\n".join), st.text())
def test_any_text_parses_and_any_share_is_a_share(text: str, said: str) -> None:
    rubric = make_rubric(parse_rubric(text), 0)
    if rubric is not None:
        share = mark(rubric, said).share
        assert share is None or 0 <= share <= 1


def test_a_line_may_say_what_kind_of_criterion_it_is() -> None:
    text = (
        "2 hard rule: answer is 12\n1 Principle : shows the working\n3 nugget: names a cause\nveto: at most 9 words\n"
        "1 hard rule: is polite\n1 answer is 12\n1 is kind"
    )
    found = [(c.kind.value, c.points, c.text, c.checker) for c in written(text).criteria]
    assert found == [
        ("hard", 2, "answer is 12", "rule"), ("principle", 1, "shows the working", "judge"),
        ("nugget", 3, "names a cause", "judge"), ("veto", 0, "at most 9 words", "rule"),
        ("hard", 1, "is polite", "judge"), ("hard", 1, "answer is 12", "rule"), ("principle", 1, "is kind", "judge"),
    ]  # fmt: skip
