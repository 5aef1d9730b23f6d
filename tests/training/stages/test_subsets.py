"""Members that are kept: the widest, the balanced, those of several rounds; and what length costs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.envs.types import Score
from sparring.training.advantages.group import PoolBaseline
from sparring.training.stages.base import apply
from sparring.training.stages.lengths import SoftOverlong
from sparring.training.stages.more import wanted
from sparring.training.stages.subsets import DropBalance, MaxVariance, Rounds, widest


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.1, 0.5, 0.7, 1.0]), min_size=8, max_size=8), st.integers(2, 8))
def test_the_widest_subset_equals_brute_force(rewards: list[float], keep: int) -> None:
    best = max(np.var(subset) for subset in itertools.combinations(rewards, keep))
    found = widest(rewards, keep)
    assert len(set(found)) == keep and found == sorted(found)
    assert np.var([rewards[at] for at in found]) == pytest.approx(best, abs=1e-12)


def test_smaller_groups_are_kept_whole(group: Any) -> None:
    one = group([1.0, 0.0, 0.5])
    assert MaxVariance()(one, []) is one
    assert MaxVariance(MaxVariance.Config(keep=2))(one, []).reward_G == [1.0, 0.0]


def test_balance_keeps_as_many_right_as_wrong(group: Any) -> None:
    balance = DropBalance()
    assert balance(group([1.0, 1.0, 0.0, 1.0, 1.0]), []).reward_G == [1.0, 0.0]
    assert balance(group([0.0, 1.0, 0.0, 1.0, 0.0]), []).reward_G == [0.0, 1.0, 0.0, 1.0]
    oreal = DropBalance(DropBalance.Config(each=1))
    assert oreal(group([0.0, 0.0, 1.0, 1.0]), []).reward_G == [0.0, 1.0]
    assert [balance(group([value] * 3), []).dropped for value in (1.0, 0.0)] == ["all right", "all wrong"]


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=20), st.integers(2, 6))
def test_what_rounds_emit_holds_both_outcomes_whenever_both_were_seen(
    group: Any, rewards: list[float], keep: int
) -> None:
    found = Rounds(Rounds.Config(keep=keep))(group(rewards), [])
    assert len(found.members) == min(keep, len(rewards))
    assert set(found.reward_G) == set(rewards)
    right = sum(found.reward_G)
    assert abs(right - keep / 2) <= 0.5 or min(rewards.count(0.0), rewards.count(1.0)) < keep / 2
    assert found.pool == group(rewards).pool


def test_the_baseline_after_rounds_is_the_pools_mean(group: Any) -> None:
    rewards = [0.0] * 7 + [1.0]
    found = Rounds(Rounds.Config(keep=2))(group(rewards), [])
    assert PoolBaseline()([found]) == [[-0.125, 0.875]]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 9), st.integers(0, 99),
    st.sampled_from(["balanced", "positive_focused"]),
)  # fmt: skip
def test_no_task_is_drawn_beyond_its_rounds(
    player: Any, chances: list[float], max_rounds: int, samples: int, seed: int, exit: Any
) -> None:
    played = player(chances, samples, seed)
    rounds = played.play([Rounds(Rounds.Config(max_rounds=max_rounds, samples=samples, exit=exit))])
    assert rounds <= max_rounds - 1
    assert sum(len(one.turns) - 1 for one in played.episodes) <= len(chances) * max_rounds * samples


def test_hard_tasks_are_drawn_more_often_than_even_ones(player: Any) -> None:
    played = player([0.1] * 30 + [0.5] * 30, samples=8, seed=3)
    played.play([Rounds()])
    drawn = np.zeros(60)
    for one in played.episodes:
        drawn[one.pick] += len(one.turns) - 1
    assert drawn[:30].mean() > 2 * drawn[30:].mean()
    assert drawn.max() <= 32


def test_one_right_turn_ends_the_rounds_of_the_positive_rule(player: Any) -> None:
    few, many = (player([0.5] * 20, samples=4, seed=5) for _ in range(2))
    few.play([Rounds(Rounds.Config(samples=4, exit="positive_focused"))])
    many.play([Rounds(Rounds.Config(samples=4, exit="balanced"))])
    assert len(few.episodes) < len(many.episodes)


def test_rounds_repeat_the_groups_own_task(attempts: Any, groups: Any) -> None:
    episodes = [attempts([0.0] * 4, "easy", 0), attempts([1.0, 1.0, 0.0, 0.0], "even", 1)]
    [want] = wanted([Rounds(Rounds.Config(samples=8))], groups(episodes), episodes, 0)
    assert (want.kind, want.episode, want.task, want.count) == ("again", 0, "easy", 2)


def test_attempts_that_could_not_be_judged_were_drawn_all_the_same(attempts: Any, groups: Any) -> None:
    half = {at: (Score.invalid("verifier", "test", "timed out"),) for at in range(5, 9)}
    played = attempts([0.0] * 8, "hard")
    episodes = [replace(played, scores={**played.scores, **half})]
    [want] = wanted([Rounds(Rounds.Config(samples=8))], groups(episodes), episodes, 0)
    assert want.count == 1  # eight more attempts, though four can be compared
    assert wanted([Rounds(Rounds.Config(samples=8, max_rounds=1))], groups(episodes), episodes, 0) == []
    third = [replace(episodes[0], index=at) for at in range(3)]
    assert wanted([Rounds(Rounds.Config(samples=8, max_rounds=3))], groups(third), third, 1, first=1) == []


def test_repeated_tasks_meet_in_one_group(attempts: Any, groups: Any) -> None:
    episodes = [attempts([0.0] * 4, "hard", 0), attempts([1.0] * 4, "hard", 1)]
    [group] = apply([Rounds(Rounds.Config(keep=2))], groups(episodes), episodes)
    assert sorted(group.reward_G) == [0.0, 1.0] and group.pool.size == 8
    assert wanted([Rounds()], groups(episodes), episodes, 1, first=1) == []


def test_length_costs_nothing_then_a_straight_line_then_one(group: Any) -> None:
    """DAPO's soft overlong punishment with 100 tokens at most and a margin of 20 (arXiv 2503.14476)."""
    stage = SoftOverlong(SoftOverlong.Config(longest=100, margin=20))
    found = stage(group([1.0] * 4, tokens=[80, 90, 100, 101]), [])
    assert found.reward_G == [1.0, 0.5, 0.0, 0.0]
    assert [member.components["soft_overlong"] for member in found.members] == [0.0, -0.5, -1.0, -1.0]
    assert found.pool.mean == 1.0
    with pytest.raises(ValueError, match="above longest"):
        SoftOverlong.Config(longest=10, margin=20)
