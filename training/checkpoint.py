"""Checkpoints that are whole or absent: written beside, synced, renamed; the newest one the database names is true.

A folder holds the model in the Hugging Face layout (``transformers`` loads it), the optimiser, a manifest of hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import EngineError, StorageFull
from sparring.storage.records import CheckpointRow

if TYPE_CHECKING:
    from torch import Tensor

    from .model import Model

MANIFEST = "MANIFEST.json"
WEIGHTS, HEADS, MASTERS, OPTIMIZER = (
    f"{name}.safetensors" for name in ("model", "heads", "masters", "optimizer")
)  # fmt: skip


def write(
    folder: Path, model: Model, tokenizer: Any, optimizer: Any, state: Mapping[str, Any], weights: str = ""
) -> CheckpointRow:
    """Write model, heads, tokenizer, optimiser tensors and JSON ``state`` to ``folder`` all at once.

    Full weights go as ``transformers`` lays them out, adapters as PEFT does. ``weights`` is ``weights_sha(model)``
    where it is known: the file is then not hashed again. Raises ``StorageFull`` when the disk refuses; an earlier
    checkpoint is never touched.
    """
    beside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        known = _fill(beside, model, tokenizer, optimizer, state, weights)
        sha = _seal(beside, known)
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
    return CheckpointRow(str(folder), sha, sum(file.stat().st_size for file in _files(folder)))


def publish(folder: Path, model: Model, tokenizer: Any) -> Path:
    """Write what an engine reads to ``folder``, all at once and without waiting for the disk: it may be lost."""
    beside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        _fill_served(beside, model)
        tokenizer.save_pretrained(beside)
        shutil.rmtree(folder, ignore_errors=True)
        return beside.rename(folder)
    except Exception as error:
        shutil.rmtree(beside, ignore_errors=True)
        if not _disk_refused(error):
            raise
        raise StorageFull(
            f"cannot write weights for the engine to {folder}: {getattr(error, 'strerror', None) or error}. "
            "The last whole step is safe: free some space, then `sparring resume`"
        ) from error


def read(folder: Path, sha: str, model: Model, optimizer: Any) -> dict[str, Any]:
    """Load ``folder`` into ``model`` and ``optimizer`` after checking every hash; returns its JSON state.

    Raises ``EngineError`` when a file is damaged, or was written for another model.
    """
    from safetensors.torch import load_file

    verify(folder, sha)
    if model.adapters is not None:
        model.adapters.load(folder)
    else:
        _load(model.module, load_file(folder / WEIGHTS), folder / WEIGHTS)
        model.module.tie_weights()
    if len(model.heads):
        _load(model.heads, load_file(folder / HEADS) if (folder / HEADS).is_file() else {}, folder / HEADS)
    model.masters.load(load_file(folder / MASTERS) if (folder / MASTERS).is_file() else None)
    _restore(optimizer, load_file(folder / OPTIMIZER))
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return state


def read_weights(folder: Path, model: Model) -> None:
    """Load only the weights in ``folder`` into a model without adapters, after checking every hash."""
    from safetensors.torch import load_file

    verify(folder, _digest(folder / MANIFEST) if (folder / MANIFEST).is_file() else "")
    _load(model.module, load_file(folder / WEIGHTS), folder / WEIGHTS)
    model.module.tie_weights()


def weights_sha(model: Model) -> str:
    """SHA-256 of what an engine serves: the bytes of ``model.safetensors``, or of the adapters over a frozen base."""
    total = hashlib.sha256()
    for part in _stream(served(model)):
        total.update(part)
    return total.hexdigest()


def served(model: Model) -> dict[str, Tensor]:
    """The trained tensors an engine reads, by name: all weights, tied ones once, or the adapters."""
    if model.adapters is not None:
        return model.adapters.tensors()
    tied = set(getattr(model.module, "_tied_weights_keys", None) or ())
    found: dict[str, Tensor] = {}
    seen: set[tuple[int, object]] = set()
    for name, tensor in sorted(model.module.state_dict().items(), key=lambda item: (item[0] in tied, item[0])):
        if (key := (tensor.data_ptr(), tensor.shape)) not in seen or not tensor.numel():
            seen.add(key)
            found[name] = tensor
    return found


def verify(folder: Path, sha: str) -> None:
    """Raise ``EngineError`` unless the folder's manifest has this hash and every file matches the manifest."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise EngineError(f"checkpoint {folder} is gone or incomplete (no {MANIFEST})")
    if _digest(manifest) != sha:
        raise EngineError(f"checkpoint {folder} is not the one the database names: its manifest has another hash")
    for name, expected in json.loads(manifest.read_text())["files"].items():
        if not (folder / name).is_file() or _digest(folder / name) != expected:
            raise EngineError(f"checkpoint {folder}: {name} is damaged (hash differs from {MANIFEST})")


