"""Whole runs by the command line on a server: equal to those in a file, after a kill too; every command answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparring.storage import queries
from sparring.storage.exporting.archive import pack, unpack
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.training.cli import app

from .conftest import Server

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]

STEPS = 6
WAIT_S = 120

Sparring = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def sparring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sparring:
    """The command line in a process of its own, in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def begin(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sparring", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return begin


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    told, _ = process.communicate(timeout=WAIT_S)
    return process.returncode, told


def started(sparring: Sparring, url: str) -> subprocess.Popen[str]:
    """A run of the smallest scenario, once it has a whole step."""
    process = sparring("run", "smoke", "-s", f"training.steps={STEPS}", "--db", url)
    until = time.monotonic() + WAIT_S
    with Store(url) as store:
        while not queries.runs(store) or not queries.steps(store, "r1"):
            assert process.poll() is None and time.monotonic() < until, "the run came to no step"
            time.sleep(0.02)
    return process


@pytest.fixture
def expected(sparring: Sparring, tmp_path: Path) -> str:
    """The hash of the same run in a file, never broken."""
    code, told = ended(sparring("run", "smoke", "-s", f"training.steps={STEPS}", "--db", "file.db"))
    assert code == 0, told
    with Store(tmp_path / "file.db") as store:
        return queries.run_hash(store, "r1")


def test_a_killed_run_on_a_server_ends_as_the_unbroken_one_in_a_file(
    sparring: Sparring, url: str, expected: str
) -> None:
    process = started(sparring, url)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Store(url) as store:
        until = time.monotonic() + 30
        while store.run("r1").status != "killed" and time.monotonic() < until:
            time.sleep(0.05)
        assert store.run("r1").status == "killed"
    code, told = ended(sparring("resume", "r1", "--db", url))
    assert code == 0 and "geheim" not in told, told
    with Store(url) as store:
        assert queries.run_hash(store, "r1") == expected
        assert queries.damaged(store, "r1") == [] and store.run("r1").status == "done"


def test_a_server_restarted_in_mid_run_ends_it_with_what_to_type(
    sparring: Sparring, url: str, server: Server, expected: str
) -> None:
    process = started(sparring, url)
    server.stop()
    server.start()
    code, told = ended(process)
    assert code == 5 and "resume" in told and "geheim" not in told and "Traceback" not in told, told
    code, told = ended(sparring("resume", "r1", "--db", url))
    assert code == 0, told
    with Store(url) as store:
        assert queries.run_hash(store, "r1") == expected


COMMANDS = [
    ("runs",), ("show", "r1"), ("show", "r1/1"), ("show", "r1/1/0"), ("show", "latest", "--best"), ("why", "r1/1"),
    ("why", "r1/1/0"), ("diff", "r1/1/0", "r1/1/1"), ("compare", "r1", "r1"), ("replay", "r1"), ("tail", "r1"),
    ("watch", "r1"), ("sql", "SELECT * FROM v_episodes LIMIT 2"), ("prune", "--keep", "1"), ("doctor",),
    ("export", "r1", "--to", "jsonl"), ("export", "r1", "--to", "archive", "--out", "r1.tar.gz"),
    ("import", "r1.tar.gz"), ("show", "r2"), ("resume", "r2"), ("prune", "--keep", "1", "--yes"),
]  # fmt: skip


def test_every_command_answers(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPARRING_DB", url)
    assert CliRunner().invoke(app, ["run", "smoke"]).exit_code == 0
    folders = [path for path in (tmp_path / "checkpoints").rglob("r1") if path.is_dir()]
    assert len(folders) == 1 and list(folders[0].iterdir())
    for words in COMMANDS:
        found = CliRunner().invoke(app, list(words))
        assert found.exit_code == 0 and "geheim" not in found.output, (
            f"{' '.join(words)}\n{found.output}{found.exception}"
        )
    with Store(url) as store:
        assert [row.id for row in queries.runs(store)] == ["r2"]
        assert "geheim" not in queries.select_rows(store, "SELECT info FROM runs").rows[0][0]
    assert not folders[0].exists()


def test_a_run_goes_from_a_file_to_a_server_and_back(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "step-000002"
    checkpoint.mkdir()
    (checkpoint / "MANIFEST.json").write_text("{}")
    with Store(tmp_path / "a.db") as first, Store(url) as server, Store(tmp_path / "b.db") as last:
        server.start_run("other", {}, "other", 0)
        server.save_step("r1", sample_step(0, episodes=3, seed=5))
        first.start_run("sample", {"name": "sample"}, "digest", 0)
        for number in range(3):
            first.save_step("r1", sample_step(number, episodes=4))
        made = pack(first, "r1", tmp_path / "there.tar.gz", {2: checkpoint})
        assert unpack(server, tmp_path / "there.tar.gz") == {"r1": "r2"}
        assert (server.checkpoints / "r2" / checkpoint.name / "MANIFEST.json").is_file()
        back = pack(server, "r2", tmp_path / "back", {})
        assert unpack(last, tmp_path / "back") == {"r2": "r1"}
        hashes = {queries.run_hash(*at) for at in ((first, "r1"), (server, "r2"), (last, "r1"))}
        assert hashes == {made.runs["r1"]} == {back.runs["r2"]}
        for one, run in ((server, "r2"), (last, "r1")):
            assert queries.damaged(one, run) == []
            one.resume_point(run)
            one.save_step(run, sample_step(3, episodes=4))
    assert os.listdir(tmp_path / "checkpoints")
