"""The one shared policy: where its weights and tokenizer come from, in which type, with which adapters."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import EngineError

from .engines.render import ChatRenderer

if TYPE_CHECKING:
    import torch

    from sparring.scenarios.schema import PolicySpec

BUILTIN = "builtin:tiny"


@dataclass(frozen=True)
class Policy:
    """A causal language model with its tokenizer and renderer."""

    model: Any
    tokenizer: Any
    renderer: ChatRenderer


def locate(model: str, base: Path) -> str:
    """Where to load ``model`` from: our own folder, a folder relative to ``base``, or a hub name as it stands.

    Raises ``EngineError`` for a folder that holds no model.
    """
    if model == BUILTIN:
        from .tiny import FOLDER

        return str(FOLDER)
    if model.startswith("builtin:"):
        raise EngineError(f"policy.model {model!r} is unknown; the built-in model is {BUILTIN!r}")
    folder = (base / model).expanduser()
    looks_local = model.startswith((".", "/", "~")) or folder.exists()
    if not looks_local:
        return model
    config = folder / "config.json"
    if not config.is_file():
        raise EngineError(
            f"policy.model {model!r}: {folder} is not a model folder (no config.json in it); "
            f"give a folder that transformers can load, or {BUILTIN}"
        )
    try:
        json.loads(config.read_text())
    except ValueError as error:
        raise EngineError(f"policy.model {model!r}: {config} is not JSON ({error})") from error
    return str(folder)


def weight_type(name: str, device: str) -> torch.dtype:
    """The type weights are held in: ``auto`` is float32 on CPU and bfloat16 on a GPU.

    Softmax, losses, sums of gradients and the optimiser are float32 whatever this is; 16-bit weights get float32
    master copies (``precision.Masters``).
    """
    import torch

    automatic = torch.bfloat16 if device == "cuda" else torch.float32
    found: torch.dtype = automatic if name == "auto" else getattr(torch, name)
    return found


def load_policy(spec: PolicySpec, base: Path, adapters: Sequence[str] = ()) -> Policy:
    """Load model and tokenizer; with ``spec.lora``, put in the policy's adapter and one for each of ``adapters``.

    Raises ``EngineError`` when the model cannot be loaded, or has no module an adapter is meant for.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = locate(spec.model, base)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        model: Any = AutoModelForCausalLM.from_pretrained(where, dtype=weight_type(spec.dtype, device))
        model = model.to(device)
    except (OSError, ValueError, SafetensorError) as error:
        raise EngineError(f"policy.model {spec.model!r} cannot be loaded from {where}: {error}") from error
    except UnpicklingError as error:
        raise EngineError(
            f"policy.model {spec.model!r}: {where} holds a pickle that is more than weights; nothing of it was run; "
            "have its author save it as safetensors"
        ) from error
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    stops = [ends] if isinstance(ends, int) else list(ends or ())
    prepare(model.eval(), spec, adapters)
    return Policy(model, tokenizer, ChatRenderer(tokenizer, stops))


def prepare(model: Any, spec: PolicySpec, adapters: Sequence[str] = ()) -> None:
    """Adapters and gradient checkpointing as the scenario asks, on a loaded model, in place."""
    if spec.lora is not None:
        from .lora import adapt

        adapt(model, spec.lora, adapters)
    elif adapters:
        raise EngineError(
            f"roles train adapters ({', '.join(adapters)}) and the policy has none; set policy.lora: {{rank: 16}}"
        )
    if spec.checkpointing:
        checkpoint_layers(model)


def checkpoint_layers(model: Any) -> None:
    """Have every layer's activations recomputed in the backward pass. Raises ``EngineError`` where a model cannot.

    It takes effect while ``Model`` scores with gradients; decoding and dropout are as before.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers or not model.supports_gradient_checkpointing:
        raise EngineError(f"{type(model).__name__} cannot recompute its layers; set policy.checkpointing: false")
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = _recompute


def _recompute(function: Callable[..., Any], *args: Any) -> Any:
    from torch.utils.checkpoint import checkpoint

    return checkpoint(function, *args, use_reentrant=False)
