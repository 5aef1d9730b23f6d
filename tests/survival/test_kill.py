"""A killed run loses nothing and doubles nothing, and the script that says so notices when a guard is gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("kill.py")


def killed(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and totals of the script."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--folder", str(folder), *words], capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout.splitlines()[-1]) | {"said": done.stdout}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_killed_at_twenty_points_end_as_one_that_was_left_alone(tmp_path: Path) -> None:
    code, found = killed(tmp_path, "--points", "20", "--seed", "20")
    assert (code, found["lost"], found["doubled"], found["different"]) == (0, 0, 0, 0), found["said"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", ["TERM", "INT", "HUP"])
def test_runs_that_are_told_to_stop_at_eight_points_end_as_one_that_was_left_alone(tmp_path: Path, number: str) -> None:
    """Anywhere: while loading, playing, updating, in the middle of a checkpoint or of a transaction."""
    code, found = killed(tmp_path, "--points", "8", "--seed", "8", "--signal", number)
    assert (code, found["lost"], found["doubled"], found["different"]) == (0, 0, 0, 0), found["said"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("guard", "every"), [("rows-stay", "2"), ("told-early", "2"), ("half-a-step", "1"), ("optimizer-forgotten", "1")]
)
def test_a_guard_that_is_gone_is_noticed(tmp_path: Path, guard: str, every: str) -> None:
    """Rows past the checkpoint kept; a step told before it is safe; two transactions a step; a fresh optimiser."""
    code, found = killed(tmp_path, "--points", "12", "--seed", "1", "--every", every, "--broken", guard)
    assert code == 1 and found["different"] > 0, found["said"]
