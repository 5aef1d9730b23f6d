"""Checkpoints that are whole or absent: written beside, synced, renamed; the newest one the database names is true.

A folder holds the model in the Hugging Face layout (``transformers`` loads it), the optimiser, a manifest of hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparring.scenarios.errors import EngineError, StorageFull
from sparring.storage.records import CheckpointRow

MANIFEST = "MANIFEST.json"


def write(folder: Path, model: Any, tokenizer: Any, optimizer: Any, state: Mapping[str, Any]) -> CheckpointRow:
    """Write model, tokenizer, optimiser tensors and JSON ``state`` to ``folder`` all at once.

    Raises ``StorageFull`` when the disk refuses; an earlier checkpoint is never touched.
    """
    beside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        _fill(beside, model, tokenizer, optimizer, state)
        sha = _seal(beside)
        if folder.exists():  # left by a run that died before its transaction
            shutil.rmtree(folder)
        beside.rename(folder)
        _sync(folder.parent)
    except Exception as error:
        shutil.rmtree(beside, ignore_errors=True)
        if not _disk_refused(error):
            raise
        free = shutil.disk_usage(folder.parent).free if folder.parent.exists() else 0
        raise StorageFull(
            f"cannot write checkpoint {folder}: {getattr(error, 'strerror', None) or error}; {free} bytes are free. "
            "The last whole step is safe: free some space, then `sparring resume`"
        ) from error
    return CheckpointRow(str(folder), sha, sum(file.stat().st_size for file in folder.iterdir()))


def read(folder: Path, sha: str, model: Any, optimizer: Any) -> dict[str, Any]:
    """Load ``folder`` into ``model`` and ``optimizer`` after checking every hash; returns its JSON state."""
    from safetensors.torch import load_file

    verify(folder, sha)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    model.tie_weights()
    _restore(optimizer, load_file(folder / "optimizer.safetensors"))
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return state


def verify(folder: Path, sha: str) -> None:
    """Raise ``EngineError`` unless the folder's manifest has this hash and every file matches the manifest."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise EngineError(f"checkpoint {folder} is gone or incomplete (no {MANIFEST}); the run cannot be resumed")
    if _digest(manifest) != sha:
        raise EngineError(f"checkpoint {folder} is not the one the database names: its manifest has another hash")
    for name, expected in json.loads(manifest.read_text())["files"].items():
        if not (folder / name).is_file() or _digest(folder / name) != expected:
            raise EngineError(f"checkpoint {folder}: {name} is damaged (hash differs from {MANIFEST})")


def prune(root: Path, keep: set[str]) -> None:
    """Delete checkpoint folders under ``root`` that ``keep`` does not name."""
    for folder in root.glob("step-*"):
        if str(folder) not in keep:
            shutil.rmtree(folder, ignore_errors=True)


def _disk_refused(error: Exception) -> bool:
    # safetensors and tokenizers write from Rust and report a full disk as errors of their own
    return isinstance(error, OSError) or "os error" in str(error) or "Os {" in str(error)


def _fill(folder: Path, model: Any, tokenizer: Any, optimizer: Any, state: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    tied = set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items() if name not in tied
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(_flatten(optimizer), folder / "optimizer.safetensors")
    model.config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)  # names every token that ends a turn
    tokenizer.save_pretrained(folder)
    (folder / "state.json").write_text(json.dumps(state, sort_keys=True))


def _flatten(optimizer: Any) -> dict[str, Any]:
    import torch

    flat = {}
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if value is None:  # plain SGD has a slot for momentum and nothing in it
                continue
            flat[f"{index}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return flat


def _restore(optimizer: Any, flat: Mapping[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in flat.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _seal(folder: Path) -> str:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": {file.name: _digest(file) for file in files}}, indent=1))
    for file in (*files, manifest):
        _sync(file)
    _sync(folder)
    return _digest(manifest)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
