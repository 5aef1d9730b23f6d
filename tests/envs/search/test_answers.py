"""Comparing answers: normalised exact match, F1 and nuggets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.search.answers import LONGEST, exact, f1, holds, judged, marked, normal, read_answers, rubric_of
from sparring.envs.types import CriterionKind
from sparring.scenarios.errors import ScenarioError

NUGGETS = [
    {"text": "copies the tree", "points": 3.0, "any": ["duplicates the tree"]},
    {"text": "returns the destination", "points": 1.0, "any": []},
]


@pytest.mark.parametrize("said", ["json.dumps", " `json.dumps()` ", "The JSON.DUMPS.", '"json.dumps"'])
def test_quotes_case_articles_and_calls_do_not_make_an_answer_wrong(said: str) -> None:
    assert exact(said, ["json.dumps", "dumps"]) == 1.0


@pytest.mark.parametrize("said", ["", "  ", "the", "json", "json.dumps or json.loads", "-7", "7.5", "17"])
def test_more_less_or_nothing_is_not_the_answer(said: str) -> None:
    assert exact(said, ["json.dumps", "7"]) == 0.0


def test_f1_falls_with_every_word_too_many() -> None:
    assert f1("red house", ["red house"]) == 1.0
    assert f1("red", ["red house"]) == pytest.approx(2 / 3)
    assert f1("red " * 100, ["red house"]) < 0.03


@given(st.text(max_size=80), st.text(max_size=30))
def test_figures_stay_between_0_and_1_and_a_found_answer_stands_alone(said: str, answer: str) -> None:
    assert 0.0 <= f1(said, [answer]) <= 1.0
    assert exact(said, [answer]) in (0.0, 1.0)
    assert not holds(f"x{normal(answer)}x", answer) or not normal(answer)


def test_the_verifier_is_the_figure_asked_for_and_the_other_stands_beside_it() -> None:
    scores = {score.name: score.value for score in judged("red", ["red house"], "f1")}
    assert scores == {"verifier": pytest.approx(2 / 3), "exact": 0.0, "f1": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    ("said", "share"),
    [
        ("It copies the tree and returns the destination.", 1.0),
        ("It duplicates the tree.", 0.75),
        ("the tree it copies", 0.375),
        ("returns the destination", 0.25),
        ("a tree", 0.0),
        ("", 0.0),
        ("copies the tree " * LONGEST, 0.0),
    ],
)
def test_nuggets_earn_their_points_half_when_the_words_are_scattered(said: str, share: float) -> None:
    score = marked(said, NUGGETS)
    assert score.value == pytest.approx(share)
    assert len(score.criteria) == 2


def test_nuggets_are_criteria_of_a_rubric_with_their_points() -> None:
    rubric = rubric_of(NUGGETS)
    assert [(row.kind, row.points) for row in rubric.criteria] == [
        (CriterionKind.NUGGET, 3.0),
        (CriterionKind.NUGGET, 1.0),
    ]


@pytest.mark.parametrize(
    "row",
    [{}, {"answer": ""}, {"answer": 3}, {"answer": ["a", 1]}, {"nuggets": "a"}, {"nuggets": [{"points": 1}]},
     {"nuggets": [{"text": "a", "points": -1}]}, {"nuggets": [{"text": "a", "any": "b"}]}, {"nuggets": ["?!"]}],
)  # fmt: skip
def test_a_row_without_a_usable_answer_is_named(row: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match=r"qa\.jsonl, line 3"):
        read_answers(row, "qa.jsonl, line 3")


def test_one_short_answer_is_one_nugget_with_its_other_wordings() -> None:
    kept = read_answers({"answer": ["New York", "NYC"]}, "here")
    assert marked("it is NYC", kept["nuggets"]).value == 1.0
