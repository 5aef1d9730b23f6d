"""Estimators over all of a role's groups: whitening, several rewards, one baseline, Beta normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.training.advantages.bnpo import CAP, Beta, Bnpo, fit
from sparring.training.advantages.group import Grpo, MeanBaseline
from sparring.training.advantages.step import CrossGroup, Gdpo, Whiten, WhitenOptions
from sparring.training.groups import Group, Member, Place

Make = Callable[..., Group]
binary = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=8), min_size=1, max_size=5)


def flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [value for row in rows for value in row]


def of(rows: Sequence[dict[str, float]], at: int = 0) -> Group:
    """A group of turns with several rewards each."""
    members = [Member(Place(at, i), sum(row.values()), row, 2) for i, row in enumerate(rows)]
    return Group.of("role", "node", f"episode {at} turn 0", members)


def test_whitened_advantages_have_mean_0_and_variance_1_over_tokens(group: Make) -> None:
    groups = [group([1.0, 0.0, 0.0], 0, tokens=[2, 9, 4]), group([3.0, 5.0], 1, tokens=[1, 7])]
    values = np.asarray(flat(Whiten(WhitenOptions(eps=0.0))(groups)))
    tokens = np.asarray([2, 9, 4, 1, 7])
    assert np.average(values, weights=tokens) == pytest.approx(0, abs=1e-12)
    assert np.average(values**2, weights=tokens) == pytest.approx(1)


def test_whitening_by_turns_ignores_lengths(group: Make) -> None:
    groups = [group([1.0, 0.0, 0.0, 0.0], 0, tokens=[2, 900, 4, 1])]
    found = Whiten(WhitenOptions(by="turns", eps=0.0))(groups)
    assert flat(found) == pytest.approx(flat(Grpo(Grpo.Config(std="population", eps=0))(groups)))


def test_a_reward_sum_hides_what_separate_normalisation_shows() -> None:
    """Sums of z-scored rewards tell apart what the z-score of a sum takes for equal (GDPO, arXiv 2601.05242)."""
    rows = [{"right": 1.0, "short": 0.0}, {"right": 0.0, "short": 1.0}, {"right": 0.0, "short": 1.0},
            {"right": 0.0, "short": 0.0}]  # fmt: skip
    together, apart = Grpo()([of(rows)])[0], Gdpo()([of(rows)])[0]
    assert together[0] == together[1]
    assert apart[0] > apart[1] == apart[2] > apart[3]


def test_gdpo_of_one_reward_is_the_whitened_z_score(group: Make) -> None:
    rewards = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.5]]
    groups = [group(row, at) for at, row in enumerate(rewards)]
    scores = np.asarray(flat(Grpo()(groups)))
    assert flat(Gdpo()(groups)) == pytest.approx((scores - scores.mean()) / np.sqrt(scores.var() + 1e-8))


def test_gdpo_weighs_rewards_by_name_and_masks_those_a_turn_lacks() -> None:
    rows = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}, {"b": 0.0}, {"a": 0.0, "b": 0.0}]
    only_a = Gdpo(Gdpo.Config(weights={"b": 0.0}))([of(rows)])[0]
    assert only_a[0] > only_a[2] > only_a[1] == only_a[3]


def test_one_baseline_stands_for_all_groups(group: Make) -> None:
    groups = [group([1.0, 1.0]), group([0.0, 0.0], 1), group([0.5], 2)]
    assert CrossGroup(CrossGroup.Config(std="none"))(groups) == [[0.5, 0.5], [-0.5, -0.5], [0.0]]
    scale = np.std([1, 1, 0, 0, 0.5], ddof=1) + 1e-4
    assert CrossGroup()(groups)[0] == pytest.approx([0.5 / scale] * 2)


@given(binary)
def test_bnpo_with_a_uniform_density_is_the_mean_baseline_exactly(group: Make, rewards: list[list[float]]) -> None:
    groups = [group(row, at) for at, row in enumerate(rewards)]
    assert Bnpo(Bnpo.Config(alpha=1.0, beta=1.0))(groups) == MeanBaseline()(groups)


@given(binary)
def test_bnpo_with_three_halves_is_the_z_score_times_pi_over_8(group: Make, rewards: list[list[float]]) -> None:
    groups = [group(row, at) for at, row in enumerate(rewards)]
    scores = flat(Grpo(Grpo.Config(std="population", eps=0.0))(groups))
    found = flat(Bnpo(Bnpo.Config(alpha=1.5, beta=1.5))(groups))
    assert found == pytest.approx([math.pi / 8 * value for value in scores], rel=1e-12)


def test_the_fit_has_the_moments_of_the_means() -> None:
    m, v = 0.5, (2 * 0.25**2) / 1
    a = (m * (1 - m) / v - 1) * m
    assert fit([0.25, 0.75]) == pytest.approx(Beta(1 + a / 3, 1 + a / 3))
    m, v = 0.25, 0.025 / 3
    size = m * (1 - m) / v - 1
    assert fit([0.15, 0.2, 0.3, 0.35]) == pytest.approx(Beta(1 + size * m / 3, 1 + size * (1 - m) / 3))
    assert fit([0.0, 1.0]) == Beta(1.0, 1.0)  # a and b below 0 are cut at 1


@pytest.mark.parametrize("means", [[], [0.5], [0.5, 0.5], [0.0, 0.0], [1.0, 1.0, 1.0]])
def test_means_without_spread_leave_the_density_uniform(means: list[float]) -> None:
    assert fit(means) == Beta(1.0, 1.0)


@pytest.mark.parametrize(
    "rewards", [[[1.0, 0.0], [0.0, 1.0]], [[0.0] * 3, [0.0] * 3], [[1.0] * 3], [[1.0] * 7 + [0.0], [0.0] * 8]]
)
def test_bnpo_is_finite_where_variance_or_mean_degenerate(rewards: list[list[float]], group: Make) -> None:
    found = flat(Bnpo()([group(row, at) for at, row in enumerate(rewards)]))
    assert all(math.isfinite(value) and abs(value) <= CAP for value in found)


def test_the_inverse_density_is_capped_at_its_ends() -> None:
    assert Beta(3.0, 3.0).inverse_density(0.0) == Beta(3.0, 3.0).inverse_density(1.0) == CAP
    assert Beta(3.0, 1.0).inverse_density(1.0) == pytest.approx(1 / 3)
    assert Beta(900.0, 900.0).inverse_density(1e-9) == pytest.approx(CAP)


def test_a_lone_turn_moves_no_fit(group: Make) -> None:
    """The released code takes mean 0 for it, so its raw reward passes, scaled by up to 1e6 (changyi7231/BNPO)."""
    groups = [group([1.0, 0.0, 0.0]), group([1.0, 1.0, 0.0], 1)]
    alone = [*groups, group([1.0], 2)]
    assert Bnpo()(alone)[:2] == Bnpo()(groups) and Bnpo()(alone)[2] == [0.0]
    assert Bnpo().figures(alone) == Bnpo().figures(groups)


def test_fitted_numbers_are_figures_and_decompose_fits_each_reward() -> None:
    groups = [of([{"a": 1.0, "b": 0.2}, {"a": 0.0, "b": 0.4}], 0), of([{"a": 1.0, "b": 0.9}, {"a": 1.0}], 1)]
    both = Bnpo(Bnpo.Config(decompose=True))
    assert set(both.figures(groups)) == {"a_alpha", "a_beta", "b_alpha", "b_beta"}
    a = Bnpo()([of([{"a": 1.0}, {"a": 0.0}], 0), of([{"a": 1.0}, {"a": 1.0}], 1)])
    found = both(groups)
    assert found[0] == pytest.approx([(a[0][0] - 0.1) / 2, (a[0][1] + 0.1) / 2])  # one mean of b: uniform
    assert found[1] == [0.0, 0.0]  # equal in a; in b one of them has nothing to be compared with


def test_rewards_outside_0_and_1_are_mapped_and_bounds_are_kept(group: Make) -> None:
    plain = Bnpo()([group([1.0, 0.0]), group([1.0, 0.0, 0.0], 1)])
    wide = Bnpo()([group([5.0, -5.0]), group([5.0, -5.0, -5.0], 1)])
    assert flat(wide) == pytest.approx(flat(plain))
    with pytest.raises(ValueError, match=r"from -5 to 5 lie outside low: 0, high: 5"):
        Bnpo(Bnpo.Config(low=0.0))([group([5.0, -5.0])])
