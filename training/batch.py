"""Rows to tensors: micro-batches that keep units whole, padded to the longest of rows of like length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .rows import Row

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Padded rows (B, T) and, for the N trained tokens in row-major order, their streams.

    All rows are for one loss and one adapter. ``row_N`` and ``unit_N`` count from 0 without gaps.
    """

    rows: tuple[Row, ...]
    ids_BT: Tensor
    real_BT: Tensor
    trained_BT: Tensor
    coefficient_N: Tensor
    temperature_N: Tensor
    row_N: Tensor
    unit_N: Tensor
    streams: dict[str, Tensor]

    @property
    def loss(self) -> str:
        """The loss its rows are for."""
        return self.rows[0].loss

    @property
    def adapter(self) -> str:
        """The adapter its rows train."""
        return self.rows[0].adapter


def micro_batches(rows: Sequence[Row], tokens: int) -> Iterator[list[Row]]:
    """Units of like length together, at most ``tokens`` padded tokens each (a larger unit goes alone).

    Rows for different losses or adapters, or with different streams, never share a micro-batch.
    """
    units: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        units.setdefault((row.loss, row.adapter, *sorted(row.streams), row.unit), []).append(row)
    batch: list[Row] = []
    kind: tuple[object, ...] | None = None
    longest = 0
    for key, unit in sorted(units.items(), key=lambda item: (str(item[0][:-1]), _length(item[1]))):
        together = max(longest, _length(unit))
        if batch and (key[:-1] != kind or (len(batch) + len(unit)) * together > tokens):
            yield batch
            batch, together = [], _length(unit)
        kind, longest = key[:-1], together
        batch += unit
    if batch:
        yield batch


def _length(unit: Sequence[Row]) -> int:
    return max(len(row.token_ids) for row in unit)


def collate(rows: Sequence[Row], device: torch.device) -> Batch:
    """Rows to tensors, right-padded."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(values: Iterable[Sequence[float]], dtype: torch.dtype) -> Tensor:
        return pad_sequence([torch.tensor(row, dtype=dtype) for row in values], batch_first=True).to(device)

    coefficient_BT = padded((row.coefficient_T for row in rows), torch.float32)
    trained_BT = coefficient_BT != 0
    unit_of = {unit: number for number, unit in enumerate(dict.fromkeys(row.unit for row in rows))}
    count_B = trained_BT.sum(1)

    def spread(values: Sequence[float], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device).repeat_interleave(count_B)

    return Batch(
        tuple(rows),
        padded((row.token_ids for row in rows), torch.long),
        padded(([1] * len(row.token_ids) for row in rows), torch.long),
        trained_BT,
        coefficient_BT[trained_BT],
        spread([row.temperature for row in rows], torch.float32),
        spread(range(len(rows)), torch.long),
        spread([unit_of[row.unit] for row in rows], torch.long),
        {
            name: padded((row.streams[name] for row in rows), torch.float32)[trained_BT]
            for name in rows[0].streams
        },
    )
