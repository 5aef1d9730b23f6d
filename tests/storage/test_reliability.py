"""Kills, full disks, readers and rivals: a step is all or nothing, and committed steps stay."""

import fcntl
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sparring.scenarios.errors import RunBusy, StorageFull
from sparring.storage import queries
from sparring.storage.locks import RunLock, is_held, lock_path
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

forking = multiprocessing.get_context("fork")


def write_on(file: Path, until: int, said: int) -> None:
    """Resume r1 and save steps up to ``until``, acknowledging each one through the pipe ``said``."""
    with Store(file) as store:
        last = store.resume_point("r1").last_step
        for number in range(0 if last is None else last + 1, until):
            store.save_step("r1", sample_step(number, episodes=2))
            os.write(said, bytes([number]))


def unbroken(steps: int) -> str:
    with Store.memory() as store:
        store.start_run("sample", {}, "digest", 0)
        for number in range(steps):
            store.save_step("r1", sample_step(number, episodes=2))
        return queries.run_hash(store, "r1")


def test_killed_anywhere_a_run_holds_whole_steps_and_resumes_to_the_same_end(file: Path) -> None:
    with Store(file) as store:
        store.start_run("sample", {}, "digest", 0)
    heard, said = os.pipe()
    rng, kills, last = random.Random(0), 0, None
    while kills < 20:
        process = forking.Process(target=write_on, args=(file, 250, said))
        process.start()
        acknowledged = os.read(heard, 1)[0]
        time.sleep(rng.uniform(0, 0.03))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        os.set_blocking(heard, False)
        while more := _read(heard):
            acknowledged = more[-1]
        os.set_blocking(heard, True)
        kills += process.exitcode == -signal.SIGKILL
        with Store(file) as store:
            assert queries.select_rows(store, "PRAGMA integrity_check").rows == (("ok",),)
            assert queries.select_rows(store, "PRAGMA foreign_key_check").rows == ()
            last = store.run("r1").last_step
            assert last is not None and last >= acknowledged
    with Store(file) as store:
        assert queries.damaged(store, "r1") == []
        assert last is not None
        assert queries.run_hash(store, "r1") == unbroken(last + 1)


def _read(pipe: int) -> bytes:
    try:
        return os.read(pipe, 4096)
    except BlockingIOError:
        return b""


def test_every_pooled_connection_has_the_pragmas(store: Store) -> None:
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
        "journal_size_limit": 67_108_864,
    }
    with store.read() as first, store.read() as second:  # two at once: two connections of the pool
        for session in (first, second):
            driver = session.connection()
            assert {name: driver.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted} == wanted


def save_some(file: Path, run: str, steps: int) -> None:
    with Store(file) as store:
        store.resume_point(run)
        for number in range(steps):
            store.save_step(run, sample_step(number, episodes=2))


def test_two_runs_write_one_database_at_once(file: Path) -> None:
    with Store(file) as store:
        for name in ("a", "b"):
            store.start_run(name, {}, "digest", 0)
    both = [forking.Process(target=save_some, args=(file, run, 15)) for run in ("r1", "r2")]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    with Store(file) as store:
        assert queries.run_hash(store, "r1") == queries.run_hash(store, "r2") == unbroken(15)


def test_a_reader_that_stays_open_neither_blocks_nor_sees_new_steps(filled: Store) -> None:
    assert filled.path is not None
    with Store(filled.path, create=False) as other, other.read() as session:
        count = "SELECT count(*) FROM steps"
        assert session.connection().exec_driver_sql(count).scalar() == 3
        before = time.perf_counter()
        filled.save_step("r1", sample_step(3, episodes=2))
        assert time.perf_counter() - before < 5
        assert session.connection().exec_driver_sql(count).scalar() == 3
    assert filled.run("r1").last_step == 3


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_refused_write_is_rolled_back_and_the_store_goes_on(filled: Store) -> None:
    before = queries.run_hash(filled, "r1")
    with file_size_limit(200_000), pytest.raises(StorageFull, match=r"sparring\.db.*bytes free"):
        for number in range(3, 40):
            filled.save_step("r1", sample_step(number, episodes=12))
            before = queries.run_hash(filled, "r1")
    assert queries.run_hash(filled, "r1") == before
    last = filled.run("r1").last_step
    assert last is not None
    filled.save_step("r1", sample_step(last + 1, episodes=12))
    assert queries.damaged(filled, "r1") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"cannot mount a small tmpfs: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_keeps_whole_steps_and_goes_on_once_there_is_room(small_disk: Path) -> None:
    with Store(small_disk / "sparring.db") as store:
        store.start_run("sample", {}, "digest", 0)
        with pytest.raises(StorageFull, match="bytes free"):
            for number in range(200):
                store.save_step("r1", sample_step(number, episodes=12))
        saved = store.run("r1").last_step
        assert saved is not None
        assert queries.damaged(store, "r1") == []
        subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
        store.save_step("r1", sample_step(saved + 1, episodes=12))
        assert queries.select_rows(store, "PRAGMA integrity_check").rows == (("ok",),)


