"""A reader that stays makes the log grow: it is named once, and the log shrinks when it has left."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sparring.storage import sqlite
from sparring.storage.readers import Readers, beside, grown, readers
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

SMALL = 200_000  # bytes
STAYS = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], isolation_level=None) as shell:
    shell.execute("BEGIN")
    print(shell.execute("SELECT count(*) FROM steps").fetchone()[0], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is folded in early and cut to a small size."""
    monkeypatch.setitem(sqlite.PRAGMAS, "journal_size_limit", SMALL)
    monkeypatch.setitem(sqlite.PRAGMAS, "wal_autocheckpoint", 20)


def test_a_reader_that_stays_is_named_once_and_the_log_shrinks_when_it_left(file: Path, small: None) -> None:
    """Bites: without the lock of the reader's mark every program that polls would be blamed."""
    told: list[str] = []
    with Store(file) as store:
        store.readers = Readers(file, SMALL)
        store.readers.tell = told.append
        store.start_run("sample", {}, "digest", 0)
        store.save_step("r1", sample_step(0, episodes=3))
        assert beside(file, "-wal").stat().st_size > SMALL and told == []  # large, but nobody holds it up
        with closing(sqlite3.connect(file)) as idle:  # has the file open, but reads nothing
            idle.execute("SELECT count(*) FROM steps").fetchone()
            command = [sys.executable, "-c", STAYS, str(file)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stays:
                assert stays.stdout is not None and stays.stdout.readline() == b"1\n"
                for number in range(1, 12):
                    store.save_step("r1", sample_step(number, episodes=3))
                full = beside(file, "-wal").stat().st_size
                assert [process.pid for process in readers(file)] == [stays.pid]
                stays.communicate()
            assert len(told) == 1 and f"process {stays.pid} ({sys.executable} -c" in told[0]
            assert "nothing is lost" in told[0]
        for number in range(12, 15):
            store.save_step("r1", sample_step(number, episodes=1))
        assert beside(file, "-wal").stat().st_size < full / 4
        assert len(told) == 1
    assert not beside(file, "-wal").exists()


def test_a_log_within_its_limit_is_not_mentioned(file: Path) -> None:
    told: list[str] = []
    with Store(file) as store:
        assert store.readers.path == file and store.readers.limit == 64 * 2**20
        store.readers.tell = told.append
        store.start_run("sample", {}, "digest", 0)
        store.save_step("r1", sample_step(0, episodes=3))
    assert told == []


def test_a_reader_within_the_run_itself_is_told_as_such(store: Store, file: Path) -> None:
    store.start_run("sample", {}, "digest", 0)
    with closing(sqlite3.connect(file, isolation_level=None)) as shell:
        shell.execute("BEGIN")
        shell.execute("SELECT count(*) FROM runs").fetchone()
        assert [process.pid for process in readers(file)] == [os.getpid()]
        assert "because this process itself keeps reading" in grown(file, 80_000_000)
    assert "cannot be named" in grown(file, 80_000_000)


def test_a_reader_is_named_without_what_its_command_hides(file: Path) -> None:
    """Bites: with the whole command line shown, keys given as options stand in the message."""
    Store(file).close()
    command = [sys.executable, "-c", STAYS, str(file), "--key", "sk-secret"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stays:
        assert stays.stdout is not None and stays.stdout.readline() == b"0\n"
        said = grown(file, 80_000_000)
        stays.communicate()
    assert str(stays.pid) in said and "sk-secret" not in said and "\n" not in said


def test_memory_has_no_log_to_watch() -> None:
    with Store.memory() as store:
        store.start_run("sample", {}, "digest", 0)
        store.save_step("r1", sample_step(0, episodes=1))
        assert store.readers.path is None
