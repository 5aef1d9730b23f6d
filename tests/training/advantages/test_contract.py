"""What every registered estimator promises, whatever its formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.scenarios.docstrings import told
from sparring.scenarios.registry import advantages
from sparring.training.advantages import bnpo, step, tokens
from sparring.training.advantages import group as by_group
from sparring.training.advantages.base import TokenAdvantage
from sparring.training.groups import Group

OURS = (bnpo, by_group, step, tokens)  # importing them registers what they hold
Make = Callable[..., Group]
ragged = st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.25, 1.0]), min_size=1, max_size=6), min_size=1, max_size=4)
NAMES = [name for name in advantages.names() if advantages.get(name).__module__.startswith("sparring.")]
BASELINES = [name for name in NAMES if name not in ("raw", "signed", "gae", "return_to_go")]


def made(name: str) -> Any:
    return advantages.get(name)()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(rewards=ragged)
def test_ragged_groups_give_one_finite_number_per_member(name: str, group: Make, rewards: list[list[float]]) -> None:
    groups = [group(row, at, tokens=[1 + i for i in range(len(row))]) for at, row in enumerate(rewards)]
    found = made(name)(groups)
    assert [len(row) for row in found] == [len(row) for row in rewards]
    assert all(abs(value) < 1e7 for row in found for value in row)


@pytest.mark.parametrize("name", BASELINES)
def test_a_group_of_one_gets_nothing(name: str, group: Make) -> None:
    """verl's GRPO and RLOO take mean 0 and std 1 there, so a lone turn keeps its raw reward (verl core_algos.py)."""
    assert made(name)([group([7.0])]) == [[0.0]]


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in ("cross_group", "brpo")])
def test_a_group_of_one_gets_nothing_among_others(name: str, group: Make) -> None:
    found = made(name)([group([1.0, 0.0], 0), group([1.0], 1), group([1.0, 0.0, 0.0], 2)])
    assert found[1] == [0.0]
    assert found[0][0] > 0 > found[0][1]


@pytest.mark.parametrize("name", BASELINES)
def test_equal_rewards_teach_nothing(name: str, group: Make) -> None:
    for value in (0.1, 0.0, 1.0, 5.0):
        assert made(name)([group([value] * 3), group([value] * 2, 1)]) == [[0.0] * 3, [0.0] * 2]


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("shift", [-3.0, 0.5, 100.0])
def test_a_constant_added_to_every_reward_changes_nothing(name: str, shift: float, group: Make) -> None:
    rewards = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 1.0]]
    plain = made(name)([group(row, at) for at, row in enumerate(rewards)])
    shifted = made(name)([group([r + shift for r in row], at) for at, row in enumerate(rewards)])
    assert [x for row in shifted for x in row] == pytest.approx([x for row in plain for x in row], abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_refused_by_name(name: str, bad: float, group: Make) -> None:
    with pytest.raises(ValueError, match=r"turn 1 of episode 3 is not finite"):
        made(name)([group([1.0, bad], 3)])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_groups_give_the_same_numbers_and_stay_as_they_are(name: str, group: Make) -> None:
    groups = [group([1.0, 0.0, 0.5]), group([0.0, 1.0], 1)]
    before = [replace(one) for one in groups]
    assert made(name)(groups) == made(name)(groups)
    assert groups == before


@pytest.mark.parametrize("name", NAMES)
def test_no_groups_give_no_numbers(name: str) -> None:
    assert made(name)([]) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_says_formula_and_source(name: str) -> None:
    said = told(advantages.get(name))
    assert said.summary and said.formula and ("arXiv" in said.source or "1992" in said.source)


def test_estimators_per_token_say_what_they_need() -> None:
    found = {name: made(name).needs for name in NAMES if isinstance(made(name), TokenAdvantage)}
    assert found == {"gae": {"value"}, "return_to_go": frozenset(), "implicit_process": {"process", "reference"}}
