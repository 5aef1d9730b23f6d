"""``sparring serve`` as a person types it."""

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

from sparring.training.cli import app

BIN = [sys.executable, "-c", "from sparring.training.cli import main; main()"]


def typed(*words: str, **environment: str) -> Any:
    return CliRunner().invoke(app, ["serve", *words], env=environment)


def test_it_says_where_it_is_and_ends_cleanly_on_an_interrupt(folder: Path, tmp_path: Path) -> None:
    words = ["serve", str(folder), "--port", "0", "--record", "--db", str(tmp_path / "sparring.db")]
    quiet = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*BIN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=quiet
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        found = re.search(r"at (http://127\.0\.0\.1:\d+)/v1 as model policy", first)
        assert found, first + process.stderr.read()
        base = found[1]
        opened = httpx.post(f"{base}/episodes", json={}, timeout=60).json()
        headers = {"authorization": f"Bearer {opened['key']}"}
        body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 3}
        assert httpx.post(f"{base}/v1/chat/completions", json=body, headers=headers, timeout=60).status_code == 200
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "stored as broken" in rest and rest.endswith("stopped\n")
    assert "Traceback" not in errors and opened["key"] not in rest + errors


def test_other_machines_are_let_in_with_a_key_only(folder: Path) -> None:
    told = typed(str(folder), "--host", "0.0.0.0")
    assert told.exit_code == 2 and "--api-key-env" in told.output
    unset = typed(str(folder), "--host", "0.0.0.0", "--api-key-env", "NO_SUCH_KEY")
    assert unset.exit_code == 2 and "NO_SUCH_KEY: this environment variable is not set" in unset.output


def test_a_port_that_is_taken_is_said(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = typed(str(folder), "--port", str(taken.getsockname()[1]))
    assert told.exit_code == 4 and "--port 0 takes a free one" in told.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["builtin:huge"], "builtin:huge"),
        (["builtin:tiny", "--step", "3"], "is no run"),
        (["smoke", "--follow"], "is no run"),
        (["./nothing-here"], "no config.json"),
        (["nothing.yaml"], "no such file"),
        (["builtin:tiny", "-s", "engine.kind=nothing"], "nothing"),
    ],
)
def test_a_word_that_names_nothing_to_serve_is_an_error(words: list[str], said: str, tmp_path: Path) -> None:
    told = typed(*words, "--port", "0", SPARRING_DB=str(tmp_path / "sparring.db"))
    assert told.exit_code in (1, 2, 4) and said in told.output
    assert not (tmp_path / "sparring.db").exists()


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    told = typed("builtin:tiny", "--port", "0")
    assert told.exit_code == 4 and "pip install 'sparring[serve]'" in told.output


def test_a_run_needs_its_database(tmp_path: Path) -> None:
    told = typed("r1", "--port", "0", "--db", str(tmp_path / "sparring.db"))
    assert told.exit_code == 5 and "no database" in told.output
