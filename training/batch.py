"""Rows to tensors: micro-batches that keep units whole, padded to the longest row or packed end to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from .rows import Row

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Layout = Literal["padded", "packed"]


@dataclass(frozen=True)
class Batch:
    """Rows as tensors (B, T) and, for the N trained tokens row after row, their streams.

    All rows are for one loss and one adapter. ``row_N`` and ``unit_N`` count from 0 without gaps; ``at_N`` is where a
    trained token lies in the flattened ids. Packed rows are one line (1, T): ``position_BT`` restarts with every row
    and ``bounds`` (B + 1, int32) says where; both are ``None`` when rows are padded on the right.
    """

    rows: tuple[Row, ...]
    ids_BT: Tensor
    at_N: Tensor
    coefficient_N: Tensor
    temperature_N: Tensor
    row_N: Tensor
    unit_N: Tensor
    streams: dict[str, Tensor]
    counts: tuple[int, ...]
    position_BT: Tensor | None = None
    bounds: Tensor | None = None

    @property
    def loss(self) -> str:
        """The loss its rows are for."""
        return self.rows[0].loss

    @property
    def adapter(self) -> str:
        """The adapter its rows train."""
        return self.rows[0].adapter

    @property
    def target_N(self) -> Tensor:
        """The trained tokens."""
        return self.ids_BT.view(-1)[self.at_N]

    @property
    def tokens(self) -> int:
        """Real tokens read, context included."""
        return sum(len(row.token_ids) for row in self.rows)

    @property
    def padding(self) -> int:
        """Places read for nothing."""
        return self.ids_BT.numel() - self.tokens

    def inputs(self) -> dict[str, Any]:
        """Keyword arguments of the model's forward. Right padding needs no mask: nothing causal looks ahead."""
        if self.bounds is None:
            return {"input_ids": self.ids_BT, "use_cache": False}
        longest = max(len(row.token_ids) for row in self.rows)
        return {
            "input_ids": self.ids_BT,
            "position_ids": self.position_BT,
            "cu_seq_lens_q": self.bounds,
            "cu_seq_lens_k": self.bounds,
            "max_length_q": longest,
            "max_length_k": longest,
            "use_cache": False,
        }


def micro_batches(rows: Sequence[Row], tokens: int, layout: Layout = "padded") -> Iterator[list[Row]]:
    """Units of like length together, at most ``tokens`` tokens each, padding counted (a larger unit goes alone).

    Rows for different losses or adapters, or with different streams, never share a micro-batch.
    """
    units: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        units.setdefault((row.loss, row.adapter, *sorted(row.streams), row.unit), []).append(row)
    batch: list[Row] = []
    kind: tuple[object, ...] | None = None
    for key, unit in sorted(units.items(), key=lambda item: (str(item[0][:-1]), _longest(item[1]))):
        if batch and (key[:-1] != kind or _size([*batch, *unit], layout) > tokens):
            yield batch
            batch = []
        kind = key[:-1]
        batch += unit
    if batch:
        yield batch


def _longest(unit: Sequence[Row]) -> int:
    return max(len(row.token_ids) for row in unit)


def _size(rows: Sequence[Row], layout: Layout) -> int:
    return len(rows) * _longest(rows) if layout == "padded" else sum(len(row.token_ids) for row in rows)


def collate(rows: Sequence[Row], device: torch.device, layout: Layout = "padded") -> Batch:
    """Rows to tensors: right-padded, or end to end."""
    import numpy as np
    import torch

    length_B = np.array([len(row.token_ids) for row in rows])
    total = int(length_B.sum())

    def flat(lists: Iterable[Sequence[float]], dtype: Any) -> Any:
        return np.fromiter(chain.from_iterable(lists), dtype, total)

    start_B = np.cumsum(length_B) - length_B
    within_T = np.arange(total) - np.repeat(start_B, length_B)
    coefficient_T = flat((row.coefficient_T for row in rows), np.float32)
    trained = np.flatnonzero(coefficient_T)
    row_T = np.repeat(np.arange(len(rows)), length_B)
    ids_T = flat((row.token_ids for row in rows), np.int64)
    width = int(length_B.max())
    place_T = row_T * width + within_T if layout == "padded" else np.arange(total)
    ids = np.zeros((len(rows), width) if layout == "padded" else (1, total), np.int64)
    ids.reshape(-1)[place_T] = ids_T
    row_N = row_T[trained]
    unit_of = {unit: number for number, unit in enumerate(dict.fromkeys(row.unit for row in rows))}
    unit_B = np.array([unit_of[row.unit] for row in rows])

    def tensor(values: Any) -> Tensor:
        return torch.from_numpy(values).to(device)

    return Batch(
        tuple(rows),
        tensor(ids),
        tensor(place_T[trained]),
        tensor(coefficient_T[trained]),
        tensor(np.array([row.temperature for row in rows], np.float32)[row_N]),
        tensor(row_N),
        tensor(unit_B[row_N]),
        {name: tensor(flat((row.streams[name] for row in rows), np.float32)[trained]) for name in rows[0].streams},
        tuple(np.bincount(row_N, minlength=len(rows)).tolist()),
        tensor(within_T[None]) if layout == "packed" else None,
        tensor(np.append(start_B, total).astype(np.int32)) if layout == "packed" else None,
    )