def test_a_run_has_one_writer(filled: Store) -> None:
    assert filled.path is not None
    filled.save_step("r1", sample_step(3, 1))
    with Store(filled.path) as other:
        with pytest.raises(RunBusy, match="r1 is being written by this process"):
            other.save_step("r1", sample_step(4))
        assert other.start_run("second", {}, "digest", 0).id == "r2"
        filled.finish_run("r1", "stopped")
        assert other.resume_point("r1").last_step == 3


def hold(path: Path, said: int, fork_first: bool) -> None:
    """Take a lock, let a child inherit it perhaps, say the child's pid and wait to be killed."""
    lock = RunLock(path, "r1")
    child = os.fork() if fork_first else 0
    if child == 0 and fork_first:
        time.sleep(60)
        os._exit(0)
    os.write(said, str(child).encode().ljust(16))
    time.sleep(60)
    lock.release()


@pytest.mark.parametrize("fork_first", [False, True])
def test_a_killed_writers_lock_is_taken_over(tmp_path: Path, fork_first: bool) -> None:
    path = tmp_path / "r1.lock"
    heard, said = os.pipe()
    process = forking.Process(target=hold, args=(path, said, fork_first))
    process.start()
    child = int(os.read(heard, 16))
    with pytest.raises(RunBusy, match=f"written by process {process.pid}"):
        RunLock(path, "r1")
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    RunLock(path, "r1").release()
    if child:
        os.kill(child, signal.SIGKILL)
    assert not path.exists()


def start_and_wait(file: Path, said: int) -> None:
    store = Store(file)
    store.start_run("sample", {}, "digest", 0)
    store.save_step("r1", sample_step(0, episodes=2))
    os.write(said, b"x")
    time.sleep(60)


def test_a_killed_run_is_told_from_a_running_one(file: Path) -> None:
    Store(file).close()
    heard, said = os.pipe()
    process = forking.Process(target=start_and_wait, args=(file, said))
    process.start()
    os.read(heard, 1)
    with Store(file) as store:
        assert (store.run("r1").status, is_held(file, "r1")) == ("running", True)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert [run.status for run in queries.runs(store)] == ["killed"] and not is_held(file, "r1")
        store.resume_point("r1")
        assert store.run("r1").status == "running"
        store.finish_run("r1", "done")
        assert store.run("r1").status == "done"


@pytest.mark.parametrize("owner", [{"boot": "another", "space": "another", "pid": 1, "born": "1"}, {"pid": 1}])
def test_an_owner_from_elsewhere_is_known_by_its_flock(file: Path, owner: dict[str, object]) -> None:
    lock = RunLock(lock_path(file, "r1"), "r1")
    lock.path.write_text(json.dumps(owner))
    assert is_held(file, "r1")
    lock.release()
    lock.path.write_text(json.dumps(owner))  # left behind by a machine that went down
    assert not is_held(file, "r1")
    RunLock(lock.path, "r1").release()


def test_a_lock_nobody_has_signed_yet_is_held(file: Path) -> None:
    assert not is_held(file, "r1")
    lock_path(file, "r1").touch()
    assert is_held(file, "r1")


def test_looking_at_a_lock_never_keeps_a_writer_out(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_path(file, "r1").write_text(json.dumps({"boot": "another", "space": "another", "pid": 1, "born": "1"}))
    looking = os.open(lock_path(file, "r1"), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)  # as `is_held` does for a moment: until the writer has waited once
    monkeypatch.setattr(time, "sleep", lambda seconds: os.close(looking))
    RunLock(lock_path(file, "r1"), "r1").release()
