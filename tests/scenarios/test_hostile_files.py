"""A file that would run something when it is read is refused, and nothing runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from sparring.scenarios.errors import EngineError, SparringError
from sparring.scenarios.load import load
from sparring.scenarios.schema import PolicySpec


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.canary, "gone off"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What must not be there afterwards. The payload itself is shown to be live."""
    live = tmp_path / "live"
    pickle.loads(pickle.dumps(Hostile(live), 2))
    assert live.exists()
    return tmp_path / "canary"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "model.bin"])
def test_a_model_folder_with_a_pickle_is_refused_and_nothing_runs(tiny_model: Path, canary: Path, name: str) -> None:
    """Bites: load weights with ``weights_only=False`` and the canary is there."""
    from sparring.training.policy import load_policy

    folder = canary.parent / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / name).write_bytes(pickle.dumps(Hostile(canary), 2))
    with pytest.raises(EngineError):
        load_policy(PolicySpec(model=str(folder)), folder)
    assert not canary.exists()


def test_a_checkpoint_with_a_pickle_for_weights_is_refused_and_nothing_runs(tiny_model: Path, canary: Path) -> None:
    """Bites as above. The manifest is made to fit, so that no hash saves it."""
    import hashlib

    from sparring.training import checkpoint
    from sparring.training.model import Model
    from sparring.training.tiny import load_model

    folder = canary.parent / "step-000001"
    folder.mkdir()
    (folder / checkpoint.WEIGHTS).write_bytes(pickle.dumps(Hostile(canary), 2))
    digest = hashlib.sha256((folder / checkpoint.WEIGHTS).read_bytes()).hexdigest()
    (folder / checkpoint.MANIFEST).write_text(json.dumps({"files": {checkpoint.WEIGHTS: digest}}))
    with pytest.raises(Exception, match=r"(?i)header|safetensors"):
        checkpoint.read_weights(folder, Model(load_model(tiny_model)))
    assert not canary.exists()


@pytest.mark.parametrize(
    "text",
    [
        "name: !!python/object/apply:pathlib.Path.write_text [{canary}, gone]",
        "name: !!python/object/new:os.system ['touch {canary}']",
        "name: x\nseed: '{{{{ cycler.__init__.__globals__.os.system(\"touch {canary}\") }}}}'",
        "name: x\nseed: ${{oc.env:HOME}}",
    ],
)
def test_a_scenario_that_would_run_something_is_refused_and_nothing_runs(text: str, canary: Path) -> None:
    """Bites: read it with PyYAML's unsafe loader."""
    file = canary.parent / "hostile.yaml"
    file.write_text(text.format(canary=canary))
    with pytest.raises(SparringError) as caught:
        load(file)
    assert not canary.exists() and "Traceback" not in str(caught.value)
