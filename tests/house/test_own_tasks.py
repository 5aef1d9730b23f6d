"""A user's own tasks: the scenario that comes for them, copied out, learns a step from its file of programs."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_step_on_ones_own_programs_plays_tasks_of_the_file(root: Path, tiny_model: Path, tmp_path: Path) -> None:
    for name in ("my-tasks.yaml", "my-tasks.jsonl"):
        shutil.copy(root / "scenarios" / name, tmp_path)
    words = [sys.executable, "-c", "from sparring.training.cli import main; main()", "run", "my-tasks.yaml"]
    for one in (f"policy.model={tiny_model}", "training.steps=1", "evaluation.every=0", "rollout.episodes=3"):
        words += ["-s", one]
    words += ["-s", "rollout.picks=3", "-s", "roles.solver.sampling.max_tokens=16"]
    words += ["-s", "roles.critic.sampling.max_tokens=16"]
    keep = {name: value for name, value in os.environ.items() if name != "SPARRING_DB"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=keep, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "sandbox" in done.stdout

    programs = [json.loads(line)["program"] for line in (tmp_path / "my-tasks.jsonl").read_text().splitlines()]
    with sqlite3.connect(tmp_path / "sparring.db") as database:
        tasks = database.execute("SELECT payload, origin FROM tasks").fetchall()
        scored = database.execute(
            "SELECT count(*) FROM scores WHERE name = 'verifier' AND validity = 'valued'"
        ).fetchone()
    assert len(tasks) == 3
    for payload, origin in tasks:
        file, _, line = origin.rpartition(":")
        assert Path(file).name == "my-tasks.jsonl" and json.loads(payload)["program"] == programs[int(line) - 1]
    assert scored[0] > 0
