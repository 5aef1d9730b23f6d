"""Rewards in closed form, on episodes written by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sparring.agents.presets import propose_solve_critique_revise
from sparring.agents.rewards import (
    Context,
    discrimination,
    first_attempts,
    format,
    judged,
    learnability,
    revision_gain,
    rubric,
    verdict,
    verifier,
)
from sparring.agents.roles import Judge
from sparring.agents.settle import settle
from sparring.envs.types import Parsed, Refusal, Score, Validity
from sparring.scenarios.registry import rewards
from sparring.scenarios.schema import RoleSpec

ANSWERED = "<think>a=7</think><answer>12</answer>"
MISSED = "<think>a=7</think><answer>5</answer>"


def run(reward: Any, tree: Any, index: int, context: Context) -> Score:
    episode = tree.episode()
    found = reward(episode, episode.turns[index], context)
    return found if isinstance(found, Score) else found[0]


def proposal(tree: Any, *values: float | str) -> int:
    top = tree.add("anyone")
    admitted = tree.add("environment", top)
    for value in values:
        tree.add("somebody", admitted, value)
    return int(top)


@pytest.mark.parametrize(
    ("values", "expected"),
    [((1, 0), 1.0), ((1, 1), 0.0), ((0, 0), 0.0), ((1, 0, 0, 0), 0.75), ((1, 0, "invalid"), 1.0), ((0.5,), 1.0)],
)
def test_learnability_is_four_p_one_minus_p(tree: Any, context: Context, values: Any, expected: float) -> None:
    assert run(learnability, tree, proposal(tree, *values), context).value == pytest.approx(expected)


def test_only_first_attempts_count_for_learnability(tree: Any, context: Context) -> None:
    top = proposal(tree, 1, 0)
    tree.add("critic", tree.add("environment", 3))
    tree.add("somebody", 5, 1)
    assert len(first_attempts(tree.episode(), top)) == 2
    assert run(learnability, tree, top, context).value == 1.0


def test_a_proposal_nobody_tried_is_missing_and_one_that_broke_the_verifier_invalid(
    tree: Any, context: Context
) -> None:
    assert run(learnability, tree, proposal(tree), context).validity is Validity.MISSING
    assert run(learnability, tree, proposal(tree, "invalid"), context).validity is Validity.INVALID


@pytest.mark.parametrize(("reason", "validity"), [("syntax", Validity.VALUED), ("sandbox", Validity.INVALID)])
def test_a_refusal_is_worth_nothing_unless_it_was_our_fault(
    tree: Any, context: Context, reason: str, validity: Validity
) -> None:
    top = proposal(tree)
    tree.book.refusals[top] = Refusal(reason)
    score = run(learnability, tree, top, context)
    assert (score.validity, score.value) == (validity, 0.0 if validity is Validity.VALUED else None)


@pytest.mark.parametrize(
    ("score", "said", "expected"),
    [
        (1, "right", 1),
        (0, "wrong", 1),
        (1, "wrong", 0),
        (0, "right", 0),
        (0.5, "right", 1),
        (0.4, "right", 0),
        (1, None, 0),
    ],
)
def test_a_verdict_earns_one_when_it_equals_the_outcome(
    tree: Any, context: Context, score: float, said: str | None, expected: float
) -> None:
    attempt = tree.add("somebody", None, score)
    parsed = Parsed("verdict", said, None if said else "no verdict")
    critic = tree.add("anyone", tree.add("environment", attempt), parsed=parsed)
    assert judged(tree.episode(), tree.episode().turns[critic]) == tree.episode().turns[attempt]
    assert run(verdict, tree, critic, context).value == expected


def test_a_verdict_on_an_unvalued_attempt_is_invalid_and_on_nothing_missing(tree: Any, context: Context) -> None:
    alone = tree.add("anyone", None, parsed=Parsed("verdict", "right"))
    critic = tree.add("anyone", tree.add("somebody", None, "invalid"), parsed=Parsed("verdict", None, "?"))
    assert run(verdict, tree, alone, context).validity is Validity.MISSING
    assert run(verdict, tree, critic, context).validity is Validity.INVALID


@pytest.mark.parametrize(
    ("before", "after", "expected"), [(0, [1, 0], 0.5), (1, [0], -1), (0.25, [1], 0.75), (1, [1, "invalid"], 0)]
)
def test_revision_gain_is_the_mean_difference(
    tree: Any, context: Context, before: float, after: list[Any], expected: float
) -> None:
    critic = tree.add("anyone", tree.add("environment", tree.add("somebody", None, before)))
    for value in after:
        tree.add("environment", tree.add("somebody", critic, value))
    assert run(revision_gain, tree, critic, context).value == pytest.approx(expected)


@pytest.mark.parametrize(("before", "after"), [("invalid", [1]), (1, ["invalid"])])
def test_revision_gain_without_two_values_is_invalid(tree: Any, context: Context, before: Any, after: Any) -> None:
    critic = tree.add("anyone", tree.add("somebody", None, before))
    assert run(revision_gain, tree, critic, context).validity is Validity.MISSING
    tree.add("somebody", critic, after[0])
    assert run(revision_gain, tree, critic, context).validity is Validity.INVALID


def test_the_rubric_reward_is_the_mean_share_over_rubrics_with_rows(tree: Any, context: Context) -> None:
    first, second = tree.rubric("3 answer is 12\n1 a is 7 after line 1"), tree.rubric("1 answer is 12")
    attempt = tree.add("somebody", None, 0, MISSED)
    score = run(rubric, tree, attempt, context)
    assert score.value == pytest.approx((0.25 + 0) / 2)
    assert [(row.rubric_turn, row.criterion, row.share) for row in score.criteria] == [
        (first, 0, 0), (first, 1, 1), (second, 0, 0)
    ]  # fmt: skip


def test_rubrics_of_another_task_and_unanswered_judges_do_not_count(tree: Any, context: Context) -> None:
    attempt = tree.add("somebody", None, 0, MISSED)
    assert run(rubric, tree, attempt, context).note == "no rubric"
    tree.rubric("2 is kind")
    score = run(rubric, tree, attempt, context)
    assert (score.validity, score.criteria[0].validity) == (Validity.MISSING, Validity.MISSING)


def test_judges_answer_the_criteria_they_were_shown_by_number(tree: Any, context: Any) -> None:
    written = [tree.rubric("1 is kind\n1 answer is 12"), tree.rubric("1 is short")]
    attempt = tree.add("somebody", None, 1, ANSWERED)
    for marks in ({"1": True, "3": False}, {"1": False}):
        tree.add("jury", tree.add("environment", attempt), parsed=Parsed("marks", marks))
    jury = Judge("jury", RoleSpec(kind="judge", prompt="full/judge", sees=("rubric",)))
    shown = Context({"jury": jury}, context.environment)
    score = run(rubric, tree, attempt, shown)
    assert [row.share for row in score.criteria] == [0.5, 1, 0]
    assert score.value == pytest.approx((0.75 + 0) / 2) and len(written) == 2
    blind = Judge("jury", RoleSpec(kind="judge", prompt="full/judge"))
    score = run(rubric, tree, attempt, Context({"jury": blind}, context.environment))
    assert [row.share for row in score.criteria] == [None, 1, None]


def attempts(tree: Any, right: int, wrong: int) -> None:
    for _ in range(right):
        tree.add("somebody", None, 1, ANSWERED)
    for _ in range(wrong):
        tree.add("somebody", None, 0, MISSED)


@pytest.mark.parametrize(
    ("text", "expected", "agreement", "junk"),
    [
        ("1 answer is 12", 1.0, 1.0, 0.0),
        ("1 answer is 5", 0.0, 0.0, 0.0),
        ("1 a is 7 after line 1", 0.5, 0.5, 0.0),
        ("1 at most 100 words", -0.5, 0.5, 1.0),
        ("3 answer is 12\n1 at most 100 words", 0.75, 1.0, 0.25),
    ],
)
def test_discrimination_is_agreement_minus_what_junk_earns(
    tree: Any, context: Context, text: str, expected: float, agreement: float, junk: float
) -> None:
    attempts(tree, 1, 3)
    episode_turn = tree.rubric(text)
    episode = tree.episode()
    scores = discrimination(episode, episode.turns[episode_turn], context)
    assert {score.name: score.value for score in scores} == pytest.approx(
        {"discrimination": expected, "agreement": agreement, "junk_share": junk}
    )
    assert "4 attempts, 1 right" in scores[0].note


def test_a_rubric_that_cannot_be_read_or_checked_earns_the_least_and_one_without_attempts_is_missing(
    tree: Any, context: Context
) -> None:
    assert run(discrimination, tree, tree.rubric("hm"), context).value == -1
    assert run(discrimination, tree, tree.rubric("1 answer is 12"), context).validity is Validity.MISSING
    attempts(tree, 1, 1)
    assert run(discrimination, tree, tree.rubric("1 is kind"), context).value == -1


def test_attempts_whose_judge_cannot_be_read_do_not_tell_what_a_rubric_discriminates(tree: Any, context: Any) -> None:
    jury = Judge("jury", RoleSpec(kind="judge", prompt="full/judge", sees=("rubric",)))
    shown = Context({"jury": jury}, context.environment)
    wrote = tree.rubric("2 is kind")
    for right, marks in ((1, {"1": True}), (0, {}), (0, {})):
        attempt = tree.add("somebody", None, right, ANSWERED if right else MISSED)
        tree.add("jury", tree.add("environment", attempt), parsed=Parsed("marks", marks, None if marks else "no marks"))
    assert "1 attempts, 1 right" in run(discrimination, tree, wrote, shown).note
    tree.book.turns[3] = tree.book.turns[3].amended(parsed=Parsed("marks", {}, "no marks"))
    score = run(discrimination, tree, wrote, shown)
    assert (score.validity, score.note) == (Validity.INVALID, "turn 3: no marks")


def test_format_and_verifier_say_what_happened(tree: Any, context: Context) -> None:
    fine, broken = tree.add("a", None, 1), tree.add("a", None, parsed=Parsed("answer", None, "no answer"))
    assert [run(format, tree, index, context).value for index in (fine, broken)] == [1, 0]
    assert run(verifier, tree, fine, context).value == 1
    assert run(verifier, tree, broken, context).validity is Validity.MISSING


def test_settling_scores_every_role_turn_once_and_keeps_the_episode(table: Any, preset: Any) -> None:
    roles = table.roles(preset)
    episode = table.play(
        propose_solve_critique_revise(), lambda p, r: MISSED if r.tag == "solver" else "2 answer is 12"
    )
    settled = settle(episode, roles, table.world())
    assert settle(settled, roles, table.world()) == settled
    names = {turn.author: sorted(score.name for score in settled.scores.get(turn.index, ())) for turn in settled.turns}
    assert names == {
        "teacher": ["learnability"],
        "environment": [],
        "rubric_writer": ["agreement", "discrimination", "junk_share"],
        "solver": ["rubric", "verifier"],
        "critic": ["revision_gain", "verdict"],
    }
    assert settled.turns == episode.turns


def test_a_reward_that_fails_is_invalid_not_zero(table: Any, preset: Any) -> None:
    @rewards("test_fails")
    def fails(episode: Any, turn: Any, context: Any) -> Score:
        raise KeyError("who")

    roles = table.roles({**preset, "teacher": {"prompt": "brief/teacher", "reward": ["test_fails"]}})
    episode = table.play(propose_solve_critique_revise(), lambda p, r: "x", roles)
    score = settle(episode, roles, table.world()).score(0, "test_fails")
    assert score is not None and (score.validity, score.value) == (Validity.INVALID, None)
    assert score.note.startswith("KeyError: 'who' (test_rewards.py")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_number_is_invalid_and_says_so(table: Any, preset: Any, value: float) -> None:
    episode = table.play(propose_solve_critique_revise(), lambda p, r: "x")
    held = {**episode.scores, 0: (Score.valued("odd", value, "judge"),)}  # as an environment may report it
    score = settle(dataclasses.replace(episode, scores=held), {}, table.world()).score(0, "odd")
    assert score == Score.invalid("odd", "judge", f"gave {value}, no number to learn from")
