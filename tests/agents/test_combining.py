"""Rewards of rewards, and rewards under names of the scenario's own: in closed form, refused where they cannot be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.rewards import Context, make_reward
from sparring.agents.role import make_role
from sparring.agents.settle import settle
from sparring.envs.types import Episode, Score, Turn, Validity
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import loads
from sparring.scenarios.schema import Ref, RoleSpec

VALUES = st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=5)
KINDS: dict[str, Any] = {"max": max, "min": min, "product": math.prod, "mean": lambda v: math.fsum(v) / len(v)}
YAML = """
name: small
environment: echo
roles: {solver: {kind: plain, prompt: game/brief, reward: {NAMES}}}
rewards: {REWARDS}
graph: solve
"""


def fixed(value: float | None) -> Any:
    def reward(episode: Episode, turn: Turn, context: Context) -> Score:
        return Score.missing("part", "test") if value is None else Score.valued("part", value, "test")

    return reward


@pytest.mark.parametrize("kind", KINDS)
@given(values=VALUES)
def test_a_combination_is_that_of_the_valued_rewards(context: Context, tree: Any, kind: str, values: list[Any]) -> None:
    names = [f"one{at}" for at in range(len(values))]
    own = replace(context, named={name: fixed(value) for name, value in zip(names, values, strict=True)})
    episode = _one(tree)
    found = make_reward(Ref(kind=kind, options={"of": names}))(episode, episode.turns[0], own)
    assert isinstance(found, Score)
    known = [value for value in values if value is not None]
    if not known:
        assert found.validity is Validity.MISSING
    else:
        assert found.value == pytest.approx(KINDS[kind](known))


def _one(tree: Any) -> Episode:
    tree.add("somebody")
    episode: Episode = tree.episode()
    return episode


def test_one_that_failed_makes_the_whole_invalid_and_says_why(context: Context, tree: Any) -> None:
    episode = _one(tree)
    broken = lambda *asked: Score.invalid("part", "judge", "garbage")  # noqa: E731 - a reward in one line
    own = replace(context, named={"good": fixed(1.0), "bad": broken})
    found = make_reward(Ref(kind="max", options={"of": ["good", "bad"]}))(episode, episode.turns[0], own)
    assert isinstance(found, Score) and (found.validity, found.note) == (Validity.INVALID, "part: garbage")


def test_weights_of_a_mean_stay_with_their_rewards(context: Context, tree: Any) -> None:
    episode = _one(tree)
    own = replace(context, named={"a": fixed(1.0), "b": fixed(None), "c": fixed(0.0)})
    mean = make_reward(Ref(kind="mean", options={"of": ["a", "b", "c"], "weights": [1, 5, 3]}))
    found = mean(episode, episode.turns[0], own)
    assert isinstance(found, Score) and found.value == 0.25


def test_a_mean_of_what_weighs_nothing_is_missing_and_never_a_zero(context: Context, tree: Any) -> None:
    episode = _one(tree)
    own = replace(context, named={"a": fixed(None), "b": fixed(1.0)})
    mean = make_reward(Ref(kind="mean", options={"of": ["a", "b"], "weights": [1, 0]}))
    found = mean(episode, episode.turns[0], own)
    assert isinstance(found, Score) and (found.validity, found.value) == (Validity.MISSING, None)
    assert "weighs nothing: b 1" in found.note


def test_a_named_reward_gives_scores_of_its_own_name(context: Context, tree: Any) -> None:
    spec = RoleSpec.model_validate({"kind": "solver", "reward": {"kept": 0.5}})
    roles = {"solver": make_role("solver", spec)}
    tree.add("solver")
    named = {"kept": make_reward(Ref(kind="format"), "kept")}
    settled = settle(tree.episode(), roles, context.environment, named)
    assert [(score.name, score.by) for score in settled.scores[0]] == [("kept", "parser")]


@pytest.mark.parametrize(
    ("names", "rewards", "words"),
    [
        ("[best]", "{best: {kind: max, of: [format, other]}}", "unknown reward 'other'"),
        ("[a]", "{a: {kind: max, of: [b]}, b: {kind: min, of: [a]}}", "'a' would be made of itself; take 'b' out"),
        ("[max]", "{}", "the reward 'max' needs options (of): give it a name of its own under rewards:"),
        ("[best]", "{best: {kind: max, off: [format]}}", "unknown option of 'max' 'off'"),
        ("[best]", "{bset: {kind: max, of: [format]}}", "unknown reward 'best'; did you mean 'bset'?"),
        ("[m]", "{m: {kind: mean, of: [format, verifier], weights: [1]}}", "1 of them for 2 rewards"),
        ("[verifier]", "{verifier: {kind: max, of: [format]}}", "gives a score 'verifier' itself; take another"),
    ],
)
def test_what_cannot_be_rewarded_is_told(names: str, rewards: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        loads(YAML.replace("{NAMES}", names).replace("{REWARDS}", rewards))
    assert words in str(caught.value)
