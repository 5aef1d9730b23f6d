"""What a model is found to do, on a few tokens, before it is trusted: its last word on logits, and packed rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from . import attention
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
    """

    final: Final | None
    packed: Literal["bounds", "mask", ""]
    gap: float
    why: str = ""


def probe(module: Any) -> Probe:
    """Try the model on two short rows. Changes nothing but which attention it uses."""
    installed = attention.install(module)
    with torch.no_grad():
        final, gap, why = _final(module)
        packed, trouble = _packed(module)
    kind: Literal["bounds", "mask", ""] = ("bounds" if installed else "mask") if packed else ""
    return Probe(final, kind, gap, "; ".join(part for part in (why, trouble) if part))


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
    own = torch.log_softmax(module(input_ids=ids, use_cache=False).logits.float(), -1)
    try:
        raw = module.get_output_embeddings()(module.get_decoder()(input_ids=ids, use_cache=False)[0]).float()
        found = [(_gap(torch.log_softmax(finish(raw, final), -1), own), final) for final in _candidates(module)]
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as error:
        return None, 0.0, f"its head cannot be called apart from it ({error}), so all its logits are made"
    gap, final = min(found, key=lambda pair: pair[0])
    if gap <= tolerance(module):
        return final, gap, ""
    return None, gap, f"its head apart from it is off by {gap:.1e} nats, so all its logits are made"


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
    try:
        together = _states(module, rows(module), device, packed=True)
    except Exception as error:  # whatever a model's own code raises on what it was not written for
        return False, f"packed rows raise {type(error).__name__}: {error}"
    apart = float((together - torch.cat(alone)).abs().max() / together.abs().max())
    if apart <= tolerance(module):
        return True, ""
    return False, f"packed rows see each other: states differ by {apart:.1e}"


def _states(module: Any, some: list[Row], device: torch.device, packed: bool = False) -> Tensor:
    batch = collate(some, device, "packed" if packed else "padded")
    with attention.packing(packed):
        states: Tensor = module.get_decoder()(**batch.inputs())[0]
    return states.flatten(0, 1)


def _gap(one: Tensor, other: Tensor) -> float:
    gap = float((one - other).abs().max())
    return gap if gap == gap else float("inf")
