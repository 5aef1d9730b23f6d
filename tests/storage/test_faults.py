"""Readers that stay, damaged files, killed upgrades, clocks that jump, few descriptors: told or harmless."""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from sparring.scenarios.errors import StoreError
from sparring.storage import queries, step_rows
from sparring.storage.samples import sample_step
from sparring.storage.schema import HEAD, schema_version
from sparring.storage.store import Store

forking = multiprocessing.get_context("fork")
FIRST = Path(__file__).with_name("first_schema.sql")


def poll(file: Path, stop: Path, said: int) -> None:
    """Read over and over until ``stop`` is there; say how often, or what went wrong."""
    reads = 0
    try:
        while not stop.exists():
            with Store(file, create=False) as store:
                queries.runs(store), queries.steps(store, "r1")
            reads += 1
        os.write(said, f"{reads}\n".encode())
    except Exception as error:
        os.write(said, f"{type(error).__name__}: {error}\n".encode())


@pytest.mark.slow
def test_readers_that_poll_and_one_that_never_leaves_keep_nobody_out(file: Path, tmp_path: Path) -> None:
    """Bites: with ``journal_mode=DELETE`` and no ``busy_timeout`` the readers are told the database is locked."""
    heard, said = os.pipe()
    with Store(file) as store:
        store.start_run("sample", {}, "digest", 0)
        store.save_step("r1", sample_step(0, episodes=2))
        readers = [forking.Process(target=poll, args=(file, tmp_path / "stop", said)) for _ in range(2)]
        for reader in readers:
            reader.start()
        with closing(sqlite3.connect(file, isolation_level=None)) as shell:
            shell.execute("BEGIN")
            assert shell.execute("SELECT count(*) FROM steps").fetchone() == (1,)
            for number in range(1, 40):
                store.save_step("r1", sample_step(number, episodes=2))
            assert shell.execute("SELECT count(*) FROM steps").fetchone() == (1,)
        (tmp_path / "stop").touch()
        for reader in readers:
            reader.join(60)
        os.close(said)
        with os.fdopen(heard) as pipe:
            assert all(line.strip().isdigit() and int(line) > 0 for line in pipe.read().splitlines())
        log = file.with_name(file.name + "-wal")
        assert log.stat().st_size < 64 * 2**20
    assert not log.exists()  # the last one out folds the log into the file


def damage(file: Path, kind: str, rng: random.Random) -> None:
    """One bit turned, one sector zeroed, or the end cut off, anywhere."""
    data = bytearray(file.read_bytes())
    at = rng.randrange(len(data))
    if kind == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "sector":
        data[at - at % 512 : at - at % 512 + 512] = bytes(512)
    else:
        del data[at:]
    file.write_bytes(data)


def told(file: Path) -> tuple[bool, str]:
    """Whether something is said about a database's episodes, and a hash over everything a run did."""
    try:
        with Store(file, create=False) as store:
            whole = queries.select_rows(store, "PRAGMA integrity_check").rows == (("ok",),)
            return bool(queries.damaged(store, "r1")) or not whole, queries.run_hash(store, "r1")
    except (StoreError, ValueError, KeyError, TypeError) as error:
        return True, str(error)


def silent(folder: Path, points: int) -> list[str]:
    """Damaged copies of one database about which nothing is said although a step's episodes read otherwise."""
    original, rng, found = folder / "whole.db", random.Random(points), list[str]()
    with Store(original) as store:
        store.start_run("sample", {}, "digest", 0)
        for number in range(2):
            store.save_step("r1", sample_step(number, episodes=2))
        expected = [one.episode for one in queries.stored_episodes(store, "r1")]
    assert told(original)[0] is False
    for number in range(points):
        kind = ("bit", "bit", "sector", "bit", "bit", "cut")[number % 6]  # bits are the hardest to see
        copy = folder / f"{number}.db"
        shutil.copy(original, copy)
        damage(copy, kind, rng)
        if not told(copy)[0]:
            with Store(copy, create=False) as store:
                same = [one.episode for one in queries.stored_episodes(store, "r1")] == expected
            found += [] if same else [f"{kind}, {number}"]
        copy.unlink()
    return found


@pytest.mark.slow
def test_damage_to_an_episode_is_never_silent(tmp_path: Path) -> None:
    """Bites: with ``damaged`` answering ``[]`` turned bits pass ``integrity_check`` unseen."""
    assert silent(tmp_path, 60) == []


@pytest.mark.slow
def test_damage_to_an_episode_is_never_silent_at_two_hundred_places(tmp_path: Path) -> None:
    assert silent(tmp_path, 200) == []


def upgrade(file: Path) -> None:
    Store(file).close()


