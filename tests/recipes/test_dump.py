"""Upper confidence bounds over arms (DUMP, arXiv 2504.09710): windowed mean |A| plus a bonus, softmax at 0.1."""

from __future__ import annotations

import math

import pytest
from tests.training.curricula import practise, rng, through_sql

from sparring.envs.types import Pick
from sparring.training.curriculum.bandits import UpperConfidence
from sparring.training.curriculum.base import Outcome, Wanted

EASY, LEARNABLE, HARD = "depth=1", "depth=2", "depth=3"


def bandit(**options: object) -> UpperConfidence:
    return UpperConfidence(UpperConfidence.Config.model_validate({"arms": {"depth": (1, 2, 3)}, **options}))


def heard(curriculum: UpperConfidence, arm: str, *advantages: float, episodes: int = 1) -> None:
    curriculum.observe(Pick(arm), Outcome(advantages, (), episodes))


def test_scores_and_weights_equal_the_closed_form() -> None:
    curriculum = bandit(window=3)
    heard(curriculum, EASY, 0.9, 0.2, 0.1)
    heard(curriculum, EASY, 0.3)
    heard(curriculum, LEARNABLE, 0.5, 0.7)
    total = 4 + 2
    means, counts = [(0.2 + 0.1 + 0.3) / 3, 0.6, 0.0], [4, 2, 0]
    scores = [mean + math.sqrt(2 * math.log(total + 1) / (n + 1)) for mean, n in zip(means, counts, strict=True)]
    assert list(curriculum.scores().values()) == pytest.approx(scores, abs=1e-6)
    mass = [math.exp(score / 0.1) for score in scores]
    assert list(curriculum.weights().values()) == pytest.approx([one / sum(mass) for one in mass], abs=1e-6)


def test_defaults_are_those_of_the_published_code() -> None:
    settings = UpperConfidence.Config()
    assert (settings.window, settings.temperature, settings.counts) == (300, 0.1, "turns")


def test_an_arm_never_sampled_has_the_largest_bonus() -> None:
    curriculum = bandit()
    heard(curriculum, EASY, 1.0)
    heard(curriculum, LEARNABLE, *[1.0] * 5)
    bonus = curriculum.bonus()
    assert bonus[HARD] > bonus[EASY] > bonus[LEARNABLE]
    assert bandit().weights() == pytest.approx(dict.fromkeys((EASY, LEARNABLE, HARD), 1 / 3))


def test_with_equal_counts_the_larger_windowed_mean_has_more_mass() -> None:
    curriculum = bandit(window=2)
    heard(curriculum, EASY, 1.0, 1.0, 0.1, 0.1)
    heard(curriculum, LEARNABLE, 0.0, 0.0, 0.2, 0.2)
    shares = curriculum.weights()
    assert curriculum.count[EASY] == curriculum.count[LEARNABLE] and shares[LEARNABLE] > shares[EASY]


@pytest.mark.parametrize(("counts", "expected"), [("turns", 8), ("episodes", 2), ("picks", 1)])
def test_what_the_bonus_counts_is_an_option(counts: str, expected: int) -> None:
    curriculum = bandit(counts=counts)
    heard(curriculum, EASY, *[0.5] * 8, episodes=2)
    assert curriculum.count == {EASY: expected, LEARNABLE: 0, HARD: 0}


def test_nothing_valued_counts_for_nothing() -> None:
    curriculum = bandit(counts="episodes")
    heard(curriculum, EASY, episodes=3)
    heard(curriculum, "an arm of another scenario", 1.0)
    assert curriculum.state_dict() == bandit().state_dict()


@pytest.mark.parametrize("seed", range(3))
def test_mass_goes_to_what_can_be_learned(seed: int) -> None:
    curriculum = bandit()
    practise(curriculum, {EASY: 1.0, LEARNABLE: 0.5, HARD: 0.0}, 50, seed)
    assert curriculum.weights()[LEARNABLE] > 0.6
    figures = curriculum.figures()
    assert 0.7 < figures["value"] < 1.0 and 0 < figures["bonus"] < 1.0


def test_a_restart_from_sql_goes_on_exactly() -> None:
    curriculum, again = bandit(window=5), bandit(window=5)
    practise(curriculum, {EASY: 0.9, LEARNABLE: 0.4, HARD: 0.1}, 7)
    again.load_state_dict(through_sql(curriculum.state_dict()))
    assert again.state_dict() == curriculum.state_dict()
    assert again.propose(Wanted(4, 12), rng(5)) == curriculum.propose(Wanted(4, 12), rng(5))
