"""The curriculum goes where the policy is learning, and goes on after a restart."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.types import Pick
from sparring.training.advantages.group import Grpo
from sparring.training.curriculum.arms import RandomArms
from sparring.training.curriculum.bandits import SelfEvolving
from sparring.training.curriculum.base import Outcome, Wanted, figures
from sparring.training.curriculum.grid import Axis, Value, arms, cells
from sparring.training.groups import Group, Member, Place

DEPTHS: dict[str, tuple[Value, ...]] = {"depth": (1, 2, 3)}
EASY, LEARNABLE, HARD = "depth=1", "depth=2", "depth=3"


def grpo(rewards: list[float]) -> list[float]:
    members = [Member(Place(0, at), reward) for at, reward in enumerate(rewards)]
    return Grpo()([Group.of("solver", "solve", "x", members)])[0]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def came(*advantages: float) -> Outcome:
    return Outcome(advantages, advantages, 1)


def bandit(rate: float = 0.5, temperature: float = 0.1) -> SelfEvolving:
    return SelfEvolving(SelfEvolving.Config(arms=DEPTHS, rate=rate, temperature=temperature))


def learn(curriculum: SelfEvolving, chances: dict[str, float], steps: int, seed: int = 0) -> None:
    """A learner who is right with these chances on each arm; what the trainer would report is observed."""
    draw = rng(seed)
    for _ in range(steps):
        for pick in curriculum.propose(Wanted(4, 12), draw):
            right = (draw.random(8) < chances[pick.arm]).astype(float).tolist()
            curriculum.observe(pick, came(*np.abs(grpo(right)).tolist()))


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


def test_the_signal_peaks_where_half_succeed() -> None:
    draw = rng()
    signal = [
        np.mean([np.mean(np.abs(grpo((draw.random(64) < p).astype(float).tolist()))) for _ in range(50)])
        for p in (0.1, 0.3, 0.5, 0.7, 0.9)
    ]
    assert int(np.argmax(signal)) == 2
    assert signal == pytest.approx([2 * math.sqrt(p * (1 - p)) for p in (0.1, 0.3, 0.5, 0.7, 0.9)], abs=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_mass_goes_to_what_can_be_learned_and_moves_on_when_it_is(seed: int) -> None:
    curriculum = bandit()
    learn(curriculum, {EASY: 1.0, LEARNABLE: 0.5, HARD: 0.0}, 50, seed)
    assert curriculum.weights()[LEARNABLE] > 0.6
    learn(curriculum, {EASY: 1.0, LEARNABLE: 1.0, HARD: 0.5}, 50, seed + 100)
    assert curriculum.weights()[HARD] > 0.6


def test_nothing_observed_teaches_nothing() -> None:
    curriculum = bandit()
    curriculum.observe(Pick(EASY), Outcome(episodes=3))
    curriculum.observe(Pick("an arm of another scenario"), came(1.0))
    assert curriculum.weights() == pytest.approx(dict.fromkeys((EASY, LEARNABLE, HARD), 1 / 3))


def test_state_survives_json_bit_for_bit() -> None:
    curriculum, again = bandit(), bandit()
    learn(curriculum, {EASY: 0.9, LEARNABLE: 0.4, HARD: 0.1}, 7)
    again.load_state_dict(json.loads(json.dumps(curriculum.state_dict())))
    assert again.weights() == curriculum.weights()
    assert again.propose(Wanted(4, 12), rng(5)) == curriculum.propose(Wanted(4, 12), rng(5))


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


def test_a_range_begins_with_its_lower_bound() -> None:
    with pytest.raises(ValueError, match=r"size: \[2\.0, 1\.0\] is no range"):
        RandomArms.Config(ranges={"size": (2.0, 1.0)})
