"""The self-evolving curriculum (arXiv 2505.14970): samples go to the arm that pulls hardest, and move on with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.training.curricula import grpo, practise, rng, through_sql

from sparring.scenarios.load import SHIPPED, load
from sparring.scenarios.recipe_spec import words
from sparring.training.curriculum.arms import RandomArms
from sparring.training.curriculum.bandits import SelfEvolving
from sparring.training.curriculum.base import Wanted

EASY, LEARNABLE, HARD = "depth=1", "depth=2", "depth=3"
CHANCES = {EASY: 1.0, LEARNABLE: 0.5, HARD: 0.0}


def bandit() -> SelfEvolving:
    return SelfEvolving(SelfEvolving.Config(arms={"depth": (1, 2, 3)}, temperature=0.1))


@pytest.mark.parametrize("seed", range(5))
def test_after_fifty_steps_most_samples_are_of_the_arm_that_half_succeeds(seed: int) -> None:
    curriculum = bandit()
    practise(curriculum, CHANCES, 50, seed)
    got = practise(curriculum, CHANCES, 10, seed + 50)
    assert got[LEARNABLE] > 0.6 * got.total()
    control = practise(RandomArms(RandomArms.Config(arms={"depth": (1, 2, 3)})), CHANCES, 60, seed)
    assert control[LEARNABLE] < 0.45 * control.total()


@pytest.mark.parametrize("seed", range(5))
def test_when_the_arm_is_mastered_mass_moves_to_the_next(seed: int) -> None:
    curriculum = bandit()
    practise(curriculum, CHANCES, 50, seed)
    practise(curriculum, {EASY: 1.0, LEARNABLE: 1.0, HARD: 0.5}, 50, seed + 100)
    assert curriculum.weights()[HARD] > 0.6


def test_a_restart_from_sql_has_the_same_values_bit_for_bit() -> None:
    curriculum, again = bandit(), bandit()
    practise(curriculum, {EASY: 0.9, LEARNABLE: 0.4, HARD: 0.1}, 7)
    again.load_state_dict(through_sql(curriculum.state_dict()))
    assert again.value == curriculum.value
    assert again.propose(Wanted(4, 12), rng(5)) == curriculum.propose(Wanted(4, 12), rng(5))


def test_the_signal_peaks_where_half_succeed() -> None:
    draw, chances = rng(), (0.1, 0.3, 0.5, 0.7, 0.9)
    signal = [
        np.mean([np.mean(np.abs(grpo((draw.random(64) < p).astype(float).tolist()))) for _ in range(50)])
        for p in chances
    ]
    assert int(np.argmax(signal)) == 2
    assert signal == pytest.approx([2 * math.sqrt(p * (1 - p)) for p in chances], abs=0.05)


@pytest.mark.parametrize("right", range(1, 8))
def test_the_mean_absolute_advantage_has_its_closed_form(right: int) -> None:
    p, rewards = right / 8, [1.0] * right + [0.0] * (8 - right)
    found = np.mean(np.abs(grpo(rewards, std="population", eps=0.0)))
    assert found == pytest.approx(2 * math.sqrt(p * (1 - p)), abs=1e-12)
    assert np.mean(np.abs(grpo(rewards))) == pytest.approx(found * math.sqrt(7 / 8), abs=1e-3)


@pytest.mark.parametrize("slug", ["sec", "dump", "alp_gmm"])
def test_controls_of_a_curriculum_differ_in_nothing_else(slug: str) -> None:
    file = SHIPPED / "recipes" / f"{slug}.yaml"
    ours = load(file)
    assert ours.recipe is not None and next(iter(ours.recipe.controls)) == "random"
    for changes in ours.recipe.controls.values():
        control = load(file, words(changes))
        assert control.curriculum.kind in ("random", "blocked", "interleaved")
        assert control.model_copy(update={"curriculum": ours.curriculum}) == ours
    assert ours.evaluation.arms  # or held-out tasks would follow what a curriculum names
