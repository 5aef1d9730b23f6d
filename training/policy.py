"""The one shared policy: where its weights and tokenizer come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import EngineError

from .engines.render import ChatRenderer

if TYPE_CHECKING:
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


def load_policy(spec: PolicySpec, base: Path) -> Policy:
    """Load model and tokenizer; float32 on CPU and bfloat16 on a GPU when ``dtype`` is ``auto``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = locate(spec.model, base)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    automatic = torch.bfloat16 if device == "cuda" else torch.float32
    dtype = automatic if spec.dtype == "auto" else getattr(torch, spec.dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        model: Any = AutoModelForCausalLM.from_pretrained(where, dtype=dtype)
        model = model.to(device)
    except (OSError, ValueError) as error:
        raise EngineError(f"policy.model {spec.model!r} cannot be loaded from {where}: {error}") from error
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    stops = [ends] if isinstance(ends, int) else list(ends or ())
    return Policy(model.eval(), tokenizer, ChatRenderer(tokenizer, stops))
