"""Attention over rows that lie end to end: registered with ``transformers`` as one more attention, never crossing rows.

On CUDA through PyTorch's variable-length kernel, or flash-attn where it is installed; elsewhere row by row, exactly.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "sparring"
UNSUPPORTED = ("softcap", "s_aux", "position_bias")  # what the routes below cannot do; such models keep their own

_packed = [False]  # while a packed batch is read: no mask of tokens x tokens is to be made


def install(module: Any) -> bool:
    """Give ``module`` this attention where it uses ``sdpa``; padded batches go on through ``sdpa``. Says whether."""
    from transformers import AttentionInterface, AttentionMaskInterface

    text = module.config.get_text_config()
    if text._attn_implementation == NAME:
        return True
    if text._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _mask)
    for config in {id(one): one for one in (module.config, text)}.values():
        config._attn_implementation = NAME
    return True


@contextmanager
def packing(on: bool = True) -> Iterator[None]:
    """While it lasts (and is ``on``) no attention mask is made: rows are told apart by their bounds."""
    _packed[0] = on
    try:
        yield
    finally:
        _packed[0] = False


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Causal attention (1, H, T, D) -> (1, T, H, D) within the bounds ``cu_seq_lens_q``; without bounds, ``sdpa``.

    Raises ``NotImplementedError`` for soft caps, sinks and position biases.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    bounds = more.get("cu_seq_lens_q")
    if bounds is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
    if odd := [name for name in UNSUPPORTED if more.get(name) is not None]:
        raise NotImplementedError(f"packed attention has no {', '.join(odd)}")
    window = sliding_window or 0
    if query.is_cuda and query.element_size() == 2 and _kernel() is not None:
        return _by_kernel(query, key, value, bounds, int(more["max_length_q"]), scaling, window), None
    if query.is_cuda and query.element_size() == 2 and find_spec("flash_attn"):
        from transformers.integrations.flash_attention import flash_attention_forward

        return flash_attention_forward(module, query, key, value, None, dropout, scaling, sliding_window, **more)
    return _by_row(query, key, value, bounds, scaling, window), None


def route(device: str, dtype: torch.dtype) -> str:
    """Which of the three ways packed rows go on this device: ``varlen``, ``flash`` or ``rows``."""
    if device == "cuda" and dtype.itemsize == 2:
        if _kernel() is not None:
            return "varlen"
        if find_spec("flash_attn"):
            return "flash"
    return "rows"


@cache
def _kernel() -> Any:
    """PyTorch's variable-length attention where it takes windows and grouped queries, else ``None``."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"scale", "window_size", "enable_gqa"} <= set(known) else None


def _by_kernel(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scaling: float | None, window: int
) -> Tensor:
    flat = [tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value)]
    mixed: Tensor = _kernel()(
        *flat,
        bounds,
        bounds,
        longest,
        longest,
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return mixed[None]


def _by_row(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, scaling: float | None, window: int) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    edges = bounds.tolist()
    mixed = []
    for start, stop in pairwise(edges):
        seen = None
        if window and stop - start > window:
            at = torch.arange(stop - start, device=query.device)
            behind = at[:, None] - at[None, :]
            seen = (behind >= 0) & (behind < window)
        q, k, v = (tensor[:, :, start:stop] for tensor in (query, key, value))
        causal = seen is None
        mixed.append(scaled_dot_product_attention(q, k, v, seen, is_causal=causal, scale=scaling, enable_gqa=grouped))
    return torch.cat(mixed, dim=2).transpose(1, 2)


def _mask(*args: Any, **more: Any) -> Tensor | None:
    from transformers.masking_utils import sdpa_mask

    return None if _packed[0] else sdpa_mask(*args, **more)
