"""Learning progress over a box of parameters (ALP-GMM, arXiv 1910.07224)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from tests.training.curricula import explored, rng, through_sql

from sparring.envs.code.env import CodeEnvironment
from sparring.envs.types import Pick
from sparring.training.curriculum.arms import RandomArms
from sparring.training.curriculum.base import Outcome, Wanted
from sparring.training.curriculum.mixture import Mixture, best, fit
from sparring.training.curriculum.progress import LearningProgress

BOX = {"depth": (0.0, 1.0), "size": (0.0, 1.0)}


def teacher(**options: object) -> LearningProgress:
    return LearningProgress(LearningProgress.Config.model_validate({"ranges": BOX, "fit_every": 75, **options}))


def tell(curriculum: LearningProgress, depth: float, size: float, *rewards: float) -> None:
    curriculum.observe(Pick("", {"depth": depth, "size": size}), Outcome((), rewards, 1))


def in_band(places: Sequence[tuple[float, float]]) -> float:
    return float(np.mean([0.2 <= depth < 0.35 for depth, _ in places]))


@pytest.mark.parametrize("seed", range(2))
def test_the_learnable_band_gets_at_least_twice_its_share(seed: int) -> None:
    found = explored(teacher(), 600, seed)[75:]
    control = explored(RandomArms(RandomArms.Config(ranges=BOX)), 600, seed)[75:]
    assert in_band(found) > 2 * in_band(control)
    assert in_band(found) > 2 * 0.15
    assert all(0 <= depth <= 1 and 0 <= size <= 1 for depth, size in found)


def test_progress_is_the_change_since_the_nearest_earlier_task() -> None:
    curriculum = teacher(ranges={"depth": (0.0, 10.0), "size": (0.0, 1000.0)})
    tell(curriculum, 5.0, 500.0, 0.2)
    tell(curriculum, 5.0, 900.0, 1.0)
    tell(curriculum, 8.0, 500.0, 0.5, 0.7)  # nearest in shares of the ranges, though 3 lies closer to 0 than 400 does
    tell(curriculum, 5.0, 900.0, 0.75)
    tell(curriculum, 5.0, 900.0, 0.5)  # of two at the same place the newer counts
    assert [task[-1] for task in curriculum.tasks] == pytest.approx([0.0, 0.8, 0.4, 0.25, 0.25])


def test_nothing_valued_teaches_nothing() -> None:
    curriculum = teacher()
    tell(curriculum, 0.5, 0.5)
    curriculum.observe(Pick("", {}), Outcome((), (1.0,), 1))
    assert curriculum.state_dict() == teacher().state_dict()


def test_a_mixture_is_fitted_every_so_many_tasks_and_used_but_for_the_random_share() -> None:
    curriculum = teacher(fit_every=20, components=[2, 2])
    assert curriculum.figures()["random"] == 1.0
    draw = rng(1)
    for at in range(20):
        assert curriculum.mixture is None
        low = at % 2 == 0  # what changes lies at one place, what stays at another
        tell(curriculum, 0.2 if low else 0.9, 0.5, float(at % 4 == 2))
    assert curriculum.figures() == pytest.approx({"alp": np.mean([t[-1] for t in curriculum.tasks]), "components": 2,
                                                  "random": 0.2})  # fmt: skip
    picks = curriculum.propose(Wanted(500, 500), draw)
    near = np.mean([abs(float(pick.parameters["depth"]) - 0.2) < 0.1 for pick in picks])
    assert 0.75 < near < 0.9  # four fifths of the picks, and the random ones that fall there
    weights = curriculum.weights()
    assert sum(weights.values()) == pytest.approx(1) and weights["depth=0..0.3333, size=0.3333..0.6667"] == 0.5


def test_all_proposals_lie_inside_whatever_was_learned() -> None:
    curriculum = teacher(ranges={"depth": (1, 5), "size": (0.5, 4.0)}, fit_every=30, components=[2, 3], random=0.0)
    draw = rng(2)
    for at in range(30):  # at the very corner, so that half of a component lies outside
        tell(curriculum, 5, 4.0 - 0.01 * draw.random(), float(at % 2))
    picks = curriculum.propose(Wanted(300, 600), draw)
    assert {type(pick.parameters["depth"]) for pick in picks} == {int}
    assert all(pick.parameters["depth"] == 5 and 3.5 < float(pick.parameters["size"]) <= 4.0 for pick in picks)
    assert sum(pick.count for pick in picks) == 600 and {pick.arm for pick in picks} == {"depth=4..5, size=2.833..4"}


def test_a_restart_from_sql_goes_on_exactly() -> None:
    curriculum, again = teacher(memory=100), teacher(memory=100)
    explored(curriculum, 150, 3)
    again.load_state_dict(through_sql(curriculum.state_dict()))
    assert again.state_dict() == curriculum.state_dict() and len(again.tasks) == 100 and again.mixture is not None
    assert again.propose(Wanted(4, 12), rng(5)) == curriculum.propose(Wanted(4, 12), rng(5))
    assert explored(again, 150, 4) == explored(curriculum, 150, 4)
    other = LearningProgress(LearningProgress.Config(ranges={"depth": (1, 5)}))
    other.load_state_dict(curriculum.state_dict())
    assert other.tasks == [] and other.mixture is None


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_criterion_finds_how_many_clusters_there_are(count: int) -> None:
    draw = rng(count)
    centre_KD = np.array([[0.1, 0.1, 0.1], [0.9, 0.9, 0.1], [0.1, 0.9, 0.9], [0.9, 0.1, 0.9], [0.5, 0.5, 0.5]])[:count]
    point_SD = np.concatenate([centre + 0.03 * draw.standard_normal((60, 3)) for centre in centre_KD])
    found = best(point_SD, range(2, 11))
    assert len(found.weight_K) == count and found.weight_K == pytest.approx([1 / count] * count, abs=0.02)
    nearest = [np.linalg.norm(found.mean_KD - centre, axis=1).min() for centre in centre_KD]
    assert max(nearest) < 0.02


def test_one_gaussian_is_fitted_in_closed_form() -> None:
    point_SD = rng().random((40, 2))
    found = fit(point_SD, 1)
    assert found.mean_KD[0] == pytest.approx(point_SD.mean(0))
    assert found.covariance_KDD[0] == pytest.approx(np.cov(point_SD.T, bias=True) + 1e-4 * np.eye(2))
    gap_SD = point_SD - point_SD.mean(0)
    squared_S = np.einsum("si,ij,sj->s", gap_SD, np.linalg.inv(found.covariance_KDD[0]), gap_SD)
    whole = -0.5 * (squared_S + np.log(np.linalg.det(2 * np.pi * found.covariance_KDD[0]))).sum()
    assert found.likelihood(point_SD) == pytest.approx(whole)
    assert found.aic(point_SD) == pytest.approx(2 * 5 - 2 * whole)


def test_equal_points_make_fewer_components_and_no_error() -> None:
    assert len(fit(np.full((20, 3), 0.5), 4).weight_K) == 1
    two = fit(np.repeat([[0.0, 0.0], [1.0, 1.0]], 10, axis=0), 6)
    assert len(two.weight_K) == 2
    assert Mixture.of_json(two.to_json()).mean_KD.tolist() == two.mean_KD.tolist()


def test_the_environment_says_its_continuous_parameters_as_a_gymnasium_box() -> None:
    environment = CodeEnvironment({"mode": "predict_output"})
    box = environment.parameter_space
    assert box is not None and box.low.tolist() == [1.0, 0.5] and box.high.tolist() == [6.0, 4.0]
    assert list(environment.ranges) == ["depth", "magnitude"]
    assert CodeEnvironment({"mode": "function"}).parameter_space is None


@pytest.mark.parametrize("magnitude", [0.5, 1.3, 4.0])
@pytest.mark.parametrize("depth", [1, 5])
def test_literals_grow_with_the_magnitude(depth: int, magnitude: float) -> None:
    environment = CodeEnvironment({"mode": "predict_output"})
    parameters = {"depth": depth, "magnitude": magnitude}
    tasks = [environment.sample(parameters, rng(seed)) for seed in range(20)] + [
        environment.held_out(parameters, rng())
    ]
    written = [int(word) for task in tasks for word in re.findall(r"\b\d+\b", task.payload["program"])]
    assert max(written) <= max(7, round(10**magnitude)) and max(written) >= 10**magnitude / 4
    assert all(task.parameters.items() >= parameters.items() for task in tasks)
