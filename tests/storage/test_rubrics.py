"""The rubrics of a run as a list and one by one."""

import pytest

from sparring.scenarios.errors import RunNotFound
from sparring.storage import queries
from sparring.storage.rubrics import RubricRow, rubric, rubrics
from sparring.storage.store import Store


def test_paging_tells_every_rubric_once_newest_step_first(filled: Store) -> None:
    told: list[RubricRow] = []
    after = None
    while True:
        page = rubrics(filled, "r1", after, limit=2)
        told += page.rubrics
        if (after := page.after) is None:
            break
    assert [(row.episode, row.turn) for row in told] == [(f"r1/{s}/{e}", 2) for s in (2, 1, 0) for e in range(3)]
    assert {(row.written_by, row.criteria, row.points) for row in told} == {("rubric_writer", 3, 4.0)}


def test_a_criterion_tells_how_often_it_was_met_among_right_and_wrong_answers(filled: Store) -> None:
    told, episode = rubric(filled, "r1/1/0", 2), queries.episode(filled, "r1", "r1/1/0")
    judged = [score for index in episode.scores if (score := episode.score(index, "rubric"))]
    assert [one.judged for one in told.criteria] == [len(judged)] * 3 == [14] * 3
    shares = [[item.share for item in score.criteria] for score in judged]
    assert told.criteria[1].met == pytest.approx(sum(row[1] or 0.0 for row in shares) / 14)
    right = [one for one in told.answers if one.verifier == 1.0]
    expected = sum(one.shares[0] or 0.0 for one in right) / len(right) if right else None
    assert told.criteria[0].met_right == expected


def test_agreement_counts_pairs_of_a_right_and_a_wrong_answer(filled: Store) -> None:
    told = rubric(filled, "r1/1/0", 2)
    right = [one.share or 0.0 for one in told.answers if one.verifier == 1.0]
    wrong = [one.share or 0.0 for one in told.answers if one.verifier == 0.0]
    assert told.pairs == len(right) * len(wrong) > 0
    assert told.agreement == sum((a > b) + (a == b) / 2 for a in right for b in wrong) / told.pairs


def test_an_answer_comes_with_what_its_critic_said(filled: Store) -> None:
    answers = rubric(filled, "r1/1/0", 2).answers
    solvers = [one for one in answers if one.author == "solver"]
    assert [[word.said for word in one.words] for one in solvers] == [["<verdict>right</verdict>"]] * 7


def test_an_absent_rubric_is_named_with_those_that_are_there(filled: Store) -> None:
    with pytest.raises(RunNotFound, match="turn 3 of r1/1/0; it has rubrics at #2"):
        rubric(filled, "r1/1/0", 3)
    with pytest.raises(RunNotFound, match="no episode r1/1/9"):
        rubric(filled, "r1/1/9", 2)
