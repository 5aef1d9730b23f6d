"""What every registered group stage promises, whatever it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.envs.types import Episode
from sparring.scenarios.docstrings import told
from sparring.scenarios.registry import group_stages
from sparring.training.groups import Group, Place
from sparring.training.stages import demonstration, filters, lengths, subsets, substitutes
from sparring.training.stages.base import Asking, apply

OURS = (demonstration, filters, lengths, subsets, substitutes)  # importing them registers what they hold
NAMES = [name for name in group_stages.names() if group_stages.get(name).__module__.startswith("sparring.")]
OPTIONS: dict[str, dict[str, Any]] = {
    "replace": {"node": "revise"}, "insert": {"node": "revise"}, "demonstrations": {"role": "solver"},
}  # fmt: skip
rewards = st.lists(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=9), min_size=1, max_size=3)


def made(name: str, **more: Any) -> Any:
    part = group_stages.get(name)
    return part(part.Config(**(OPTIONS.get(name, {}) | more)))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(rewards=rewards)
def test_pools_stay_places_exist_and_nobody_is_in_twice(name: str, attempts: Any, groups: Any, rewards: Any) -> None:
    episodes = [attempts(row, f"t{at}", at) for at, row in enumerate(rewards)]
    before = groups(episodes)
    after = apply([made(name)], before, episodes)
    assert [one.pool for one in after] == [one.pool for one in before]
    assert [(one.role, one.node, one.scope) for one in after] == [(one.role, one.node, one.scope) for one in before]
    places = [member.place for one in after for member in one.members]
    assert len(set(places)) == len(places)
    assert set(places) <= {Place(at, turn.index) for at, one in enumerate(episodes) for turn in one.turns}


@pytest.mark.parametrize("name", NAMES)
def test_a_dropped_group_passes_through_with_its_first_reason(name: str, attempts: Any, groups: Any) -> None:
    episodes = [attempts([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])]
    [dropped] = [group.without("for a reason") for group in groups(episodes)]
    assert made(name)(dropped, episodes) == dropped
    assert apply([made(name)], [dropped], episodes) == [dropped]


@pytest.mark.parametrize("name", NAMES)
def test_another_roles_groups_pass_through(name: str, attempts: Any, groups: Any) -> None:
    episodes = [attempts([0.0] * 4 + [5.0] + [0.0] * 8)]
    before = groups(episodes)
    assert apply([made(name, role="critic")], before, episodes) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_is_pure_and_idempotent(name: str, attempts: Any, groups: Any) -> None:
    episodes: list[Episode] = [attempts([0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.5, 0.5]), attempts([0.0, 0.0], "u", 1)]
    before = groups(episodes)
    once = apply([made(name)], before, episodes)
    assert apply([made(name)], before, episodes) == once
    assert apply([made(name)], once, episodes) == once
    assert groups(episodes) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_group_emptied_before_is_left_alone(name: str, group: Callable[..., Group], attempts: Any) -> None:
    empty = group([1.0, 0.0]).keeping([])
    assert made(name)(empty, [attempts([1.0, 0.0])]).members == ()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_wanting_always_ends(name: str, chance: float, player: Any) -> None:
    stage = made(name)
    played = player([chance] * 3, samples=4)
    assert (played.play([stage]) > 0) == (isinstance(stage, Asking) and name in ("varied", "rounds"))


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_says_formula_and_source(name: str) -> None:
    said = told(group_stages.get(name))
    assert said.summary and said.formula and "arXiv" in said.source
