"""Arms, boxes and what a curriculum is told: the rules that every kind shares."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.curricula import rng

from sparring.envs.types import Pick
from sparring.storage.records import AdvantageRow
from sparring.training.curriculum.arms import BlockedArms, InterleavedArms, RandomArms
from sparring.training.curriculum.bandits import SelfEvolving
from sparring.training.curriculum.base import Outcome, Wanted, figures
from sparring.training.curriculum.grid import Axis, Bounds, Box, Value, arms, cells, evenly, spread

DEPTHS: dict[str, tuple[Value, ...]] = {"depth": (1, 2, 3)}
EASY, LEARNABLE, HARD = "depth=1", "depth=2", "depth=3"


def came(*advantages: float) -> Outcome:
    return Outcome(advantages, advantages, 1)


def bandit(rate: float = 0.5, temperature: float = 0.1) -> SelfEvolving:
    return SelfEvolving(SelfEvolving.Config(arms=DEPTHS, rate=rate, temperature=temperature))


def test_values_follow_the_formula() -> None:
    curriculum = bandit(rate=0.25, temperature=0.5)
    for signal in (0.8, 0.4):
        curriculum.observe(Pick(LEARNABLE), came(signal))
    value = 0.75 * (0.25 * 0.8) + 0.25 * 0.4
    assert curriculum.state_dict()["value"] == pytest.approx({EASY: 0.0, LEARNABLE: value, HARD: 0.0})
    mass = math.exp(value / 0.5)
    assert curriculum.weights() == pytest.approx(
        {EASY: 1 / (2 + mass), LEARNABLE: mass / (2 + mass), HARD: 1 / (2 + mass)}
    )


def test_nothing_observed_teaches_nothing() -> None:
    curriculum = bandit()
    curriculum.observe(Pick(EASY), Outcome(episodes=3))
    curriculum.observe(Pick("an arm of another scenario"), came(1.0))
    assert curriculum.weights() == pytest.approx(dict.fromkeys((EASY, LEARNABLE, HARD), 1 / 3))


def test_random_arms_are_uniform() -> None:
    curriculum = RandomArms(RandomArms.Config(arms=DEPTHS))
    curriculum.observe(Pick(EASY), came(5.0))
    drawn: Counter[str] = Counter()
    for seed in range(300):
        for pick in curriculum.propose(Wanted(10, 10), rng(seed)):
            drawn[pick.arm] += pick.count
    assert all(abs(count - 1000) < 110 for count in drawn.values())  # 4 standard deviations


@given(picks=st.integers(1, 20), more=st.integers(0, 30), seed=st.integers(0, 2**63))
def test_counts_add_up_to_the_episodes(picks: int, more: int, seed: int) -> None:
    found = bandit().propose(Wanted(picks, picks + more), rng(seed))
    assert sum(pick.count for pick in found) == picks + more
    assert len({pick.arm for pick in found}) == len(found) and all(pick.count > 0 for pick in found)


def test_an_arm_is_one_combination() -> None:
    assert list(arms({"a": [1, 2], "b": ["x", "y"]})) == ["a=1, b=x", "a=1, b=y", "a=2, b=x", "a=2, b=y"]


def test_figures_are_of_the_arms_shares_and_of_what_was_heard() -> None:
    curriculum = bandit(temperature=0.5)
    heard = [came(0.2, 0.4), Outcome(episodes=1), came(0.9)]
    curriculum.observe(Pick(LEARNABLE), came(1.0))
    found, share = figures(curriculum, heard), curriculum.weights()
    entropy = -sum(one * math.log(one) for one in share.values())
    expected = {"entropy": entropy, "largest": share[LEARNABLE], "signal": 0.5, "value": 0.5}
    assert found == pytest.approx(expected)


def test_a_curriculum_without_a_choice_has_no_figures() -> None:
    assert figures(RandomArms(), [came(1.0)]) == {}


def test_every_pick_of_a_box_is_a_point_in_its_own_cell() -> None:
    settings = RandomArms.Config(ranges={"depth": (1, 5), "size": (0.5, 4.0)}, cells=2)
    curriculum = RandomArms(settings)
    assert next(iter(curriculum.cells)) == "depth=1..2, size=0.5..2.25"
    picks = [pick for seed in range(50) for pick in curriculum.propose(Wanted(8, 20), rng(seed))]
    assert {type(pick.parameters["depth"]) for pick in picks} == {int} and len(picks) == 400
    assert sum(pick.count for pick in picks) == 1000
    low = [pick for pick in picks if pick.arm == "depth=1..2, size=0.5..2.25"]
    assert {pick.parameters["depth"] for pick in low} == {1, 2}
    assert all(0.5 <= pick.parameters["size"] <= 2.25 for pick in low) and 60 < len(low) < 140


@given(low=st.integers(-9, 9), more=st.integers(1, 20), share=st.floats(0, 1), parts=st.integers(1, 30))
def test_whole_bounds_make_whole_numbers_with_equal_shares(low: int, more: int, share: float, parts: int) -> None:
    axis = Axis(low, low + more)
    value = axis.value(share)
    assert isinstance(value, int) and low <= value <= low + more
    assert abs(axis.share(value) - share) <= 0.5 / (more + 1) + 1e-9
    cuts = axis.cuts(parts)
    assert cuts[0] == 0 and cuts[-1] == 1 and cuts == sorted(set(cuts))


def test_values_listed_and_ranges_cut_make_one_grid() -> None:
    found = cells({"kind": ["x", "y"]}, {"depth": (1, 3), "size": (0.0, 1.0)}, 4)
    assert len(found) == 2 * 3 * 4 and "kind=y, depth=3, size=0.75..1" in found
    assert found["kind=y, depth=3, size=0.75..1"].centre() == {"kind": "y", "depth": 3, "size": 0.875}


@pytest.mark.parametrize("bounds", [(10_000, 10_010), (1000.0, 1000.5), (-1e6, -1e6 + 3)])
def test_cells_of_a_narrow_range_far_from_0_have_names_of_their_own(bounds: Bounds) -> None:
    box = Box({"x": bounds}, 3)
    assert len(box.cells) == 3
    assert [box.cell(np.array([share])) for share in (0.1, 0.5, 0.9)] == list(box.cells)
    drawn = {pick.arm for pick in RandomArms(RandomArms.Config(ranges={"x": bounds})).propose(Wanted(60, 60), rng())}
    assert drawn == set(box.cells)


def test_a_range_begins_with_its_lower_bound() -> None:
    with pytest.raises(ValueError, match=r"size: \[2\.0, 1\.0\] is no range"):
        RandomArms.Config(ranges={"size": (2.0, 1.0)})


def test_interleaved_arms_come_round_and_go_on_where_the_last_step_ended() -> None:
    curriculum = InterleavedArms(InterleavedArms.Config(arms={"depth": (1, 2, 3)}))
    steps = [curriculum.propose(Wanted(2, 6, step, 9), rng()) for step in (1, 2, 3)]
    assert [[pick.arm for pick in picks] for picks in steps] == [[EASY, LEARNABLE], [EASY, HARD], [LEARNABLE, HARD]]
    again = InterleavedArms(InterleavedArms.Config(arms={"depth": (1, 2, 3)}))
    assert again.propose(Wanted(2, 6, 3, 9), rng(1)) == steps[2]


@pytest.mark.parametrize(("steps", "expected"), [(None, [1, 1, 1, 2, 2, 3, 3]), (3, [1, 2, 3, 3, 3, 3, 3])])
def test_blocks_come_in_the_order_written(steps: int | None, expected: list[int]) -> None:
    curriculum = BlockedArms(BlockedArms.Config(arms={"depth": (3, 2, 1)}, steps=steps))
    for step, depth in enumerate(expected, 1):
        (pick,) = curriculum.propose(Wanted(4, 12, step, 7), rng(step))
        assert (pick.parameters, pick.count) == ({"depth": 4 - depth}, 12)
        assert curriculum.weights()[pick.arm] == 1.0


def test_tasks_are_spread_over_the_middles_of_a_box() -> None:
    options = {"arms": {"kind": ["x"]}, "ranges": {"size": [0.0, 3.0]}, "cells": 3}
    assert [cell["size"] for cell in spread(options).values()] == [0.5, 1.5, 2.5]
    assert spread({}) == {"any": {}}


@given(st.integers(1, 40), st.integers(1, 100))
def test_held_out_tasks_come_from_all_over_the_arms_however_few_they_are(arms: int, tasks: int) -> None:
    found = [int(name) for name in evenly([str(arm) for arm in range(arms)], tasks)]
    counts = Counter(found)
    assert len(found) == tasks and len(counts) == min(arms, tasks)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert tasks >= arms or abs(np.mean(found) - (arms - 1) / 2) <= arms / tasks


def test_what_a_demonstration_earns_is_not_the_learners_reward() -> None:
    tried = [AdvantageRow(0, at, "solver", 0, 0.0, -0.35, 1.0, 3, 0.0) for at in range(2)]
    shown = AdvantageRow(0, 2, "solver", 0, 1.0, 0.7, 1.0, 3, 0.0, note="demonstration")
    found = Outcome.of([*tried, shown], 1)
    assert (found.reward, found.advantages) == (0.0, (0.35, 0.35, 0.7))
    assert Outcome.of([shown], 1).reward is None


def test_a_trainer_that_marks_turns_does_not_change_what_the_curriculum_hears(run: Any, unbroken: Any) -> None:
    marked = run("marked", "training.steps=1", "training.trainers={rl: {}, sft: {keep: all}}", "evaluation.every=0")
    query = "SELECT metrics, curriculum_state FROM steps WHERE number = 1"
    (one,), (other,) = marked.rows(query), unbroken.rows(query)
    assert json.loads(one[1]) == json.loads(other[1])
    assert json.loads(one[0])["curriculum/signal"] == json.loads(other[0])["curriculum/signal"]
    assert marked.rows("SELECT count(*) FROM advantages WHERE trainer = 'sft'")[0][0] > 0


def test_a_step_tells_the_curriculums_figures(unbroken: Any) -> None:
    (told,) = unbroken.rows("SELECT metrics, curriculum_state FROM steps WHERE number = 2")
    metrics, state = json.loads(told[0]), json.loads(told[1])
    names = {name for name in metrics if name.startswith("curriculum/")}
    assert names == {"curriculum/entropy", "curriculum/largest", "curriculum/signal", "curriculum/value"}
    assert metrics["curriculum/value"] == max(state["value"].values())
