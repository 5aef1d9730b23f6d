"""Denominators: what a token weighs; micro-batches cannot change it (verl#5625, trl#3021, open-instruct#1161)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.training.losses.aggregate import shares
from sparring.training.losses.base import Aggregate, Tokens
from sparring.training.losses.presets import DrGrpo, Reinforce

Packed = Callable[..., Tokens]
LENGTHS = [120, 3, 80, 5, 2, 100, 1, 60]
LOSSES = [1.165, 0.531, 0.843, 0.535, 0.527, 1.14, 0.518, 0.746]
turns = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=6)


def test_the_share_of_a_token_under_each_rule() -> None:
    step = [[2, 4], [0, 3], [0]]
    assert shares(step, "tokens") == [[1 / 9] * 2, [0.0, 1 / 9], [0.0]]
    assert shares(step, "trajectories") == [[1 / 12] * 2, [0.0, 1 / 6], [0.0]]
    assert shares(step, "turns") == [[1 / 8, 1 / 16], [0.0, 1 / 6], [0.0]]
    assert shares(step, "constant", 10) == [[1 / 20] * 2, [0.0, 1 / 20], [0.0]]


@given(step=turns, aggregate=st.sampled_from(["tokens", "trajectories", "turns"]))
def test_all_shares_of_a_step_sum_to_one(step: list[list[int]], aggregate: Aggregate) -> None:
    divided = shares(step, aggregate)
    pairs = zip(step, divided, strict=True)
    total = sum(n * share for counts, row in pairs for n, share in zip(counts, row, strict=True))
    assert total == pytest.approx(1.0 if any(map(any, step)) else 0.0)


def test_a_constant_that_divides_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1; found 0"):
        shares([[1]], "constant")


def test_dr_grpo_does_not_care_how_long_a_trajectory_or_its_padding_is() -> None:
    # a token of a 3-token and of a 300-token answer weigh the same, and no batch width is in the denominator
    assert shares([[3], [300]], "constant", 512) == [[1 / 1024], [1 / 1024]]
    assert shares([[3], [3]], "constant", 512) == [[1 / 1024], [1 / 1024]]


@pytest.mark.parametrize(("parts", "off"), [(1, 0.0), (2, -0.002), (4, -0.041), (8, -0.251)])
def test_one_denominator_for_the_step_where_local_means_would_be_wrong(parts: int, off: float, packed: Packed) -> None:
    # short answers with a low loss: a mean of micro-batch means is 25.1 % too small at 8 micro-batches
    share = shares([[n] for n in LENGTHS], "tokens")[0][0]
    loss_N = torch.tensor(LOSSES, dtype=torch.float64).repeat_interleave(torch.tensor(LENGTHS))
    width = 8 // parts
    chunks = [torch.cat(loss_N.split(LENGTHS)[at : at + width]) for at in range(0, 8, width)]
    ours = 0.0
    for chunk in chunks:
        alike = packed(-chunk, [1.0] * len(chunk), [1.0] * len(chunk), coefficient=torch.full_like(chunk, share))
        ours += float(Reinforce()(alike))
    assert ours == pytest.approx(1.0023, abs=5e-5) and ours == pytest.approx(float(loss_N.mean()), abs=1e-12)
    local = sum(float(chunk.mean()) for chunk in chunks) / parts
    assert local / ours - 1 == pytest.approx(off, abs=5e-4)


def test_a_wider_batch_changes_nothing_for_dr_grpo(packed: Packed) -> None:
    # trl's dr_grpo divides by the longest completion it may sample; a padded width in that place moved the loss
    coefficient = torch.tensor([shares([[2], [1]], "constant", 8)[0][0]] * 3, dtype=torch.float64)
    logprob = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64)
    narrow = float(DrGrpo()(packed(logprob, [1.0, 1.0, -1.0], [1.0] * 3, [2, 1], coefficient=coefficient)))
    assert narrow == pytest.approx(-(1 + 1 - 1) / (2 * 8))
    apart = [
        packed(logprob[:2], [1.0, 1.0], [1.0] * 2, [2], coefficient=coefficient[:2]),
        packed(logprob[2:], [-1.0], [1.0], [1], coefficient=coefficient[2:]),
    ]
    assert sum(float(DrGrpo()(part)) for part in apart) == pytest.approx(narrow)
