"""A checkpoint is whole or absent, whatever goes wrong while it is written."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from sparring.scenarios.errors import EngineError, StorageFull
from sparring.scenarios.schema import OptimizerSpec, TrainingSpec
from sparring.storage.records import CheckpointRow
from sparring.training import checkpoint
from sparring.training.learner import Learner
from sparring.training.losses.presets import Dapo
from sparring.training.model import Model
from sparring.training.tiny import build_tokenizer

New = Callable[..., Any]
Kind = Literal["adamw", "sgd"]
LOSSES: dict[str, Any] = {"policy": Dapo()}


def trained(model: Any, row: Any, steps: int = 2, kind: Kind = "adamw") -> Learner:
    trainer = Learner(Model(model), LOSSES, TrainingSpec(optimizer=OptimizerSpec(kind=kind, lr=0.01)))
    for _ in range(steps):
        trainer.step([row(3, 5, 1.0)])
    return trainer


def save(folder: Path, trainer: Learner, step: int = 2) -> CheckpointRow:
    return checkpoint.write(folder, trainer.model, build_tokenizer(), trainer.optimizer, {"step": step})


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_training_goes_on_bit_for_bit_after_reading(new_model: New, row: Any, tmp_path: Path, kind: Kind) -> None:
    whole = trained(new_model(), row, kind=kind)
    saved = save(tmp_path / "step-2", whole)
    other = trained(new_model(7), row, steps=0, kind=kind)
    assert checkpoint.read(Path(saved.path), saved.sha, other.model, other.optimizer) == {"step": 2}
    assert other.weights_sha() == whole.weights_sha()
    for trainer in (whole, other):
        trainer.step([row(4, 6, -0.5)])
    assert other.weights_sha() == whole.weights_sha()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masters_and_heads_go_on_bit_for_bit(new_model: New, row: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    def learner(seed: int, steps: int) -> Learner:
        model = Model(new_model(seed).to(dtype), heads=["value"])
        made = Learner(model, LOSSES, TrainingSpec(optimizer=OptimizerSpec(lr=1e-4)))
        for weight in model.heads.parameters():
            torch.nn.init.constant_(weight, float(seed + 1))
        for _ in range(steps):
            made.step([row(3, 5, 1.0)])
        return made

    whole, other = learner(0, 2), learner(7, 0)
    saved = save(tmp_path / "step-2", whole)
    checkpoint.read(Path(saved.path), saved.sha, other.model, other.optimizer)
    assert torch.equal(*(one.model.heads["value"].get_parameter("weight") for one in (other, whole)))
    for each in (whole, other):
        each.step([row(4, 6, -0.5)])
    for one, same in zip(whole.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, same)


def test_the_weights_hash_is_that_of_their_file(model: Any, row: Any, tmp_path: Path) -> None:
    trainer = trained(model, row)
    sha = checkpoint.weights_sha(trainer.model)
    save(tmp_path / "step-1", trainer)
    assert hashlib.sha256((tmp_path / "step-1" / "model.safetensors").read_bytes()).hexdigest() == sha
    told = checkpoint.write(tmp_path / "step-2", trainer.model, build_tokenizer(), trainer.optimizer, {}, sha)
    checkpoint.verify(Path(told.path), told.sha)
    trained(model, row, steps=1)
    assert checkpoint.weights_sha(trainer.model) != sha


def test_another_models_checkpoint_is_refused(model: Any, row: Any, tmp_path: Path) -> None:
    trainer = trained(model, row)
    saved = save(tmp_path / "step-1", trainer)
    with_head = Model(model, heads=["value"])
    with pytest.raises(EngineError, match="another model"):
        checkpoint.read(Path(saved.path), saved.sha, with_head, trainer.optimizer)
    half = Model(model.to(torch.bfloat16))
    half.parameters()
    fresh = Learner(half, LOSSES, TrainingSpec())
    fresh.step([row(3, 5, 1.0)])
    saved = save(tmp_path / "step-2", fresh)
    with pytest.raises(EngineError, match="master weights"):
        checkpoint.read(Path(saved.path), saved.sha, Model(model.float()), fresh.optimizer)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_file_cut_short_is_named(name: str, model: Any, row: Any, tmp_path: Path) -> None:
    trainer = trained(model, row)
    saved = save(tmp_path / "step-1", trainer)
    file = tmp_path / "step-1" / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(EngineError, match=f"{name} is damaged"):
        checkpoint.read(Path(saved.path), saved.sha, trainer.model, trainer.optimizer)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_every_type_is_written_as_safetensors_reads_it(kind: torch.dtype, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tensors = {"b": torch.arange(6).view(2, 3).to(kind), "a": torch.tensor(1).to(kind), "none": torch.empty((0, 2))}
    tensors["turned"] = torch.arange(6.0).view(2, 3).t()
    checkpoint._save(tmp_path / "x", tensors)
    found = load_file(tmp_path / "x")
    assert set(found) == set(tensors) and all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_transformers_loads_the_folder(model: Any, row: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainer = trained(model, row)
    save(tmp_path / "step-2", trainer)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "step-2")
    ids = torch.arange(12)[None]
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.generation_config.eos_token_id == 260
    assert AutoTokenizer.from_pretrained(tmp_path / "step-2")("a<|end|>").input_ids == [97, 260]


WRITES = (
    (torch.Tensor, "contiguous"),
    (checkpoint, "_flatten"),
    (Path, "write_text"),
    (checkpoint, "_digest"),
    (checkpoint, "_sync"),
    (Path, "rename"),
)


@pytest.mark.parametrize(("owner", "name"), WRITES)
def test_dying_at_any_write_leaves_the_previous_one_readable(
    owner: Any, name: str, model: Any, row: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trained(model, row)
    before = save(tmp_path / "step-1", trainer, 1)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt  # as a kill would: nothing is cleaned up

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, name, die)
        save(tmp_path / "step-2", trainer)
    assert not (tmp_path / "step-2").exists()
    checkpoint.verify(Path(before.path), before.sha)
    after = save(tmp_path / "step-2", trainer)
    checkpoint.verify(Path(after.path), after.sha)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1", "step-2"]


def test_a_failure_that_is_not_the_disks_is_not_called_so(
    model: Any, row: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(checkpoint, "_flatten", fail)
    with pytest.raises(ZeroDivisionError):
        save(tmp_path / "step-1", trained(model, row))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"])
def test_damage_is_noticed(name: str, model: Any, row: Any, tmp_path: Path) -> None:
    trainer = trained(model, row)
    saved = save(tmp_path / "step-1", trainer)
    file = tmp_path / "step-1" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(EngineError, match=r"damaged|not the one"):
        checkpoint.read(Path(saved.path), saved.sha, trainer.model, trainer.optimizer)
    file.unlink()
    with pytest.raises(EngineError, match=r"damaged|gone"):
        checkpoint.verify(Path(saved.path), saved.sha)


def test_only_the_named_checkpoints_are_kept(tmp_path: Path) -> None:
    for name in ("step-1", "step-2", "step-3.tmp", "notes"):
        (tmp_path / name).mkdir()
    checkpoint.prune(tmp_path, {str(tmp_path / "step-2")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "step-2"]


FULL = """
import resource, sys
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
import torch
from sparring.scenarios.errors import StorageFull
from sparring.training import checkpoint
from sparring.training.model import Model
torch.set_num_threads(1)
model = Model(AutoModelForCausalLM.from_pretrained(sys.argv[1]))
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
optimizer = torch.optim.AdamW(model.parameters())
root = Path(sys.argv[2])
saved = checkpoint.write(root / "step-1", model, tokenizer, optimizer, {})
sizes = sorted(file.stat().st_size for file in (root / "step-1").iterdir())
for limit in (10, 200, 3000, sizes[-1] - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        checkpoint.write(root / "step-2", model, tokenizer, optimizer, {})
    except StorageFull as error:
        assert "step-2" in str(error) and "bytes are free" in str(error), error
    else:
        raise SystemExit(f"nothing was raised at {limit}")
    assert [path.name for path in root.iterdir()] == ["step-1"], list(root.iterdir())
checkpoint.verify(root / "step-1", saved.sha)
print("whole")
"""


def test_a_full_disk_is_said_and_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folder), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout.strip() == "whole", done.stderr
    assert issubclass(StorageFull, OSError)
