"""A database of made-up steps, and a folder with a scenario that learns in a second on a model of random weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.training.cli import app

SCENARIO = """
name: tiny
policy: {model: ./model}
environment: echo
roles:
  solver: {kind: plain, prompt: say.md, reward: [verifier, format], sampling: {max_tokens: 8}}
graph: solve
curriculum: {kind: sec, arms: {length: [1, 2]}}
rollout: {episodes: 2, picks: 2}
training: {steps: 2}
evaluation: {every: 1, tasks: 2}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in its own folder, with its own database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPARRING_DB", raising=False)


@pytest.fixture
def told() -> Callable[..., Result]:
    """What a command line gives."""
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.fixture(scope="session")
def _stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("stopped") / "sparring.db"
    with Store(file) as store:
        store.start_run("sample", {"name": "sample", "training": {"steps": 9}}, "digest", 0)
        for number in range(3):
            store.save_step("r1", sample_step(number, episodes=4))
        store.finish_run("r1", "stopped")
    return file


@pytest.fixture
def filled(tmp_path: Path, _stopped: Path) -> str:
    """``sparring.db`` in the working folder: run r1 with steps 0, 1 and 2 of four episodes each, stopped."""
    shutil.copy(_stopped, tmp_path / "sparring.db")
    return "r1"


@pytest.fixture
def scenario(tmp_path: Path, tiny_model: Path) -> Path:
    """A scenario file of two steps beside its prompt and its model."""
    os.symlink(tiny_model, tmp_path / "model")
    (tmp_path / "say.md").write_text("Say {{ text }}.\n")
    file = tmp_path / "tiny.yaml"
    file.write_text(SCENARIO)
    return file


@pytest.fixture
def described(scenario: Path, request: pytest.FixtureRequest) -> Path:
    """The small scenario as a recipe, by the ``BLOCK`` of the test's own file."""
    scenario.write_text(request.module.BLOCK + scenario.read_text())
    return scenario
