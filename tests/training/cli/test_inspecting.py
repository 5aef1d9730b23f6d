"""``sparring ui`` as a person types it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from sparring.storage.store import Store
from sparring.training.cli import app

BIN = [sys.executable, "-c", "from sparring.training.cli import main; main()"]
QUIET = {name: value for name, value in os.environ.items() if not name.startswith("SPARRING_")} | {"BROWSER": "true"}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with Store(tmp_path / "sparring.db") as store:
        store.start_run("smoke", {"name": "smoke"}, "digest", 0)
    return tmp_path / "sparring.db"


def typed(*words: str) -> Any:
    return CliRunner().invoke(app, ["ui", *words], env={"SPARRING_DB": None, "SPARRING_UI_TOKEN": None})


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*BIN, "ui", "--port", "0", *words], stdout=pipe, stderr=pipe, text=True, cwd=folder, env=QUIET
    )


def test_it_says_where_it_is_and_ends_cleanly_on_an_interrupt(database: Path) -> None:
    with started(database.parent) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.search(r"at (http://127\.0\.0\.1:\d+)/ \(Ctrl-C ends it\)", first)
        assert found, first
        assert "smoke" in httpx.get(found[1] + "/runs", timeout=60).text
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, "stopped\n", "")


def test_where_others_can_reach_it_a_token_is_made_up_and_asked_for(database: Path) -> None:
    with started(database.parent, "--host", "0.0.0.0") as process:
        assert process.stdout is not None
        found = re.search(r"at (http://127\.0\.0\.1:\d+)/\?token=(\S{20,}) ", process.stdout.readline())
        assert found
        assert httpx.get(found[1], timeout=60).status_code == 401
        assert httpx.get(f"{found[1]}/?token={found[2]}", timeout=60).status_code == 303
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_a_port_that_is_taken_is_said(database: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = typed("--db", str(database), "--port", str(taken.getsockname()[1]))
    assert told.exit_code == 4 and "--port 0 takes a free one" in told.output


def test_an_absent_database_is_said_and_not_made(tmp_path: Path) -> None:
    told = typed("--db", str(tmp_path / "none.db"))
    assert told.exit_code == 5 and "no database at" in told.output
    assert not (tmp_path / "none.db").exists()


def test_a_missing_package_is_named_with_the_line_to_type(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygal", None)  # as where it is not installed
    told = typed("--db", str(database))
    assert told.exit_code == 4 and "pip install 'sparring[ui]'" in told.output
