"""Preference losses: closed forms, gradient weights, and what a pair is."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sparring.training.losses.base import Tokens
from sparring.training.losses.preference import Preference

LOGPROB = [-1.0, -0.5, -2.0, -0.3, -0.2, -4.0]  # chosen (2 tokens), rejected (1); chosen (1), rejected (2)
REFERENCE = [-1.5, -0.7, -1.0, -0.9, -0.1, -1.0]
SIGN = [1.0, 1.0, -1.0, 1.0, -1.0, -1.0]
SHARE = [1 / 6] * 3 + [1 / 6] * 3  # each pair 1/2
H = (0.5 + 0.2 - (-1.0), 0.6 - (-0.1 - 3.0))


def slope(leaf: torch.Tensor) -> torch.Tensor:
    """What the backward pass left there."""
    assert leaf.grad is not None
    return leaf.grad


def real(values: list[float]) -> torch.Tensor:
    """Numbers in double precision."""
    return torch.tensor(values, dtype=torch.float64)


def tokens(
    logprob: list[float] = LOGPROB, reference: list[float] = REFERENCE, order: list[int] | None = None
) -> Tokens:
    """Two pairs in four rows."""
    order = order or list(range(6))
    row, unit = [[0, 0, 1, 2, 3, 3][at] for at in order], [[0, 0, 0, 1, 1, 1][at] for at in order]
    values = [real([column[at] for at in order]) for column in (logprob, SHARE, SIGN, reference)]
    return Tokens(
        values[0].requires_grad_(),
        values[1],
        torch.tensor(row),
        torch.tensor(unit),
        {"advantage": values[2], "reference": values[3]},
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_dpo_is_the_logistic_loss_of_beta_times_the_difference_of_log_ratios() -> None:
    loss = Preference(Preference.Config(beta=0.3))(tokens())
    assert loss.item() == pytest.approx(-sum(math.log(sigmoid(0.3 * h)) for h in H) / 2, abs=1e-12)


def test_the_gradient_of_dpo_is_beta_times_the_chance_of_the_wrong_order() -> None:
    shown = tokens()
    Preference(Preference.Config(beta=0.3))(shown).backward()
    expected = [-sign * 0.3 * sigmoid(-0.3 * H[at // 3]) / 2 for at, sign in enumerate(SIGN)]
    assert slope(shown.logprob_N).tolist() == pytest.approx(expected, abs=1e-12)


def test_a_policy_equal_to_its_reference_loses_log_two() -> None:
    assert Preference()(tokens(LOGPROB, LOGPROB)).item() == pytest.approx(math.log(2), abs=1e-12)


@given(smoothing=st.floats(0, 0.49), beta=st.floats(0.01, 3))
def test_label_smoothing_is_the_mean_over_both_orders(smoothing: float, beta: float) -> None:
    loss = Preference(Preference.Config(beta=beta, smoothing=smoothing))(tokens())
    both = [(1 - smoothing) * -math.log(sigmoid(beta * h)) + smoothing * -math.log(sigmoid(-beta * h)) for h in H]
    assert loss.item() == pytest.approx(sum(both) / 2, rel=1e-9, abs=1e-9)


def test_ipo_is_the_squared_distance_of_mean_log_ratios_from_half_the_inverse_beta() -> None:
    loss = Preference(Preference.Config(form="ipo", beta=0.5))(tokens())
    h = (0.7 / 2 + 1.0, 0.6 + 3.1 / 2)
    assert loss.item() == pytest.approx(((h[0] - 1.0) ** 2 + (h[1] - 1.0) ** 2) / 2, abs=1e-12)


def test_hinge_stops_once_a_pair_is_apart() -> None:
    shown = tokens()
    loss = Preference(Preference.Config(form="hinge", beta=0.5))(shown)
    loss.backward()
    assert loss.item() == pytest.approx((1 - 0.5 * H[0]) / 2, abs=1e-12)  # the second pair is 1.85 apart
    assert slope(shown.logprob_N).tolist() == pytest.approx([-0.25, -0.25, 0.25, 0, 0, 0], abs=1e-12)


def test_simpo_reads_no_reference() -> None:
    shown = tokens()
    shown = Tokens(shown.logprob_N, *(shown.coefficient_N, shown.row_N, shown.unit_N), {"advantage": real(SIGN)})
    part = Preference(Preference.Config(form="simpo", beta=2.0, margin=0.5))
    h = (-0.75 + 2.0, -0.3 + 2.1)
    assert part(shown).item() == pytest.approx(-sum(math.log(sigmoid(2 * x - 0.5)) for x in h) / 2, abs=1e-12)
    assert part.needs == frozenset() and Preference().needs == {"reference"}


def test_the_likelihood_term_is_of_the_chosen_text_alone() -> None:
    plain, more = tokens(), tokens()
    loss, other = Preference()(plain), Preference(Preference.Config(nll=0.2))(more)
    loss.backward()
    other.backward()
    assert (other - loss).item() == pytest.approx(0.2 * (0.75 + 0.3) / 2, abs=1e-12)
    extra = (slope(more.logprob_N) - slope(plain.logprob_N)).tolist()
    assert extra == pytest.approx([-0.05, -0.05, 0, -0.1, 0, 0], abs=1e-12)


@given(order=st.permutations(range(6)), form=st.sampled_from(["sigmoid", "ipo", "hinge", "simpo"]))
def test_the_order_of_tokens_changes_nothing(order: list[int], form: str) -> None:
    part = Preference(Preference.Config.model_validate({"form": form, "nll": 0.1}))
    whole, mixed = tokens(), tokens(order=list(order))
    part(whole).backward()
    loss = part(mixed)
    loss.backward()
    assert loss.item() == pytest.approx(part(whole).item(), abs=1e-12)
    there = [slope(whole.logprob_N)[at].item() for at in order]
    assert slope(mixed.logprob_N).tolist() == pytest.approx(there, abs=1e-12)


def test_tokens_both_sides_share_cancel_in_dpo() -> None:
    shown = tokens([-1.0, -0.5, -1.0, -0.3, -0.2, -4.0], [-1.5, -0.7, -1.5, -0.9, -0.1, -1.0])
    bare = Preference().difference(shown)[0]
    assert bare.item() == pytest.approx(0.2, abs=1e-12)


@pytest.mark.parametrize(("form", "option"), [("ipo", {"smoothing": 0.1}), ("sigmoid", {"margin": 0.5})])
def test_options_of_other_forms_are_refused(form: str, option: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=form):
        Preference.Config.model_validate({"form": form, **option})


def test_figures_say_how_often_the_order_is_right() -> None:
    found = Preference().figures(tokens())
    assert found["agrees"].tolist() == [1.0] * 6
    assert found["margin"][0].item() == pytest.approx(0.1 * H[0])
