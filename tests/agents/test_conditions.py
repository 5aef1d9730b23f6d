"""Conditions read what happened on a branch; an environment turn speaks for the turn it answers."""

from __future__ import annotations

from typing import Any

import pytest

from sparring.envs.types import Parsed, Refusal
from sparring.scenarios.registry import conditions


def holding(tree: Any, index: int) -> set[str]:
    return {name for name in conditions.names() if conditions.get(name)(tree.book, tree.book.turn(index))}


@pytest.mark.parametrize(
    ("score", "expected"),
    [(1, {"right"}), (0.5, {"right"}), (0.2, {"wrong"}), ("invalid", set()), (float("nan"), set())],
)
def test_right_and_wrong_hold_for_the_attempt_and_the_step_after_it(tree: Any, score: Any, expected: set[str]) -> None:
    attempt = tree.add("somebody", None, score)
    for index in (attempt, tree.add("environment", attempt)):
        assert holding(tree, index) & {"right", "wrong"} == expected


def test_accepted_and_refused_exclude_each_other(tree: Any) -> None:
    top = tree.add("anyone")
    admitted = tree.add("environment", top)
    assert holding(tree, admitted) & {"accepted", "refused"} == {"accepted"}
    tree.book.refusals[top] = Refusal("syntax")
    assert holding(tree, admitted) & {"accepted", "refused"} == {"refused"}


@pytest.mark.parametrize("said", ["right", "wrong"])
def test_verdicts_can_be_followed(tree: Any, said: str) -> None:
    index = tree.add("anyone", None, parsed=Parsed("verdict", said))
    assert holding(tree, index) & {"said_right", "said_wrong"} == {f"said_{said}"}


def test_broken_contracts_can_be_followed(tree: Any) -> None:
    assert "parsed" in holding(tree, tree.add("anyone"))
    assert "unparsed" in holding(tree, tree.add("anyone", None, parsed=Parsed("answer", None, "no answer")))


def test_a_branch_is_unfinished_until_the_environment_ends_it(tree: Any) -> None:
    index = tree.add("environment")
    assert "unfinished" in holding(tree, index)
    tree.book.over.add(index)
    assert "unfinished" not in holding(tree, index)
