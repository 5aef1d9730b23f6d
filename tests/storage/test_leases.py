"""Leased rows: whoever is killed, suspended or given another time, each is done exactly once and none is lost."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Double, Integer, MetaData, String, Table, insert, select

from sparring.scenarios.errors import StoreError
from sparring.storage.leases import Queue, finish, give_back, lease, new_holder, renew, standing
from sparring.storage.store import Store

forking = multiprocessing.get_context("fork")
WORK = Table(
    "work",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("result", String),
    Column("leased_by", String),
    Column("leased_until", Double),
)
WAITS = WORK.c.result.is_(None)
COUNTED = """CREATE TRIGGER counted AFTER UPDATE OF result ON work WHEN NEW.result IS NOT NULL
  BEGIN INSERT INTO done VALUES (NEW.id, NEW.result); END"""


class Yard:
    """A database with ``n`` rows of work, whose time is ``now``; ``done`` counts every result that is ever written."""

    def __init__(self, n: int, path: Path | None = None) -> None:
        self.store = Store.memory() if path is None else Store(path)
        self.now, self.database = 1000.0, self.store._database
        self.queue = Queue(WORK, WAITS, 10.0, lambda connection: self.now)
        with self.database.write() as connection:
            WORK.create(connection)
            connection.exec_driver_sql("CREATE TABLE done (id INTEGER, result TEXT)")
            connection.exec_driver_sql(COUNTED)
        self.fill(n)

    def fill(self, n: int) -> None:
        """These rows, none of them done, and no others."""
        with self.database.write() as connection:
            for table in ("work", "done"):
                connection.exec_driver_sql(f"DELETE FROM {table}")
            connection.execute(insert(WORK), [{"id": number} for number in range(n)])

    def lease(self, holder: str, most: int = 1) -> list[int]:
        with self.database.write() as connection:
            return lease(connection, self.queue, holder, most)

    def finish(self, holder: str, ids: list[int], said: str = "") -> list[int]:
        with self.database.write() as connection:
            return finish(connection, self.queue, holder, {row: {"result": said or holder} for row in ids})

    def done(self) -> list[tuple[int, str]]:
        with self.database.write() as connection:
            return [(row[0], row[1]) for row in connection.exec_driver_sql("SELECT * FROM done ORDER BY id")]

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def yard() -> Iterator[Yard]:
    """Five rows of work, in memory."""
    with closing(Yard(5)) as made:
        yield made


def test_rows_are_taken_in_order_and_once(yard: Yard) -> None:
    assert (yard.lease("a", 2), yard.lease("b", 2), yard.lease("c", 2)) == ([0, 1], [2, 3], [4])
    assert yard.lease("d", 2) == []


def test_a_lease_that_ran_out_is_given_to_the_next(yard: Yard) -> None:
    assert yard.lease("slow", 5) == [0, 1, 2, 3, 4]
    yard.now += 10.5
    assert yard.lease("next", 2) == [0, 1]


def test_a_slow_worker_neither_doubles_nor_overwrites_what_was_taken_from_it(yard: Yard) -> None:
    yard.lease("slow", 2)
    yard.now += 11
    assert yard.lease("quick", 1) == [0] and yard.finish("slow", [0, 1]) == [1]
    assert yard.finish("quick", [0]) == [0] and yard.finish("slow", [0]) == []
    assert yard.done() == [(0, "quick"), (1, "slow")]


def test_nobody_finishes_what_was_never_leased_to_them(yard: Yard) -> None:
    yard.lease("a", 1)
    assert yard.finish("b", [0, 1]) == [] and yard.done() == []


def test_a_renewed_lease_lasts_and_a_lost_one_is_not_renewed(yard: Yard) -> None:
    yard.lease("a", 2)
    yard.now += 9
    with yard.database.write() as connection:
        assert renew(connection, yard.queue, "a", [0]) == [0]
    yard.now += 9
    assert yard.lease("b", 1) == [1]
    with yard.database.write() as connection:
        assert renew(connection, yard.queue, "a", [0, 1]) == [0]


def test_what_is_given_back_is_free_at_once(yard: Yard) -> None:
    yard.lease("a", 5)
    with yard.database.write() as connection:
        assert give_back(connection, yard.queue, "a", [3, 4]) == [3, 4]
        assert standing(connection, yard.queue).free == 2
    assert yard.lease("b", 5) == [3, 4]


def test_a_clock_that_jumps_back_keeps_no_row_of_a_dead_worker(yard: Yard) -> None:
    """Bites: without the upper bound on ``leased_until`` the rows stay leased for a day."""
    yard.lease("dead", 5)
    yard.now -= 86_400
    assert yard.lease("next", 5) == [0, 1, 2, 3, 4]


def test_how_far_the_queue_is_can_be_asked(yard: Yard) -> None:
    yard.finish("a", yard.lease("a", 1))
    yard.lease("b", 1)
    yard.now += 4
    with yard.database.write() as connection:
        found = standing(connection, yard.queue)
    assert (found.free, found.leased, found.ends_in) == (3, 1, 6.0)


def test_a_result_that_leaves_its_row_waiting_is_refused_and_nothing_is_saved(yard: Yard) -> None:
    yard.lease("a", 2)
    with (
        pytest.raises(StoreError, match="1 of 2 results leave their rows waiting"),
        yard.database.write() as connection,
    ):
        finish(connection, yard.queue, "a", {0: {"result": "x"}, 1: {"result": None}})
    assert yard.done() == [] and yard.finish("a", [0, 1]) == [0, 1]


def test_the_clock_is_the_databases(tmp_path: Path) -> None:
    with closing(Yard(1, tmp_path / "work.db")) as yard, yard.database.write() as connection:
        assert abs(Queue(WORK, WAITS).clock(connection) - time.time()) < 60


MOVES = st.one_of(
    st.tuples(st.just("lease"), st.integers(0, 3), st.integers(1, 4)),
    st.tuples(st.sampled_from(["finish", "renew", "give back", "forget"]), st.integers(0, 3), st.integers(0, 6)),
    st.tuples(st.just("jump"), st.just(0), st.sampled_from([-100_000.0, -30.0, -5.0, 3.0, 9.0, 12.0, 100_000.0])),
)


@settings(max_examples=150)
@given(moves=st.lists(MOVES, max_size=40))
def test_whatever_the_order_every_row_is_done_once_and_none_is_lost(yard: Yard, moves: list[Any]) -> None:
    """Bites: let ``finish`` write by id alone, and results double."""
    calls = {"renew": renew, "give back": give_back}
    yard.fill(6)
    held: list[list[int]] = [[], [], [], []]
    for at, (kind, who, much) in enumerate(moves):
        if kind == "jump":
            yard.now += much
        elif kind == "lease":
            held[who] += yard.lease(f"w{who}", much)
        elif kind == "finish":
            yard.finish(f"w{who}", held[who][:much] if much else held[who], f"{at}")
        elif kind == "forget":  # the process is killed, and what it knew is gone
            held[who] = []
        else:
            with yard.database.write() as connection:
                calls[kind](connection, yard.queue, f"w{who}", held[who])
    while taken := yard.lease("last", 2) or _later(yard):
        yard.finish("last", taken)
    assert [row for row, _ in yard.done()] == list(range(6))


def _later(yard: Yard) -> list[int]:
    """What is free once every lease has ended."""
    yard.now += yard.queue.seconds + 1
    return yard.lease("last", 2)


def toil(file: Path, seed: int) -> None:
    """Lease, take a little time, hand in; until no row waits."""
    rng, holder, store = random.Random(seed), new_holder(), Store(file)
    database = store._database
    queue = Queue(WORK, WAITS, 0.2)
    while True:
        with database.write() as connection:
            ids = lease(connection, queue, holder, 3)
            left = standing(connection, queue)
        if not ids and not left.free + left.leased:
            os._exit(0)
        time.sleep(rng.uniform(0, 0.02) if ids else 0.02)
        with database.write() as connection:
            finish(connection, queue, holder, {row: {"result": holder} for row in ids})


@pytest.mark.slow
def test_workers_that_are_killed_at_any_moment_lose_and_double_nothing(tmp_path: Path) -> None:
    """Bites: let ``finish`` write by id alone, and a row is done twice."""
    n, file, rng = 300, tmp_path / "work.db", random.Random(5)
    Yard(n, file).close()
    workers = {seed: forking.Process(target=toil, args=(file, seed)) for seed in range(4)}
    for worker in workers.values():
        worker.start()
    killed = 0
    for seed in range(4, 34):
        time.sleep(rng.uniform(0, 0.03))
        gone = rng.choice(sorted(workers))
        if (victim := workers.pop(gone)).is_alive():
            os.kill(victim.pid or 0, signal.SIGKILL)
        victim.join()
        killed += victim.exitcode == -signal.SIGKILL
        workers[seed] = forking.Process(target=toil, args=(file, seed))
        workers[seed].start()
    for worker in workers.values():
        worker.join(60)
    assert killed > 5 and {worker.exitcode for worker in workers.values()} == {0}
    with Store(file) as store, store._database.write() as connection:
        done = [row[0] for row in connection.exec_driver_sql("SELECT id FROM done ORDER BY id")]
        assert done == list(range(n))
        assert connection.execute(select(WORK.c.id).where(WORK.c.leased_by.is_not(None))).all() == []


def test_a_worker_that_was_suspended_past_its_lease_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "work.db"
    with closing(Yard(1, file)) as yard:
        yard.queue = Queue(WORK, WAITS, 0.05)
        assert yard.lease("suspended", 1) == [0]
        while not yard.lease("other", 1):
            time.sleep(0.01)
        assert yard.finish("suspended", [0]) == [] and yard.finish("other", [0]) == [0]
        assert yard.done() == [(0, "other")]
