"""Estimators over one group, in closed form for 2 to 8 members."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.training.advantages.group import Brpo, Grpo, LeaveOneOut, MeanBaseline, PoolBaseline, Raw
from sparring.training.groups import Group, Pool

Make = Callable[..., Group]
rewards = st.lists(st.floats(-10, 10).map(lambda value: round(value, 3)), min_size=1, max_size=8)
SIZES = [(n, right) for n in range(2, 9) for right in range(1, n)]


def binary(n: int, right: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


def test_two_of_three_right_are_a_third_above_the_mean(group: Make) -> None:
    assert MeanBaseline()([group([1.0, 1.0, 0.0])])[0] == pytest.approx([1 / 3, 1 / 3, -2 / 3])


@pytest.mark.parametrize(("n", "right"), SIZES)
def test_binary_groups_in_closed_form(n: int, right: int, group: Make) -> None:
    p = right / n
    distance = [1 - p] * right + [-p] * (n - right)
    groups = [group(binary(n, right))]
    assert MeanBaseline()(groups)[0] == pytest.approx(distance)
    assert LeaveOneOut()(groups)[0] == pytest.approx([n / (n - 1) * value for value in distance])
    population = math.sqrt(p * (1 - p))
    sample = population * math.sqrt(n / (n - 1))
    assert Grpo()(groups)[0] == pytest.approx([value / (sample + 1e-4) for value in distance])
    exact = Grpo(Grpo.Config(std="population", eps=0.0))
    assert exact(groups)[0] == pytest.approx([value / population for value in distance])


def test_the_two_deviations_of_four_binary_rewards_differ_by_15_percent(group: Make) -> None:
    """TRL, verl and OpenRLHF take n - 1; nano-aha-moment and ART take n: the option names which is meant."""
    sample, population = (Grpo(Grpo.Config(std=kind, eps=0))([group(binary(4, 2))])[0][0]
                          for kind in ("sample", "population"))  # fmt: skip
    assert population / sample == pytest.approx(math.sqrt(4 / 3)) == pytest.approx(1.155, abs=1e-3)


@given(rewards)
def test_leave_one_out_is_the_mean_baseline_times_n_over_n_minus_1(group: Make, reward_G: list[float]) -> None:
    n, found = len(reward_G), LeaveOneOut()([group(reward_G)])[0]
    mean = MeanBaseline()([group(reward_G)])[0]
    assert found == [n / (n - 1) * value if n > 1 else 0.0 for value in mean]
    for at, value in enumerate(found if n > 1 else []):
        others = reward_G[:at] + reward_G[at + 1 :]
        assert value == pytest.approx(reward_G[at] - sum(others) / (n - 1), abs=1e-9)


def test_raw_compares_nothing_and_a_lone_turn_keeps_its_reward(group: Make) -> None:
    assert Raw()([group([1.0, 0.0]), group([0.5], 1)]) == [[1.0, 0.0], [0.5]]
    negative = Raw(Raw.Config(shift=-1.0))  # only the wrong answers teach (arXiv 2506.01347)
    assert negative([group([1.0, 0.0])]) == [[0.0, -1.0]]


def test_the_pools_mean_is_the_baseline_and_not_that_of_what_is_left(group: Make) -> None:
    thinned = group([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).keeping([0, 1])
    assert PoolBaseline()([thinned]) == [[0.875, -0.125]]
    assert MeanBaseline()([thinned]) == [[0.5, -0.5]]


def test_the_pools_deviation_is_named(group: Make) -> None:
    thinned = group([1.0, 0.0, 0.0, 0.0]).keeping([0, 1])
    population = PoolBaseline(PoolBaseline.Config(std="population", eps=0.0))
    assert population([thinned])[0] == pytest.approx([0.75 / math.sqrt(3 / 16), -0.25 / math.sqrt(3 / 16)])
    sample = PoolBaseline(PoolBaseline.Config(std="sample", eps=0.0))
    assert sample([thinned])[0] == pytest.approx([0.75 / 0.5, -0.25 / 0.5])


def test_one_kept_turn_of_a_larger_pool_is_still_compared(group: Make) -> None:
    kept = replace(group([1.0]), pool=Pool(8, 0.125, 0.35))
    assert PoolBaseline()([kept]) == [[0.875]]


@pytest.mark.parametrize("std", ["none", "sample", "population"])
def test_what_comes_into_a_pool_that_agrees_is_not_divided_by_next_to_nothing(std: str, group: Make) -> None:
    failed = group([0.0] * 4)
    shown = replace(failed, members=(*failed.members, replace(failed.members[0], reward=1.0, note="demonstration")))
    pool = PoolBaseline(PoolBaseline.Config.model_validate({"std": std}))
    assert pool([shown]) == [[0.0, 0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("n", range(2, 9))
def test_a_random_member_is_the_reference_and_the_others_get_verdicts(n: int, group: Make) -> None:
    reward_G = [float(i) for i in range(n)]
    relaxed = Brpo()
    for at in range(6):
        found = relaxed([group(reward_G, at)])[0]
        assert found in [[0.0] * n] or found == [(i > found.index(0.0)) - (i < found.index(0.0)) for i in range(n)]


def test_the_reference_depends_on_the_groups_name_alone(group: Make) -> None:
    found = [Brpo()([group([0.0, 1.0, 2.0, 3.0, 4.0], at)])[0] for at in range(40)]
    assert found == [Brpo()([group([0.0, 1.0, 2.0, 3.0, 4.0], at)])[0] for at in range(40)]
    references = {row.index(0.0) for row in found if any(row)}
    assert references == {1, 2, 3}  # the extremes win or lose against everybody: lopsided


def test_a_lopsided_group_teaches_nothing(group: Make) -> None:
    own = Brpo(Brpo.Config(verdicts="own"))
    assert own([group([1.0, 1.0, 0.0, 1.0])]) == [[0.0] * 4]
    assert own([group([1.0, -1.0, 0.0, 1.0])]) == [[1.0, -1.0, 0.0, 1.0]]
    strict = Brpo(Brpo.Config(verdicts="own", lopsided=0.75))
    assert strict([group([1.0, -1.0, 0.0, 1.0, 1.0])]) == [[0.0] * 5]


def test_a_verdict_that_is_none_is_refused(group: Make) -> None:
    with pytest.raises(ValueError, match=r"reward 0.5 is no verdict"):
        Brpo(Brpo.Config(verdicts="own"))([group([1.0, 0.5])])
