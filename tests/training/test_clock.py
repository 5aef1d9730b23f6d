"""A wall clock that jumps changes nothing but time stamps: what waits, measures or orders does not read it."""

from __future__ import annotations

import ast
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparring.storage import step_rows, store

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("agents", "envs", "scenarios", "storage", "training")


def test_a_run_whose_clock_jumps_is_the_run_without(
    run: Callable[..., Any], unbroken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Years back and forth at every look. Bites: measure a duration with ``time.time`` and it is negative."""
    rng, real = random.Random(0), time.time

    def jumping() -> float:
        return real() + rng.uniform(-1e8, 1e8)

    monkeypatch.setattr(time, "time", jumping)
    for module in (step_rows, store):
        monkeypatch.setattr(module, "now", lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time())))
    jumped = run("jumped")
    assert (jumped.status, jumped.hash, jumped.weights) == ("done", unbroken.hash, unbroken.weights)
    assert all(0 <= told.seconds < 600 for told in jumped.told)
    assert all(0 <= seconds < 600 for (seconds,) in jumped.rows("SELECT seconds FROM steps"))


def test_the_wall_clock_is_read_for_time_stamps_alone() -> None:
    """Whoever waits, measures or leases by it waits for ever once it is set back."""
    stamps = {
        *("storage/rows.py", "storage/inspector/shown.py", "training/cli/pruning.py"),
        *("training/serve/chat.py", "training/serve/answers.py"),
    }
    found = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.time", "datetime.now", "datetime.utcnow")
    }
    assert found <= stamps
