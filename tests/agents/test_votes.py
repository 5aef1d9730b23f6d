"""Verdicts counted, and the worth of a task by how many attempts at it succeed: closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sparring.agents.difficulty import Difficulty, worth
from sparring.agents.rewards import Context, make_reward
from sparring.agents.votes import Agreement, Majority, VoteOptions
from sparring.envs.types import Parsed, Refusal, Score, Validity
from sparring.scenarios.ref import Ref


def judged(tree: Any, *verdicts: str | None, score: float = 0.0) -> int:
    """An attempt and the verdicts on it; ``None`` is one that cannot be read."""
    attempt = tree.add("responder", tree.add("environment"), score)
    told = tree.add("environment", attempt)
    for said in verdicts:
        tree.add("verifier", told, parsed=Parsed("verdict", said, None if said else "no verdict"))
    return int(attempt)


def scored(reward: Any, tree: Any, index: int, context: Context) -> Score:
    episode = tree.episode()
    found = reward(episode, episode.turns[index], context)
    assert isinstance(found, Score)
    return found


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("right", "right", "wrong"), 1.0),
        (("right", "wrong", "wrong"), 0.0),
        (("right", "wrong"), 0.0),
        (("right", None, None), 1.0),
    ],
)
def test_the_majority_of_readable_verdicts_decides(tree: Any, context: Context, verdicts: Any, expected: float) -> None:
    assert scored(Majority(), tree, judged(tree, *verdicts), context).value == expected


def test_no_readable_verdict_is_invalid_and_no_verdict_at_all_missing(tree: Any, context: Context) -> None:
    assert scored(Majority(), tree, judged(tree, None, None), context).validity is Validity.INVALID
    assert scored(Majority(), tree, judged(tree), context).validity is Validity.MISSING


def test_a_verdict_earns_what_most_verdicts_say_whatever_the_truth(tree: Any, context: Context) -> None:
    attempt = judged(tree, "right", "right", "wrong", None, score=0.0)
    values = [scored(Agreement(), tree, attempt + 2 + place, context).value for place in range(4)]
    assert values == [1.0, 1.0, 0.0, 0.0]


def test_verdicts_on_another_attempt_and_of_other_nodes_do_not_count(tree: Any, context: Context) -> None:
    first, second = judged(tree, "wrong"), judged(tree, "right")
    assert scored(Majority(), tree, first, context).value == 0.0
    assert scored(Majority(), tree, second, context).value == 1.0
    elsewhere = Majority(VoteOptions(nodes=("elsewhere",)))
    assert scored(elsewhere, tree, second, context).validity is Validity.MISSING


def test_a_verdict_is_not_wrong_because_no_vote_that_counts_can_be_read(tree: Any, context: Context) -> None:
    attempt = judged(tree, "right", None)
    alone = Agreement(VoteOptions(nodes=("elsewhere",)))
    assert scored(alone, tree, attempt + 2, context).validity is Validity.INVALID
    assert scored(alone, tree, attempt + 3, context).value == 0.0  # it broke its own form


@pytest.mark.parametrize(
    ("rule", "verdicts", "expected"),
    [(1, ("wrong",), 1.0), (0, ("right",), 1.0), (0, ("wrong",), 0.0), (1, ("right",), 1.0), (1, (), 1.0)],
)
def test_the_larger_of_rule_and_vote(tree: Any, context: Context, rule: int, verdicts: Any, expected: float) -> None:
    either = make_reward(Ref(kind="max", options={"of": ["verifier", "majority"]}))
    assert scored(either, tree, judged(tree, *verdicts, score=rule), context).value == expected


def asked(tree: Any, *values: float | str, node: str = "answer") -> int:
    top = tree.add("questioner")
    admitted = tree.add("environment", top)
    for value in values:
        index = tree.add("responder", admitted, value)
        tree.book.turns[index] = tree.book.turn(index).amended(node=node)
    return int(top)


@pytest.mark.parametrize("right", range(5))
def test_the_bell_over_the_success_of_the_attempts(tree: Any, context: Context, right: int) -> None:
    found = scored(Difficulty(), tree, asked(tree, *[1] * right, *[0] * (4 - right)), context)
    assert found.value == pytest.approx(math.exp(-((right / 4 - 0.5) ** 2) / (2 * (0.5 / 3) ** 2)))


def test_other_shapes() -> None:
    band = Difficulty.Config(shape="band", centre=0.5, width=0.3)
    assert [worth(p, band) for p in (0.1, 0.2, 0.5, 0.8, 0.9)] == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert [worth(p, Difficulty.Config(shape="variance")) for p in (0, 0.25, 0.5, 1)] == [0.0, 0.75, 1.0, 0.0]


def test_a_refused_question_earns_nothing(tree: Any, context: Context) -> None:
    top = asked(tree)
    tree.book.refusals[top] = Refusal("ungrounded")
    found = scored(Difficulty(), tree, top, context)
    assert (found.value, found.note) == (0.0, "ungrounded")


def test_a_question_answered_before_it_was_tried_earns_nothing(tree: Any, context: Context) -> None:
    reward = Difficulty(Difficulty.Config(nodes=("answer",)))
    assert scored(reward, tree, asked(tree, 1, node="unread"), context).value == 0.0
    assert scored(reward, tree, asked(tree, "invalid", node="unread"), context).validity is Validity.INVALID
    assert scored(reward, tree, asked(tree), context).validity is Validity.MISSING


def test_only_attempts_of_the_named_nodes_count(tree: Any, context: Context) -> None:
    top = asked(tree, 1, 0)
    index = tree.add("closed_book", top + 1, 0.0)
    assert tree.book.turn(index).node == "closed_book"
    assert scored(Difficulty(Difficulty.Config(nodes=("answer",))), tree, top, context).value == 1.0
    assert scored(Difficulty(), tree, top, context).note == "p = 0.3333 of 3"


def test_attempts_at_what_was_proposed_further_down_are_not_attempts_at_it(tree: Any, context: Context) -> None:
    top = asked(tree, 1, 0)
    again = tree.add("questioner", top + 3)
    admitted = tree.add("environment", again, task="another")
    for _ in range(3):
        tree.book.write(tree.book.turn(tree.add("responder", admitted, 1, task="another")).amended(node="answer"))
    reward = Difficulty(Difficulty.Config(nodes=("answer",)))
    assert [scored(reward, tree, index, context).note for index in (top, again)] == ["p = 0.5 of 2", "p = 1 of 3"]


def test_success_may_be_another_reward_of_the_attempts(tree: Any, context: Context) -> None:
    attempt = judged(tree, "right", score=0.0)
    episode = tree.episode()
    reward = Difficulty(Difficulty.Config(score="majority"))
    found = reward(episode, episode.turns[attempt - 1], context)
    assert found.note == "p = 1 of 1"