@pytest.mark.parametrize("kills", [15, pytest.param(50, marks=pytest.mark.slow)])
def test_an_upgrade_killed_anywhere_leaves_the_old_schema_or_the_new_one(tmp_path: Path, kills: int) -> None:
    """Bites: with ``_upgrade`` outside a transaction a kill between two statements leaves a schema of neither kind."""
    old, rng = tmp_path / "old.db", random.Random(kills)
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(FIRST.read_text())
    shutil.copy(old, tmp_path / "new.db")
    clock = time.monotonic()
    upgrade(tmp_path / "new.db")  # imports what the children need, too
    seconds, found = time.monotonic() - clock, set[str | None]()
    whole = tables(tmp_path / "new.db")
    for number in range(kills):
        file = tmp_path / f"{number}.db"
        shutil.copy(old, file)
        process = forking.Process(target=upgrade, args=(file,))
        process.start()
        time.sleep(rng.uniform(0, seconds))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        version = schema_version(file)
        found.add(version)
        assert version in ("0001", HEAD)
        if version == "0001":
            assert tables(file) == tables(old)
        with Store(file) as store:
            assert queries.damaged(store, "r1") == [] and store.run("r1").last_step == 1
        assert tables(file) == whole
    assert "0001" in found


def tables(file: Path) -> list[tuple[str, str]]:
    """Everything in the schema, by name."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()


def test_a_schema_from_the_future_is_refused_by_its_name_and_left_alone(file: Path) -> None:
    Store(file).close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = file.read_bytes()
    with pytest.raises(StoreError, match="schema 9999"):
        Store(file)
    assert file.read_bytes() == before


def test_a_clock_that_jumps_changes_no_row_but_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bites: order rows or pick the newest step by time stamp, and the steps come back shuffled."""
    hours = iter([5, 9, 1, 1, 0, 7, 3, 8, 2, 2, 6])
    monkeypatch.setattr(step_rows, "now", lambda: f"2026-01-01T{next(hours):02}:00:00+00:00")
    store.start_run("sample", {"name": "sample"}, "digest", 5)
    for number in range(4):
        store.save_step("r1", sample_step(number, episodes=2))
    assert [step.step for step in queries.steps(store, "r1")] == [0, 1, 2, 3]
    assert store.resume_point("r1").last_step == 3
    monkeypatch.undo()
    with Store.memory() as other:
        other.start_run("sample", {"name": "sample"}, "digest", 5)
        for number in range(4):
            other.save_step("r1", sample_step(number, episodes=2))
        assert queries.run_hash(store, "r1") == queries.run_hash(other, "r1")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder nobody can write to, with a database in it: root needs a mount, others a mode."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with Store(folder / "sparring.db") as store:
        store.start_run("sample", {}, "digest", 0)
        store.save_step("r1", sample_step(0, episodes=2))
    if os.geteuid() == 0:
        made = subprocess.run(["mount", "--bind", "-o", "ro", folder, folder], capture_output=True, text=True)
        if made.returncode != 0:
            pytest.skip(f"root can write anywhere, and mounting is refused: {made.stderr.strip()}")
        yield folder
        subprocess.run(["umount", "-l", folder], check=True)
    else:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)


@pytest.mark.timeout(25)  # less than the 30 s of patience with a lock, which never comes here
def test_a_folder_that_cannot_be_written_is_named_at_once(read_only: Path) -> None:
    """Bites: without translating driver errors this is sqlite3's own ``attempt to write a readonly database``."""
    with pytest.raises(StoreError, match=str(read_only)):
        Store(read_only / "sparring.db").start_run("second", {}, "digest", 0)
    with pytest.raises(StoreError, match=str(read_only)):
        Store(read_only / "new.db")


FEW = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
with Store(sys.argv[1]) as store:
    store.start_run("sample", {}, "digest", 0)
    for number in range(30):
        store.save_step("r1", sample_step(number, episodes=2))
        store.run("r1")
print(store.path)
"""


@pytest.mark.slow
def test_sixty_four_descriptors_are_enough(file: Path) -> None:
    """Bites: a descriptor left open per step ends this run after some twenty steps."""
    done = subprocess.run([sys.executable, "-c", FEW, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 64


def test_a_million_odd_characters_come_back_as_they_were(store: Store) -> None:
    """Bites: text stored without its escapes loses what follows a NUL and refuses half a surrogate."""
    said = "a\x00b\ud800\U0001f600\\u0000 " * 100_000
    step = sample_step(0, episodes=1)
    first = step.episodes[0]
    turns = (replace(first.turns[0], said=said), *first.turns[1:])
    store.start_run("sample", {}, "digest", 0)
    store.save_step("r1", replace(step, episodes=(replace(first, turns=turns),)))
    assert queries.stored_episodes(store, "r1")
    assert queries.episode(store, "r1", "r1/0/0").turns[0].said == said
    assert queries.damaged(store, "r1") == []
