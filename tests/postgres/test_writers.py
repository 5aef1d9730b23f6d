"""Several processes write one server: nothing collides, a run has one writer, whoever dies or is cut off."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from sparring.scenarios.errors import RunBusy, StoreError
from sparring.storage import queries
from sparring.storage.exporting.archive import pack, unpack
from sparring.storage.records import StepRecord
from sparring.storage.rows import table
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.storage.tables import Episodes

from .conftest import Server

pytestmark = pytest.mark.postgres

forking = multiprocessing.get_context("fork")


def begun(work: Callable[..., Any], *given: Any) -> Any:
    """A process of its own, which ends without what a fork inherited."""

    def run() -> None:
        try:
            work(*given)
        except BaseException as error:
            print(repr(error))
            os._exit(1)
        os._exit(0)

    process = forking.Process(target=run)
    process.start()
    return process


def write(url: str, seed: int, steps: int) -> None:
    with Store(url) as store:
        run = store.start_run("sample", {"seed": seed % 2}, f"digest{seed % 2}", seed).id
        for number in range(steps):
            store.save_step(run, sample_step(number, episodes=4, seed=seed))
        store.finish_run(run, "done")


def hold(url: str, run: str, ready: Any, fork_first: bool) -> None:
    store = Store(url)
    store.resume_point(run)
    if fork_first and os.fork() == 0:  # a worker that outlives its parent, with the parent's connection
        time.sleep(60)
        os._exit(0)
    ready.send(True)
    time.sleep(60)


def test_four_processes_write_four_runs_at_once_and_none_meets_another(url: str, tmp_path: Path) -> None:
    writers = [begun(write, url, seed, 5) for seed in range(4)]
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    with Store(url) as store, Store(tmp_path / "one.db") as file:
        rows = queries.runs(store)
        assert [(row.id, row.status, row.last_step) for row in rows] == [(f"r{n}", "done", 4) for n in (1, 2, 3, 4)]
        for row in rows:
            here = file.start_run("sample", {"seed": row.seed % 2}, f"digest{row.seed % 2}", row.seed).id
            for number in range(5):
                file.save_step(here, sample_step(number, episodes=4, seed=row.seed))
            assert queries.run_hash(store, row.id) == queries.run_hash(file, here)
            assert queries.damaged(store, row.id) == []
        assert queries.select_rows(store, "SELECT count(*) FROM scenarios").rows == ((2,),)


def test_a_run_that_is_imported_while_others_are_written_takes_nobodys_ids(url: str, tmp_path: Path) -> None:
    with Store(tmp_path / "one.db") as file:
        file.start_run("theirs", {}, "theirs", 0)
        for number in range(3):
            file.save_step("r1", sample_step(number, episodes=4))
        kept = pack(file, "r1", tmp_path / "a", {}).runs["r1"]
    writers = [begun(write, url, seed, 6) for seed in range(2)]
    with Store(url) as store:
        names = [unpack(store, tmp_path / "a")["r1"] for _ in range(3)]
        for writer in writers:
            writer.join(120)
        assert [writer.exitcode for writer in writers] == [0, 0] and len(queries.runs(store)) == 5
        assert {queries.run_hash(store, name) for name in names} == {kept}
        store.save_step(names[0], sample_step(3, episodes=4))  # it goes on, with ids of its own


def test_a_run_has_one_writer_who_is_named(filled: Store, url: str) -> None:
    with Store(url) as second:
        with pytest.raises(RunBusy, match="run r1 is being written by this process, through another store"):
            second.save_step("r1", sample_step(3, episodes=4))
        assert second.run("r1").status == "running"
        other = second.start_run("other", {}, "digest", 1).id
        second.save_step(other, sample_step(0, episodes=4))  # another run may be written meanwhile
        filled.finish_run("r1", "stopped")
        second.resume_point("r1")
        second.save_step("r1", sample_step(3, episodes=4))


@pytest.mark.parametrize("fork_first", [False, True])
def test_a_killed_writers_run_is_told_and_taken_over(filled: Store, url: str, fork_first: bool) -> None:
    filled.finish_run("r1", "stopped")
    here, there = forking.Pipe()
    writer = begun(hold, url, "r1", there, fork_first)
    assert here.recv()
    with pytest.raises(RunBusy, match=f"process {writer.pid} on "):
        filled.resume_point("r1")
    assert filled.run("r1").status == "running"
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    until = time.monotonic() + 30
    while filled.run("r1").status != "killed" and time.monotonic() < until:
        time.sleep(0.02)
    assert filled.run("r1").status == "killed"
    assert filled.resume_point("r1").last_step == 2


def test_a_writer_that_was_cut_off_writes_no_more_and_the_run_goes_on(filled: Store, url: str, server: Server) -> None:
    before = queries.run_hash(filled, "r1")
    asked = "SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objid = 1 AND l.objsubid = 2"
    ((session,),) = queries.select_rows(filled, f"{asked} AND l.classid = 'runs'::regclass::oid").rows
    server.do(f"SELECT pg_terminate_backend({session}, 5000)")
    with Store(url) as second:
        assert second.resume_point("r1").last_step == 2
        with pytest.raises(StoreError, match=r"held run r1 has ended and this process.* has it now.*resume r1"):
            filled.save_step("r1", sample_step(3, episodes=4))
        assert queries.run_hash(second, "r1") == before
        second.save_step("r1", sample_step(3, episodes=4))


def test_a_server_that_was_restarted_costs_no_step(filled: Store, url: str, server: Server) -> None:
    before = queries.run_hash(filled, "r1")
    server.stop()
    with pytest.raises(StoreError, match=r"cannot be reached|does not answer"):
        filled.save_step("r1", sample_step(3, episodes=4))
    server.start()
    with pytest.raises(StoreError, match="sparring resume r1"):
        filled.save_step("r1", sample_step(3, episodes=4))
    assert queries.run_hash(filled, "r1") == before
    with Store(url) as again:
        again.resume_point("r1")
        again.save_step("r1", sample_step(3, episodes=4))
        assert again.run("r1").last_step == 3


def test_a_server_that_dies_under_a_step_leaves_it_whole_or_absent(url: str, server: Server) -> None:
    with Store(url) as store:
        store.start_run("sample", {}, "digest", 0)
    for wait in (0.0, 0.005, 0.01, 0.02, 0.04):
        with Store(url) as store:
            last = store.resume_point("r1").last_step
            step = 0 if last is None else last + 1
            switch = threading.Timer(wait, server.stop)
            switch.start()
            with pytest.raises(StoreError):
                for number in range(step, step + 1000):
                    store.save_step("r1", sample_step(number, episodes=4))
            switch.join()
            server.start()
    with Store(url) as store, Store.memory() as memory:
        assert queries.damaged(store, "r1") == []
        memory.start_run("sample", {}, "digest", 0)
        for number in range(len(queries.steps(store, "r1"))):
            memory.save_step("r1", sample_step(number, episodes=4))
        assert queries.run_hash(memory, "r1") == queries.run_hash(store, "r1")


def test_the_database_itself_keeps_lent_episodes_and_refuses_what_contradicts(filled: Store) -> None:
    lent = [row.id for row in queries.stored_episodes(filled, "r1")][:1]
    filled.start_run("borrower", {}, "digest", 1)
    filled.save_step("r2", StepRecord(0, borrowed=tuple(lent)))
    with pytest.raises(StoreError, match="rows contradict each other"), filled.write() as connection:
        connection.execute(delete(table(Episodes)).where(table(Episodes).c.id == lent[0]))
    assert len(queries.stored_episodes(filled, "r1")) == 12


def test_readers_see_one_moment_and_wait_for_nobody(filled: Store, url: str) -> None:
    with Store(url) as reader, reader.read() as session:
        asked = Episodes.__table__.select()
        before = len(session.execute(asked).all())
        filled.save_step("r1", sample_step(3, episodes=4))
        assert len(session.execute(asked).all()) == before
    with Store(url) as reader:
        assert len(queries.steps(reader, "r1")) == 4
