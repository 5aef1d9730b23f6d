"""What docs/environments.md says is so: its environments and scenarios check, its commands end as it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import readme_blocks
from typer.testing import Result

from sparring.envs.base import Environment
from sparring.envs.points import POINTS

Told = Callable[..., Result]

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "environments.md").read_text()
BLOCKS = readme_blocks.blocks(TEXT)
QUICK = ("-s", "evaluation.every=0", "-s", "rollout={episodes: 2, picks: 1}")
COMMANDS = [
    (block.mark, line) for block in BLOCKS if block.mark in ("run", "breaks") for line in block.text.splitlines()
]


@pytest.mark.parametrize("name", ["higher.py", "stock.py", "relay.py", "relay.yaml"])
def test_every_file_of_the_page_is_checked_on_the_page(name: str) -> None:
    assert f"sparring check {name}" in [line for mark, line in COMMANDS if mark == "run"]
    assert f"file {name}" in [block.mark for block in BLOCKS]


@pytest.mark.slow
def test_the_commands_of_the_page_end_as_it_says(told: Told, tmp_path: Path) -> None:
    readme_blocks.write_files(BLOCKS, tmp_path)
    assert len(COMMANDS) > 6
    for mark, line in COMMANDS:
        words = shlex.split(line)[1:]
        done = told(*words, *(QUICK if words[0] == "run" else ()))
        broken = [row for row in done.stdout.splitlines() if "BROKEN" in row]
        if mark == "breaks":
            assert done.exit_code == 1 and len(broken) == 1 and broken[0].startswith("oracle earns the full mark")
        else:
            assert done.exit_code == 0 and not broken, f"{line}\n{done.output}"


def test_the_test_of_the_page_passes(tmp_path: Path) -> None:
    readme_blocks.write_files(BLOCKS, tmp_path)
    code = "import test_higher; test_higher.test_higher_keeps_the_contract()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_point_is_explained_and_no_other() -> None:
    table = TEXT.partition("| point | broken when |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| ([\w, ]+) \|", table, re.MULTILINE) == list(POINTS)


def test_every_member_of_the_table_is_one_and_none_is_left_out() -> None:
    table = TEXT.partition("| member | says | needed |")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    named = {name for cell in cells for name in re.findall(r"`(\w+)", cell)}
    ready = {"reset", "can_snapshot", "snapshot", "restore", "metadata", "junk", "tools", "facet"}
    own = {name for name in vars(Environment) if not name.startswith("_")}
    assert own - ready <= named and named <= own | {"step"}
