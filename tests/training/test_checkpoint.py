"""A checkpoint is whole or absent, whatever goes wrong while it is written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sparring.scenarios.errors import EngineError, StorageFull
from sparring.scenarios.schema import OptimizerSpec, TrainingSpec
from sparring.storage.records import CheckpointRow
from sparring.training import checkpoint
from sparring.training.losses.presets import Dapo
from sparring.training.model import Model
from sparring.training.tiny import build_tokenizer
from sparring.training.learner import Learner

New = Callable[..., Any]


def trained(model: Any, row: Any, steps: int = 2, kind: str = "adamw") -> Learner:
    trainer = Learner(Model(model), {"policy": Dapo()}, TrainingSpec(optimizer=OptimizerSpec(kind=kind, lr=0.01)))  # type: ignore[arg-type]
    for _ in range(steps):
        trainer.step([row(3, 5, 1.0)])
    return trainer


def save(folder: Path, trainer: Learner, step: int = 2) -> CheckpointRow:
    return checkpoint.write(folder, trainer.model.module, build_tokenizer(), trainer.optimizer, {"step": step})


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_training_goes_on_bit_for_bit_after_reading(new_model: New, row: Any, tmp_path: Path, kind: str) -> None:
    whole = trained(new_model(), row, kind=kind)
    saved = save(tmp_path / "step-2", whole)
    other = trained(new_model(7), row, steps=0, kind=kind)
    assert checkpoint.read(Path(saved.path), saved.sha, other.model.module, other.optimizer) == {"step": 2}
    assert other.weights_sha() == whole.weights_sha()
    for trainer in (whole, other):
        trainer.step([row(4, 6, -0.5)])
    assert other.weights_sha() == whole.weights_sha()


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
        checkpoint.read(Path(saved.path), saved.sha, model, trainer.optimizer)
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
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
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
