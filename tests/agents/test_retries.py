"""Rewards of second attempts: closed forms on the four ways a retry can turn out, and where there is nothing to say."""

from __future__ import annotations

from typing import Any

import pytest

from sparring.agents.presets import solve_retry
from sparring.agents.retries import corrected, edits, progress, spoiled
from sparring.agents.rewards import Context
from sparring.envs.types import Ending, Episode, Score, Turn, Validity

NOWHERE: Any = None
CONTEXT = Context({}, NOWHERE)


def twice(first: float | Score | None, second: float | Score | None, said: tuple[int, ...] = (1, 2, 3)) -> Episode:
    """An attempt, what the environment said, a second attempt of the same role."""
    turns = (
        Turn(0, None, "task", "environment", ""),
        Turn(1, 0, "solve", "solver", "", token_ids=(1, 2, 3), logprobs=(-1.0,) * 3),
        Turn(2, 1, "verify", "environment", ""),
        Turn(3, 2, "retry", "solver", "", token_ids=said, logprobs=(-1.0,) * len(said)),
    )
    given = {1: first, 3: second}
    scores = {
        at: (value if isinstance(value, Score) else Score.valued("verifier", value, "test"),)
        for at, value in given.items()
        if value is not None
    }
    return Episode(0, 0, {}, turns, (), scores, {}, {}, Ending.DONE)


def values(episode: Episode) -> list[float | None]:
    return [reward(episode, episode.turns[3], CONTEXT).value for reward in (progress, corrected, spoiled)]


@pytest.mark.parametrize(("first", "second", "expected"), [
    (0.0, 1.0, [1.0, 1.0, 0.0]),
    (1.0, 0.0, [-1.0, 0.0, 1.0]),
    (1.0, 1.0, [0.0, 0.0, 0.0]),
    (0.0, 0.0, [0.0, 0.0, 0.0]),
    (0.25, 0.75, [0.5, 1.0, 0.0]),
])  # fmt: skip
def test_what_a_retry_made_of_the_first_attempt(first: float, second: float, expected: list[float]) -> None:
    assert values(twice(first, second)) == expected


def test_a_first_attempt_and_a_retry_that_was_not_acted_out_earn_nothing() -> None:
    episode = twice(1.0, None)
    for reward in (progress, corrected, spoiled):
        assert reward(episode, episode.turns[1], CONTEXT).validity is Validity.MISSING
        assert reward(episode, episode.turns[3], CONTEXT).validity is Validity.MISSING
    assert edits(episode, episode.turns[1], CONTEXT).validity is Validity.MISSING


@pytest.mark.parametrize("at", ["first", "second"])
def test_a_crashed_verifier_makes_it_invalid_and_never_a_number(at: str) -> None:
    crashed = Score.invalid("verifier", "test", "crashed")
    episode = twice(crashed, 1.0) if at == "first" else twice(0.0, crashed)
    for reward in (progress, corrected, spoiled):
        assert reward(episode, episode.turns[3], CONTEXT).validity is Validity.INVALID


@pytest.mark.parametrize(("said", "expected"), [((1, 2, 3), 0.0), ((7, 8, 9), 1.0), ((1, 2, 9), 1 / 3)])
def test_edits_are_the_share_of_tokens_that_do_not_match(said: tuple[int, ...], expected: float) -> None:
    episode = twice(0.0, 1.0, said=said)
    assert edits(episode, episode.turns[3], CONTEXT).value == pytest.approx(expected)


def test_another_roles_turn_is_no_attempt_before() -> None:
    episode = twice(0.0, 1.0)
    other = tuple(turn if turn.index != 1 else turn.amended(author="critic") for turn in episode.turns)
    found = progress(Episode(0, 0, {}, other, (), episode.scores, {}, {}, Ending.DONE), other[3], CONTEXT)
    assert found.validity is Validity.MISSING


def test_every_attempt_is_retried_and_the_prompt_is_the_same_after_a_right_and_a_wrong_one(
    table: Any, task: Any
) -> None:
    def script(prompt: str, request: Any) -> str:
        return f"<answer>{12 if request.seed % 2 else 7}</answer>"

    roles = table.roles({"solver": {"prompt": "brief/solver"}})
    episode = table.play(solve_retry(), script, roles, task=task)
    retries = [turn for turn in episode.turns if turn.node == "retry"]
    first = [episode.turns[turn.follows] for turn in retries]
    assert sorted(turn.index for turn in first) == [turn.index for turn in episode.turns if turn.node == "solve"]
    assert {episode.score(turn.index, "verifier").value for turn in first} == {0.0, 1.0}
    assert len({turn.context.text for turn in retries}) == 1