def prune(root: Path, keep: set[str], sweeper: Executor | None = None) -> None:
    """Delete checkpoint folders under ``root`` that ``keep`` does not name, in the background where there is a sweeper.

    Which folders go is settled at once: one that is being written later is safe.
    """
    for folder in [folder for folder in root.glob("step-*") if str(folder) not in keep]:
        if sweeper is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            sweeper.submit(shutil.rmtree, folder, ignore_errors=True)


def _disk_refused(error: Exception) -> bool:
    # safetensors and tokenizers write from Rust and report a full disk as errors of their own
    return isinstance(error, OSError) or "os error" in str(error) or "Os {" in str(error)


def _fill(
    folder: Path, model: Model, tokenizer: Any, optimizer: Any, state: Mapping[str, Any], weights: str
) -> dict[str, str]:
    """Write every file but the manifest; the hashes of those whose bytes have passed through here."""
    known = _fill_served(folder, model, weights)
    if len(model.heads):
        known[HEADS] = _save(folder / HEADS, model.heads.state_dict())
    if masters := model.masters.apart():
        known[MASTERS] = _save(folder / MASTERS, masters)
    known[OPTIMIZER] = _save(folder / OPTIMIZER, _flatten(optimizer))
    tokenizer.save_pretrained(folder)
    (folder / "state.json").write_text(json.dumps(state, sort_keys=True))
    return known


def _fill_served(folder: Path, model: Model, weights: str = "") -> dict[str, str]:
    """Write what an engine reads: the model as ``transformers`` lays it out, or the adapters as PEFT does."""
    if model.adapters is not None:
        model.adapters.save(folder)
        return {}
    known = {WEIGHTS: _save(folder / WEIGHTS, served(model), weights)}
    model.module.config.save_pretrained(folder)
    if model.module.generation_config is not None:
        model.module.generation_config.save_pretrained(folder)  # names every token that ends a turn
    return known


def _save(path: Path, tensors: Mapping[str, Tensor], known: str = "") -> str:
    """Write a safetensors file and hash it on the way, unless the hash is ``known``."""
    total = hashlib.sha256()
    with path.open("wb") as file:
        for part in _stream(tensors):
            file.write(part)
            if not known:
                total.update(part)
    return known or total.hexdigest()


def _stream(tensors: Mapping[str, Tensor]) -> Iterator[Any]:
    """The bytes of a safetensors file, tensor by tensor: length of the header, header, data, the widest types first."""
    import torch

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))  # so that all are aligned
    for name, tensor in ordered:
        stop = at + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [at, stop],
        }
        at = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data starts at a multiple of 8
    yield len(text).to_bytes(8, "little") + text
    for _, tensor in ordered:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            yield flat.view(torch.uint8).numpy().data


_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def _load(module: Any, saved: Mapping[str, Tensor], file: Path) -> None:
    """Put saved tensors into a module; every one must be there, tied ones once."""
    found = module.load_state_dict(saved, strict=False)
    own = module.state_dict()
    there = {own[name].data_ptr() for name in saved if name in own}
    missing = [name for name in found.missing_keys if own[name].numel() and own[name].data_ptr() not in there]
    if missing or found.unexpected_keys:
        odd = (missing or found.unexpected_keys)[0]
        raise EngineError(f"checkpoint {file} was written for another model: {odd} is in one of them only")


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


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _seal(folder: Path, known: Mapping[str, str]) -> str:
    files = _files(folder)
    manifest = folder / MANIFEST
    names = {str(file.relative_to(folder)): file for file in files}
    hashes = {name: known.get(name) or _digest(file) for name, file in names.items()}
    manifest.write_text(json.dumps({"files": hashes}, indent=1))
    with ThreadPoolExecutor(8) as pool:  # side by side, the file system takes them into one commit
        list(pool.map(_sync, (*files, manifest)))
        list(pool.map(_sync, {file.parent for file in files}))
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
