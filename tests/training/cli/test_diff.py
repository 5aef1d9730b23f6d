"""``diff``: where two episodes part, and what is not a parting."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import Result

from sparring.envs.types import Episode, Score, Turn
from sparring.storage.divergence import compared
from sparring.storage.samples import sample_step

Told = Callable[..., Result]
EPISODE: Episode = sample_step(1, episodes=1).episodes[0]
ESCAPES = re.compile("\x1b\\[[0-9;]*m")


def with_turn(index: int, **changes: Any) -> Episode:
    """The made-up episode with one turn changed."""
    turns = tuple(turn.amended(**changes) if turn.index == index else turn for turn in EPISODE.turns)
    return replace(EPISODE, turns=turns)


def below(index: int) -> list[Turn]:
    return [turn for turn in EPISODE.turns if index in [one.index for one in EPISODE.ancestors(turn.index)]]


def test_an_episode_and_itself_never_part() -> None:
    found = compared(EPISODE, EPISODE)
    assert found.same_turns == len(EPISODE.turns) and found.partings == found.scored == ()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(range(len(EPISODE.turns))))
def test_a_changed_word_parts_there_and_what_is_below_is_not_compared(index: int) -> None:
    found = compared(EPISODE, with_turn(index, said=EPISODE.turns[index].said + "!"))
    (parting,) = found.partings
    assert parting.first.turn == index and parting.fields == ("said",)
    assert found.same_turns == len(EPISODE.turns) - len(below(index))
    assert parting.same_characters == len(EPISODE.turns[index].said)


def test_seeds_versions_and_logprobs_are_no_difference() -> None:
    assert not compared(EPISODE, with_turn(3, seed=99, policy_version=7)).partings


def test_a_turn_that_only_one_has_is_a_parting_on_either_side() -> None:
    last = len(EPISODE.turns) - 1
    scores = {index: given for index, given in EPISODE.scores.items() if index != last}
    shorter = replace(EPISODE, turns=EPISODE.turns[:-1], scores=scores)
    (one,), (two,) = compared(EPISODE, shorter).partings, compared(shorter, EPISODE).partings
    assert (one.first.turn, one.second.turn) == (last, None)
    assert (two.first.turn, two.second.turn) == (None, last)


def test_a_reward_that_differs_on_the_same_words_is_told_apart_from_a_parting() -> None:
    index, (score, *rest) = next(iter(EPISODE.scores.items()))
    other = Score.valued(score.name, 0.125, "me")
    found = compared(EPISODE, replace(EPISODE, scores={**EPISODE.scores, index: (other, *rest)}))
    assert not found.partings and found.same_turns == len(EPISODE.turns)
    assert [(one.first.turn, one.fields) for one in found.scored] == [(index, (score.name,))]
    assert found.scored[0].second.scores[score.name] == "0.125"


def test_diff_shows_both_words_and_the_rewards(told: Told, filled: str) -> None:
    done = told("diff", "r1/1/0", "r1/2/0")
    assert done.exit_code == 0 and "they part" in done.stdout
    assert "r1/1/0 #" in done.stdout and "r1/2/0 #" in done.stdout and "mean reward" in done.stdout


def test_diff_as_json_names_the_first_parting(told: Told, filled: str) -> None:
    found = json.loads(told("diff", "r1/1/0", "2/0", "--json").stdout)
    assert (found["first"], found["second"]) == ("r1/1/0", "r1/2/0")
    first = found["comparison"]["partings"][0]
    assert first["first"]["said"] != first["second"]["said"] and first["same_characters"] >= 0


def test_diff_of_a_step_says_what_to_type(told: Told, filled: str) -> None:
    done = told("diff", "r1/1", "r1/2/0")
    assert done.exit_code == 5 and "sparring show r1/1" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("width", ["80", "160"])
def test_no_line_is_wider_than_the_screen(told: Told, filled: str, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = ESCAPES.sub("", told("diff", "r1/1/0", "r1/2/0").stdout)
    assert shown and max(map(len, shown.splitlines())) <= int(width)
