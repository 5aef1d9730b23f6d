"""Rows become tensors without loss: each once, units whole, whatever the layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.training.batch import Layout, collate, micro_batches
from sparring.training.rows import Row

CPU = torch.device("cpu")


def make(length: int, unit: int, number: int = 0, **more: Any) -> Row:
    ids = [(number * 17 + at) % 250 + 1 for at in range(length)]
    share = [0.0] + [0.5 + number] * (length - 1)
    share[length // 2] = 0.0
    streams = {"advantage": [float(number * 100 + at) for at in range(length)]}
    return Row("r", ids, share, streams, 0.5 + number, unit=unit, **more)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 20), min_size=1, max_size=12),
    units=st.integers(1, 6),
    tokens=st.integers(1, 80),
    layout=st.sampled_from(["padded", "packed"]),
)
def test_micro_batches_hold_every_row_once_and_units_whole(
    lengths: list[int], units: int, tokens: int, layout: Layout
) -> None:
    rows = [make(length, at % units, at) for at, length in enumerate(lengths)]
    parts = list(micro_batches(rows, tokens, layout))
    assert sorted(id(row) for part in parts for row in part) == sorted(map(id, rows))
    homes: dict[int, set[int]] = {}
    for at, part in enumerate(parts):
        for row in part:
            homes.setdefault(row.unit, set()).add(at)
        batch = collate(part, CPU, layout)
        assert batch.ids_BT.numel() <= tokens or len({row.unit for row in part}) == 1
    assert all(len(home) == 1 for home in homes.values())


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 15), min_size=1, max_size=6),
    layout=st.sampled_from(["padded", "packed"]),
)
def test_every_trained_token_keeps_its_own_numbers(lengths: list[int], layout: Layout) -> None:
    rows = [make(length, at // 2, at) for at, length in enumerate(lengths)]
    batch = collate(rows, CPU, layout)
    at = [(number, place) for number, row in enumerate(rows) for place in row.trained]
    assert batch.target_N.tolist() == [rows[number].token_ids[place] for number, place in at]
    assert batch.streams["advantage"].tolist() == [100.0 * number + place for number, place in at]
    assert batch.coefficient_N.tolist() == [0.5 + number for number, _ in at]
    assert batch.temperature_N.tolist() == [0.5 + number for number, _ in at]
    assert batch.row_N.tolist() == [number for number, _ in at]
    assert batch.unit_N.tolist() == [number // 2 for number, _ in at]
    before = batch.ids_BT.view(-1)[batch.at_N - 1].tolist()
    assert before == [rows[number].token_ids[place - 1] for number, place in at]
    assert list(batch.counts) == [len(row.trained) for row in rows]


def test_packed_rows_restart_their_positions_and_waste_nothing() -> None:
    rows = [make(4, 0), make(7, 1), make(3, 2)]
    packed, padded = collate(rows, CPU, "packed"), collate(rows, CPU)
    assert packed.bounds is not None and packed.bounds.tolist() == [0, 4, 11, 14]
    assert packed.position_BT is not None and packed.position_BT[0].tolist() == [*range(4), *range(7), *range(3)]
    assert (packed.tokens, packed.padding) == (14, 0) and (padded.tokens, padded.padding) == (14, 7)


def test_rows_of_like_length_are_padded_together() -> None:
    rows = [make(3 if at % 2 else 20, at, at) for at in range(10)]
    wasted = [collate(part, CPU).padding for part in micro_batches(rows, 60)]
    assert sum(wasted) <= 17 and len(wasted) <= 4


@pytest.mark.parametrize("more", [{"loss": "sft"}, {"adapter": "critic"}])
def test_rows_of_another_kind_go_elsewhere(more: dict[str, str]) -> None:
    rows = [make(5, 0, 0), make(5, 1, 1, **more), make(5, 2, 2)]
    parts = list(micro_batches(rows, 1000))
    assert sorted(len(part) for part in parts) == [1, 2]
    assert all(len({(row.loss, row.adapter) for row in part}) == 1 for part in parts)
