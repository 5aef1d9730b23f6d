"""What a model is found to do, on a few tokens, before it is trusted: its last word on logits, and packed rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from . import attention, prefix
from .batch import collate
from .head import Final, finish
from .rows import Row

SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")
CAPS = ("final_logit_softcapping", "final_logits_softcapping", "logits_soft_cap")


@dataclass(frozen=True)
class Probe:
    """What was found. ``final`` is ``None`` where the model's own logits must be used, whole.

    ``packed``: rows end to end are read exactly, told apart by ``bounds`` or by a ``mask`` of tokens x tokens, or not
    (""). ``gap`` is the largest log-prob difference in nats to the model's own logits; ``why`` explains what is not so.
    ``shared``: a beginning that several rows have in common can be read once.
    """

    final: Final | None
    packed: Literal["bounds", "mask", ""]
    gap: float
    why: str = ""
    shared: bool = False


def probe(module: Any) -> Probe:
    """Try the model on two short rows. Changes nothing but which attention it uses."""
    installed = attention.install(module)
    with torch.no_grad():
        final, gap, why = _final(module)
        packed, trouble = _packed(module)
        shared = prefix.exact(module, rows(module), tolerance(module))
    kind: Literal["bounds", "mask", ""] = ("bounds" if installed else "mask") if packed else ""
    return Probe(final, kind, gap, "; ".join(part for part in (why, trouble) if part), shared)


def rows(module: Any) -> list[Row]:
    """Two rows of 12 and 7 tokens, trained from the second token on."""
    size = min(int(module.get_output_embeddings().weight.shape[0]), 250)
    ids = [at * 37 % size for at in range(19)]
    return [Row("", part, [0.0] + [1.0] * (len(part) - 1)) for part in (ids[:12], ids[12:])]


def tolerance(module: Any) -> float:
    """Nats that two routes through one model may differ by: rounding of its weights' type."""
    dtype = next(module.parameters()).dtype
    return 2e-4 if dtype.itemsize >= 4 else 0.25


def _final(module: Any) -> tuple[Final | None, float, str]:
    """The scale and cap under which the head gives the model's own log-probs."""
    ids = torch.tensor([rows(module)[0].token_ids], device=next(module.parameters()).device)
    own = module(input_ids=ids, use_cache=False).logits.float()
    try:
        head, decoder = module.get_output_embeddings(), module.get_decoder()
        final = _chosen(module, ids)
        raw = head(decoder(input_ids=ids, use_cache=False)[0].to(head.weight.dtype)).float()
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as error:
        return None, 0.0, f"its head cannot be called apart from it ({error}), so all its logits are made"
    gap = _gap(torch.log_softmax(finish(raw, final), -1), torch.log_softmax(own, -1))
    if gap <= tolerance(module):
        return final, gap, ""
    return None, gap, f"its head apart from it is off by {gap:.1e} nats, so all its logits are made"


def _chosen(module: Any, ids_BT: Tensor) -> Final:
    """The last word that fits best where it shows: the model finishes states that give logits of up to 40.

    An untrained model's own logits are too small to tell a cap of 30 from none.
    """
    head, decoder = module.get_output_embeddings(), module.get_decoder()
    shape = (*ids_BT.shape, head.weight.shape[1])
    wave = torch.arange(ids_BT.numel() * shape[-1], device=ids_BT.device).float().mul(0.7).sin().view(shape)
    state_BTD = wave * (40.0 / head(wave.to(head.weight.dtype)).abs().max().float().clamp(min=1e-6))
    state_BTD = state_BTD.to(head.weight.dtype)

    def swap(_: Any, __: Any, out: Any) -> Any:
        out.last_hidden_state = state_BTD
        return out

    handle = decoder.register_forward_hook(swap)
    try:
        own = module(input_ids=ids_BT, use_cache=False).logits.float()
    finally:
        handle.remove()
    raw = head(state_BTD).float()
    found: list[tuple[float, Final]] = [(_gap(finish(raw, final), own), final) for final in _candidates(module)]
    return min(found, key=lambda pair: pair[0])[1]


def _candidates(module: Any) -> Iterator[Final]:
    """No last word, and every one that a known attribute of the model or its configuration suggests."""
    places = (module.config.get_text_config(), module.config, module, module.get_decoder())

    def values(names: tuple[str, ...]) -> list[float]:
        found = (getattr(place, name, None) for name in names for place in places)
        return list(dict.fromkeys(float(value) for value in found if isinstance(value, (int, float)) and value))

    scales = [1.0, *(x for value in values(SCALES) for x in (value, 1 / value))]
    for scale, cap in product(dict.fromkeys(scales), [0.0, *values(CAPS)]):
        yield Final(scale, cap)


def _packed(module: Any) -> tuple[bool, str]:
    """Whether two rows end to end give the states of each row alone."""
    device = next(module.parameters()).device
    alone = [_states(module, [row], device) for row in rows(module)]
    first, second = rows(module)
    other = Row("", first.token_ids[::-1], first.coefficient_T)
    try:
        together = _states(module, [first, second], device, packed=True)
        again = _states(module, [other, second], device, packed=True)
    except Exception as error:  # whatever a model's own code raises on what it was not written for
        return False, f"packed rows raise {type(error).__name__}: {error}"
    exact = next(module.parameters()).dtype.itemsize >= 4
    size, at = together.abs().max(), len(first.token_ids)
    leak = float((together[at:] - again[at:]).abs().max() / size)  # the same kernels on the same shapes: no rounding
    apart = float((together - torch.cat(alone)).abs().max() / size)
    if leak <= (1e-4 if exact else 5e-3) and apart <= (2e-4 if exact else 0.05):
        return True, ""
    return False, f"packed rows see each other: states differ by {max(leak, apart):.1e}"


def _states(module: Any, some: list[Row], device: torch.device, packed: bool = False) -> Tensor:
    batch = collate(some, device, "packed" if packed else "padded")
    with attention.packing(packed):
        states: Tensor = module.get_decoder()(**batch.inputs())[0]
    return states.flatten(0, 1)


def _gap(one: Tensor, other: Tensor) -> float:
    gap = float((one - other).abs().max())
    return gap if gap == gap else float("inf")
