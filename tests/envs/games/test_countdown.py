"""Countdown: what a step does, when it ends, that every task can be solved, and that a snapshot is a replay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.envs.games.countdown import CountdownEnvironment, held, reach, steps, taken
from sparring.envs.types import Refusal, Score, Task


def standing(numbers: list[int], target: int, **options: str) -> CountdownEnvironment:
    """The environment at the beginning of this task."""
    environment = CountdownEnvironment(options)
    environment.reset(seed=0, options={"task": Task("countdown", {"numbers": numbers, "target": target})})
    return environment


def verdict(environment: CountdownEnvironment, *actions: str) -> list[float | None]:
    """What the verifier says of each action; nothing is said before the end."""
    found: list[Score] = []
    for action in actions:
        *_, info = environment.step(action)
        found += info["scores"]
    return [score.value for score in found]


def test_the_verifier_speaks_once_at_the_end() -> None:
    assert verdict(standing([2, 3, 5], 21), "5+2", "7*3") == [1.0]
    assert verdict(standing([2, 3, 5], 21), "5+2", "7-3") == [0.0]
    assert verdict(standing([2, 3, 5], 8), "5+3") == [1.0]


@pytest.mark.parametrize("action", ["5+5", "5-6", "2-5", "2/5", "5+2=7", "", "7", "5+", "\u0665+2", "9" * 400, "5^2"])
def test_a_step_that_is_not_there_is_wrong_and_ends_it(action: str) -> None:
    environment = standing([2, 5], 10)
    said, reward, over, _, info = environment.step(action)
    assert over and reward == 0.0 and info["scores"][0].value == 0.0 and said.startswith("over")


def test_operations_that_are_not_allowed_are_no_steps() -> None:
    assert verdict(standing([2, 5], 10, operations="+-"), "5*2") == [0.0]
    assert verdict(standing([2, 5], 10), "5*2") == [1.0]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.sampled_from([6, 9, 25]), st.integers(0, 10**6), st.booleans())
def test_every_task_can_be_solved_by_its_oracle_and_needs_all_its_numbers(
    count: int, most: int, seed: int, kept: bool
) -> None:
    environment = CountdownEnvironment()
    draw = environment.held_out if kept else environment.sample
    task = draw({"numbers": count, "most": most}, np.random.default_rng(seed))
    assert held(task) is kept
    environment.reset(seed=seed, options={"task": task})
    for made in range(1, count):
        action = environment.oracle()
        assert action is not None
        _, reward, over, _, _ = environment.step(action)
        assert over is (made == count - 1)
    assert reward == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.data())
def test_what_can_be_reached_is_what_some_order_of_steps_makes(numbers: list[int], data: st.DataObject) -> None:
    left = tuple(sorted(numbers))
    shortest = reach(left, "+-*/")
    for made in range(1, len(numbers)):
        left = taken(left, data.draw(st.sampled_from(steps(left, "+-*/"))))
        assert all(shortest[one] <= made for one in left)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_returning_to_a_snapshot_is_the_same_as_replaying_from_the_start(seed: int, data: st.DataObject) -> None:
    environment = CountdownEnvironment()
    task = environment.sample({"numbers": 4, "most": 9}, np.random.default_rng(seed))
    environment.reset(seed=seed, options={"task": task})
    first = data.draw(st.sampled_from(steps(environment.left, "+-*/")))
    environment.step(first)
    kept = environment.snapshot() if environment.left else None
    other = CountdownEnvironment()
    other.reset(seed=seed, options={"task": task})
    other.step(first)
    environment.step("1+1")
    environment.restore(kept)
    assert (environment.left, environment.oracle(), environment.task) == (other.left, other.oracle(), other.task)


def test_the_oracle_knows_when_there_is_no_way_left() -> None:
    environment = standing([2, 3, 5], 30)
    environment.step("5-3")
    assert environment.oracle() is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hello", "format"),
        ("2 3 5 = 5", "given"),
        ("2 3 5=97", "unsolvable"),
        ("2=3", "count"),
        ("0 3 5=8", "size"),
        ("2 100=102", "size"),
        ("9" * 5000 + "=1", "format"),
    ],
)
def test_a_proposal_that_is_no_task_says_why(text: str, reason: str) -> None:
    found = CountdownEnvironment().admit(text, {}, np.random.default_rng(0))
    assert isinstance(found, Refusal) and found.reason == reason


def test_a_proposal_becomes_the_task_it_says_or_is_kept_for_evaluation() -> None:
    made = [
        CountdownEnvironment().admit(f"5, 3 2={target}", {"numbers": 3}, np.random.default_rng(0))
        for target in reach((2, 3, 5), "+-*/")
        if target not in (2, 3, 5)
    ]
    tasks = [one for one in made if isinstance(one, Task)]
    assert tasks and all(task.payload["numbers"] == [2, 3, 5] for task in tasks)
    refused = [one.reason for one in made if isinstance(one, Refusal)]
    assert refused and set(refused) == {"held_out"}


def test_a_task_like_a_proposed_one_has_as_many_numbers() -> None:
    proposed = CountdownEnvironment().admit("2 3 5=21", {}, np.random.default_rng(0))
    assert isinstance(proposed, Task)
    like = CountdownEnvironment().similar(proposed, np.random.default_rng(0))
    assert len(like.payload["numbers"]) == 3 and like.key != proposed.key
