"""What a scenario alone cannot have: programs without a sandbox take a second yes, and rows say so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparring.storage.queries import select_rows
from sparring.storage.store import Store

Told = Callable[..., Any]
YES = "--i-understand-model-code-runs-as-me"
UNSAFE = """
name: unsafe
policy: {model: ./model}
environment: {kind: code, sandbox: none, workers: 1}
roles:
  solver: {prompt: brief/solver, reward: [verifier], sampling: {max_tokens: 4}}
graph: solve
curriculum: {kind: random, arms: {depth: [1]}}
rollout: {episodes: 1, picks: 1}
training: {steps: 1}
evaluation: {every: 0}
"""


@pytest.fixture
def unsafe(tmp_path: Path, tiny_model: Path) -> Path:
    """A scenario without a sandbox."""
    os.symlink(tiny_model, tmp_path / "model")
    file = tmp_path / "unsafe.yaml"
    file.write_text(UNSAFE)
    return file


def test_a_scenario_without_a_sandbox_is_refused_and_leaves_nothing(told: Told, unsafe: Path) -> None:
    done = told("run", str(unsafe))
    assert done.exit_code != 0 and YES in done.output and "sandbox: auto" in done.output
    assert not list(unsafe.parent.glob("*.db"))


def test_the_second_yes_runs_it_and_every_row_says_so(told: Told, unsafe: Path) -> None:
    done = told("run", str(unsafe), YES)
    assert done.exit_code == 0, done.output
    assert "sandbox   none" in done.output
    with Store(unsafe.parent / "sparring.db") as store:
        query = "SELECT DISTINCT engine FROM turns WHERE author = 'environment'"
        assert select_rows(store, query).rows == (("code sandbox=none",),)


def test_going_on_asks_again(told: Told, unsafe: Path) -> None:
    assert told("run", str(unsafe), YES, "-s", "training.steps=1").exit_code == 0
    with Store(unsafe.parent / "sparring.db") as store:
        store.finish_run("r1", "stopped")
    done = told("resume", "r1")
    assert done.exit_code != 0 and YES in done.output
