"""Advantages in closed form, and comparison groups from lineage alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.types import Ending, Episode, Score
from sparring.scenarios.schema import RoleSpec
from sparring.training.advantages.group import MeanBaseline
from sparring.training.credit import Credit, components, credit, form, relatives
from sparring.training.groups import Place
from sparring.training.losses.presets import Dapo
from sparring.training.pack import pack
from sparring.training.stages.filters import Band

Make = Callable[..., Episode]
rewards = st.lists(st.floats(-10, 10).map(lambda value: round(value, 3)), min_size=1, max_size=8)
ONE = {"role": RoleSpec(kind="plain", reward={"r": 1.0})}


def role(**more: Any) -> RoleSpec:
    return RoleSpec(kind="plain", reward={"r": 1.0}, **more)


def siblings(values: Sequence[float | Score], make: Make, author: str = "role", **more: Any) -> Episode:
    """An environment turn and one child per value."""
    turns = [{"author": "environment", "tokens": 0}] + [{"author": author, "parent": 0, **more} for _ in values]
    return make(turns, dict(enumerate(values, 1)))


def values(found: Credit) -> list[float]:
    return [row.value for row in found.advantages]


def test_two_of_three_right_are_a_third_above_the_mean(episode: Make) -> None:
    found = credit([siblings([1.0, 1.0, 0.0], episode)], ONE, MeanBaseline())
    assert values(found) == pytest.approx([1 / 3, 1 / 3, -2 / 3])


def test_an_invalid_reward_is_masked_and_moves_nobodys_baseline(episode: Make) -> None:
    broken = Score.invalid("r", "test", "crashed")
    found = credit([siblings([1.0, broken, 0.0], episode)], ONE, MeanBaseline())
    assert [(row.turn, row.value) for row in found.advantages] == [(1, 0.5), (3, -0.5)]


def test_one_invalid_component_masks_the_whole_reward(episode: Make) -> None:
    made = siblings([1.0], episode)
    scores = {1: (*made.scores[1], Score.invalid("s", "test", "crashed"), Score.missing("t", "test"))}
    made = dataclasses.replace(made, scores=scores)
    assert components(made, made.turns[1], {"r": 2.0}) == {"r": 2.0}
    assert components(made, made.turns[1], {"r": 2.0, "t": 1.0}) == {"r": 2.0}
    assert components(made, made.turns[1], {"r": 2.0, "s": 1.0}) is None
    assert components(made, made.turns[1], {"t": 1.0}) is None


def test_a_reward_that_is_no_number_is_masked(episode: Make) -> None:
    made = siblings([float("nan"), float("inf"), 1.0], episode)
    assert [components(made, turn, {"r": 1.0}) for turn in made.turns[1:]] == [None, None, {"r": 1.0}]


def test_ten_times_the_solvers_tokens_leave_the_teachers_coefficients_alone(episode: Make) -> None:
    roles = {"teacher": role(), "solver": role()}

    def teachers(tokens: int) -> list[float]:
        turns = [{"author": "environment", "tokens": 0}]
        turns += [{"author": "teacher", "parent": 0, "tokens": 6}] * 2
        turns += [{"author": "solver", "parent": 0, "tokens": tokens}] * 2
        made = episode(turns, {1: 1.0, 2: 0.0, 3: 1.0, 4: 0.0})
        rows = pack([made], credit([made], roles, MeanBaseline()).advantages, roles, {"policy": Dapo()}).rows
        return [share for row in rows if row.role == "teacher" for share in row.coefficient_T]

    assert teachers(10) == teachers(100) == ([0.0] * 3 + [1 / 12] * 6) * 2


def test_pull_is_the_share_of_the_roles_coefficient(episode: Make) -> None:
    made = siblings([1.0, 0.0], episode, tokens=4)
    roles = {"role": role(weight=3.0)}
    found = pack([made], credit([made], roles, MeanBaseline()).advantages, roles, {"policy": Dapo()})
    assert [row.pull for row in found.advantages] == pytest.approx([0.5 * 3 * 4 / 8, -0.5 * 3 * 4 / 8])


def test_siblings_are_compared_with_each_other_and_not_with_cousins(episode: Make) -> None:
    turns = [{"author": "environment", "tokens": 0}] + [{"author": "environment", "parent": 0, "tokens": 0}] * 2
    turns += [{"author": "role", "parent": 1}] * 2 + [{"author": "role", "parent": 2}] * 2
    found = credit([episode(turns, {3: 1.0, 4: 0.0, 5: 5.0, 6: 5.0})], ONE, MeanBaseline())
    assert values(found) == [0.5, -0.5, 0.0, 0.0]
    assert [(group.size, group.note) for group in found.groups] == [(2, ""), (2, "all equal")]


def test_only_children_are_compared_with_their_closest_cousins(episode: Make) -> None:
    branches = [{"author": "environment", "tokens": 0}]
    branches += [{"author": "environment", "parent": 0, "tokens": 0}] * 2
    branches += [{"author": "environment", "parent": 1, "tokens": 0}] * 2
    branches += [{"author": "environment", "parent": 2, "tokens": 0}] * 2
    turns = branches + [{"author": "role", "parent": at} for at in (3, 4, 5, 6)]
    found = credit([episode(turns, {7: 1.0, 8: 0.0, 9: 8.0, 10: 6.0})], ONE, MeanBaseline())
    assert {row.turn: row.value for row in found.advantages} == {7: 0.5, 8: -0.5, 9: 1.0, 10: -1.0}


def test_roots_are_compared_within_a_curriculum_decision(episode: Make) -> None:
    episodes = [episode([{"author": "role"}], {0: float(at)}, at, pick=at // 2) for at in range(4)]
    assert values(credit(episodes, ONE, MeanBaseline())) == [-0.5, 0.5, -0.5, 0.5]


def test_groups_met_at_different_depths_do_not_swallow_each_other(episode: Make) -> None:
    turns = [{"author": "environment", "tokens": 0}, {"author": "environment", "parent": 0, "tokens": 0}]
    turns += [{"author": "role", "parent": 0}, {"author": "role", "parent": 0}, {"author": "role", "parent": 1}]
    made = episode(turns, {2: 1.0, 3: 0.0, 4: 0.5})
    assert sorted(row.turn for row in credit([made], ONE, MeanBaseline()).advantages) == [2, 3, 4]


@given(st.lists(st.lists(st.integers(-1, 30), min_size=1, max_size=30), min_size=1, max_size=4))
def test_groups_partition_the_turns_of_any_tree(parents: list[list[int]]) -> None:
    episodes = []
    for at, tree in enumerate(parents):
        turns: list[Any] = [{"author": "role", "parent": min(up, i - 1) if min(up, i - 1) >= 0 else None}
                            for i, up in enumerate(tree)]  # fmt: skip
        from sparring.envs.types import Turn

        made = tuple(Turn(i, turn["parent"], "n", "role", "") for i, turn in enumerate(turns))
        episodes.append(Episode(at, at % 2, {}, made, (), {}, {}, {}, Ending.DONE))
    places = [Place(at, turn.index) for at, one in enumerate(episodes) for turn in one.turns]
    groups = relatives(episodes, places)
    assert sorted(place for members in groups.values() for place in members) == places
    for scope, members in groups.items():
        if scope.startswith("episode"):
            shared = int(scope.split()[-1])
            assert len(members) > 1
            for place in members:
                assert shared in [turn.index for turn in episodes[place.episode].ancestors(place.turn)[1:]]


def test_compare_step_takes_all_turns_of_a_node_together(episode: Make) -> None:
    episodes = [siblings([at, at], episode) for at in (0.0, 1.0)]
    assert values(credit(episodes, {"role": role(compare="step")}, MeanBaseline())) == [-0.5, -0.5, 0.5, 0.5]


def test_compare_baseline_remembers_the_roles_average(episode: Make) -> None:
    roles = {"role": role(compare="baseline")}
    first = credit([siblings([1.0, 0.0], episode)], roles, MeanBaseline(), {"role": 0.4})
    assert values(first) == pytest.approx([0.6, -0.4])
    assert first.baselines == {"role": pytest.approx(0.95 * 0.4 + 0.05 * 0.5)}


def test_broken_episodes_and_frozen_roles_take_no_part(episode: Make) -> None:
    made = siblings([1.0, 0.0], episode)
    broke = dataclasses.replace(made, ending=Ending.BROKE)
    assert credit([broke], ONE, MeanBaseline()).advantages == ()
    assert credit([made], {"role": role(trainable=False)}, MeanBaseline()).advantages == ()


def test_episodes_on_one_task_are_compared_with_each_other(episode: Make) -> None:
    def attempt(task: str, reward: float, at: int) -> Episode:
        turns = [{"author": "environment", "tokens": 0, "task": task}, {"author": "role", "parent": 0, "task": task}]
        return episode(turns, {1: reward}, at)

    episodes = [attempt("a", 1.0, 0), attempt("b", 4.0, 1), attempt("a", 0.0, 2), attempt("c", 2.0, 3)]
    found = credit(episodes, ONE, MeanBaseline())
    assert {row.episode: row.value for row in found.advantages} == {0: 0.5, 2: -0.5, 1: 1.0, 3: -1.0}


def test_a_discounted_turn_is_credited_with_what_its_conversation_earns_later(episode: Make) -> None:
    turns = [{"author": "role"}] + [{"author": "role", "parent": at, "follows": at} for at in (0, 1)]
    groups = form([episode(turns, {0: 1.0, 1: 0.0, 2: 4.0})], "role", role(discount=0.5))
    assert [member.reward for group in groups for member in group.members] == [2.0, 2.0, 4.0]


def test_a_discounted_turn_without_a_reward_of_its_own_earns_what_follows_on_its_branch(episode: Make) -> None:
    turns = [{"author": "role"}, {"author": "environment", "parent": 0, "tokens": 0}, {"author": "role", "parent": 1}]
    whole, unjudged = episode(turns, {2: 4.0}), episode(turns, {})
    groups = form([whole, unjudged], "role", role(discount=1.0))
    found = {member.place: member.reward for group in groups for member in group.members}
    assert found == {(0, 0): 4.0, (0, 2): 4.0}


def test_an_invalid_end_teaches_nothing_to_the_turns_before_it(episode: Make) -> None:
    turns = [{"author": "role"}, {"author": "role", "parent": 0}]
    made = episode(turns, {1: 1.0})
    failed = dataclasses.replace(made, scores={1: (Score.invalid("r", "test", "engine down"),)})
    assert form([failed], "role", role(discount=1.0)) == []


def test_a_stage_drops_a_group_and_says_why(episode: Make) -> None:
    episodes = [siblings([1.0, 1.0, 1.0, 1.0, 0.5], episode), siblings([1.0, 0.0], episode)]
    found = credit(episodes, ONE, MeanBaseline(), stages=[Band(Band.Config(low=0.1, high=0.8))])
    assert values(found) == [0.0] * 5 + [0.5, -0.5]
    assert [(group.kept, group.note) for group in found.groups] == [(False, "mean 0.9 outside [0.1, 0.8]"), (True, "")]
