"""Rows that begin alike read their common beginning once: siblings of a group share its keys and values.

Gradients add up in the shared part, so nothing changes but the work: with 8 siblings, a prompt costs an eighth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .batch import Batch
    from .rows import Row

WORTH = 0.85  # share of the places a plain pass would read; above it the second pass costs more than it saves


class Family(NamedTuple):
    """Rows (by position) whose first ``shared`` tokens are the same."""

    members: list[int]
    shared: int


class Plan(NamedTuple):
    """Beginnings (P, K) and rests (B, S), both padded on the right; row b goes on from beginning ``of_B[b]``.

    ``shared_B`` is the length of each row's beginning; ``state_N`` finds the state each trained token was drawn from in
    all states of the beginnings, then of the rests, flattened.
    """

    beginning_PK: Tensor
    rest_BS: Tensor
    of_B: Tensor
    shared_B: Tensor
    state_N: Tensor


def plan(batch: Batch) -> Plan | None:
    """How to read this batch in two passes; ``None`` when that saves little or its rows are packed."""
    if batch.bounds is not None or len(batch.rows) < 2:
        return None
    found = list(families(batch.rows))
    shared_B = np.zeros(len(batch.rows), np.int64)
    of_B = np.zeros(len(batch.rows), np.int64)
    for number, family in enumerate(found):
        shared_B[family.members], of_B[family.members] = family.shared, number
    rests = [row.token_ids[at:-1] for row, at in zip(batch.rows, shared_B, strict=True)]
    longest, width = int(shared_B.max()), max(map(len, rests))
    read = len(found) * longest + len(rests) * width
    plain = batch.ids_BT.numel() - len(rests)  # nothing is drawn from a row's last token
    if not longest or not width or read > WORTH * plain:
        return None
    beginnings = [batch.rows[family.members[0]].token_ids[: family.shared] for family in found]
    device = batch.ids_BT.device
    return Plan(
        _padded(beginnings, longest).to(device),
        _padded(rests, width).to(device),
        torch.from_numpy(of_B).to(device),
        torch.from_numpy(shared_B).to(device),
        torch.from_numpy(_places(batch, of_B, shared_B, len(found), longest, width)).to(device),
    )


def families(rows: Sequence[Row]) -> Iterator[Family]:
    """Rows in the families that save most; a row alone has its context as its beginning."""
    order = sorted(range(len(rows)), key=lambda at: rows[at].token_ids)
    common = [_alike(rows[one].token_ids, rows[other].token_ids) for one, other in pairwise(order)]
    for start, stop in _best(common, 0, len(order))[1]:
        members = order[start:stop]
        shortest = min(len(rows[at].token_ids) for at in members) - 1
        alike = min(common[start : stop - 1], default=rows[members[0]].trained[0])
        yield Family(members, min(alike, shortest))


def states(body: Any, plan: Plan) -> Tensor:
    """The states (N, D) that the trained tokens of the batch were drawn from."""
    from transformers import DynamicCache

    cache = DynamicCache()
    first = body(input_ids=plan.beginning_PK, past_key_values=cache, use_cache=True)[0]
    cache.reorder_cache(plan.of_B)  # type: ignore[arg-type]  # it is one: int64
    longest, width = plan.beginning_PK.shape[1], plan.rest_BS.shape[1]
    at_S = torch.arange(width, device=plan.of_B.device)
    seen = torch.arange(longest, device=plan.of_B.device) < plan.shared_B[:, None]
    rest = body(
        input_ids=plan.rest_BS,
        position_ids=plan.shared_B[:, None] + at_S,
        attention_mask=None if bool(seen.all()) else torch.nn.functional.pad(seen, (0, width), value=True).long(),
        past_key_values=cache,
        use_cache=True,
    )[0]
    return torch.cat([first.flatten(0, 1), rest.flatten(0, 1)]).index_select(0, plan.state_N)


def exact(module: Any, rows: Sequence[Row], tolerance: float) -> bool:
    """Whether reading in two passes gives the states of plain reading, tried on two rows and a sibling of the first.

    A layer that looks back over a part only would count the gaps in the cache, so such models are read plainly.
    """
    from .batch import collate
    from .rows import Row

    text = module.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(text, "sliding_window", None):
        return False
    one, other = rows
    sibling = [*one.token_ids[:7], *other.token_ids]
    alike = [one, Row("", sibling, [0.0] * 8 + [1.0] * (len(sibling) - 8)), other]
    batch = collate(alike, next(module.parameters()).device)
    body, twice = module.get_decoder(), plan(batch)
    if twice is None:
        return False
    try:
        apart = states(body, twice)
    except Exception:  # whatever a model's own code raises on a cache it was not written for
        return False
    plain = body(**batch.inputs())[0].flatten(0, 1).index_select(0, batch.at_N - 1)
    return bool((apart - plain).abs().max() <= tolerance * plain.abs().max())


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _best(common: Sequence[int], start: int, stop: int) -> tuple[int, list[tuple[int, int]]]:
    """Tokens saved and spans of sorted rows: all as one family, or the families of the parts with more in common."""
    if stop - start < 2:
        return 0, [(start, stop)]
    least = min(common[start : stop - 1])
    cuts = [start, *(at + 1 for at in range(start, stop - 1) if common[at] == least), stop]
    parts = [_best(common, low, high) for low, high in pairwise(cuts)]
    apart, together = sum(saved for saved, _ in parts), least * (stop - start - 1)
    if together > apart:
        return together, [(start, stop)]
    return apart, [span for _, spans in parts for span in spans]


def _padded(lists: Sequence[Sequence[int]], width: int) -> Tensor:
    ids = np.zeros((len(lists), width), np.int64)
    for at, tokens in enumerate(lists):
        ids[at, : len(tokens)] = tokens
    return torch.from_numpy(ids)


def _places(batch: Batch, of_B: Any, shared_B: Any, beginnings: int, longest: int, width: int) -> Any:
    row_N = np.repeat(np.arange(len(batch.rows)), batch.counts)
    before_N = np.concatenate([np.array(row.trained) for row in batch.rows]) - 1
    inside = before_N < shared_B[row_N]
    rest_N = beginnings * longest + row_N * width + before_N - shared_B[row_N]
    return np.where(inside, of_B[row_N] * longest + before_N, rest_N)
