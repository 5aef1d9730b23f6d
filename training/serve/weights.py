"""Weights that come to a server as folders, put into the model it serves."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparring.scenarios.errors import EngineError


@dataclass(frozen=True)
class Given:
    """``Weights`` of ``sparring.agents.engine`` that are in ``module`` and, where it is known, lie in a folder."""

    module: Any
    tokenizer: Any
    folder: Path | None = None

    @property
    def adapters(self) -> tuple[str, ...]:
        """None: a whole model."""
        return ()

    def save(self, version: int) -> Path:
        """Where they are; written to a folder of their own where they are nowhere."""
        if self.folder is not None:
            return self.folder
        made = Path(tempfile.mkdtemp(prefix="sparring-served-"))
        self.module.save_pretrained(made)
        self.tokenizer.save_pretrained(made)
        return made


def put_in(module: Any, folder: Path) -> None:
    """Write the weights in ``folder`` (safetensors as ``transformers`` lays them out) into the model's own tensors.

    Raises ``EngineError``, before a tensor is touched, for a folder without weights or with those of another model.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise EngineError(f"{folder} holds no weights (model.safetensors)")
    try:
        saved = {name: tensor for file in files for name, tensor in load_file(file).items()}
    except (SafetensorError, OSError) as error:
        raise EngineError(f"the weights in {folder} cannot be read: {error}") from error
    parts = module.state_dict().items()  # adapters, where there are any, lie around the weights and are not among them
    own = {name.replace(".base_layer.", "."): tensor for name, tensor in parts if ".lora_" not in name}
    there = {own[name].data_ptr() for name in saved if name in own}
    odd = [name for name in saved if name not in own or own[name].shape != saved[name].shape]
    odd += [name for name in own if name not in saved and own[name].numel() and own[name].data_ptr() not in there]
    if odd:
        raise EngineError(f"the weights in {folder} are another model's: {odd[0]} is in one only, or shaped otherwise")
    with torch.no_grad():
        for name, tensor in saved.items():
            own[name].copy_(tensor)
