"""Turns scored once more by several processes on a server: each once, whoever is killed, and however two begin."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from typing import Any

import pytest

from sparring.envs.types import Score
from sparring.storage.leases import lease, new_holder
from sparring.storage.queries import select_rows
from sparring.storage.rescore_figures import compared
from sparring.storage.rescores import Asked, Rescore, Shift, begin, rescore, rescores
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

pytestmark = pytest.mark.postgres

forking = multiprocessing.get_context("fork")  # each child opens a store of its own, and leaves without a word
COUNTED = """
CREATE TABLE done (id INTEGER);
CREATE FUNCTION count_done() RETURNS trigger AS $$ BEGIN INSERT INTO done VALUES (NEW.id); RETURN NEW; END $$
  LANGUAGE plpgsql;
CREATE TRIGGER counted AFTER UPDATE OF validity ON rescored FOR EACH ROW WHEN (NEW.validity IS NOT NULL)
  EXECUTE FUNCTION count_done()"""


def toil(url: str, seed: int) -> None:
    """Lease a few turns, take a little time, hand in; until none waits."""
    rng = random.Random(seed)
    with Store(url, create=False) as store:
        shift = Shift(store, rescore(store, "r1", 1), new_holder(), 0.5)
        while True:
            rows = shift.take(3)
            left = shift.standing()
            if not rows and not left.free + left.leased:
                break
            time.sleep(rng.uniform(0, 0.02))
            shift.hand_in({row.id: Score.valued("verifier", 1.0, shift.holder) for row in rows})
    os._exit(0)


@pytest.fixture
def waiting(store: Store) -> Rescore:
    """A scoring of some hundred turns, with a log of every result that is ever written."""
    store.start_run("sample", {"name": "sample"}, "digest", 0)
    for number in range(4):
        store.save_step("r1", sample_step(number, episodes=12))
    with store.write() as connection:
        connection.exec_driver_sql(COUNTED)
    return begin(store, "r1", "verifier", "code", {}, Asked())


def test_processes_that_are_killed_lose_and_double_no_turn(url: str, store: Store, waiting: Rescore) -> None:
    """Bites: let ``finish`` write by id alone, and a turn is done twice."""
    workers = [forking.Process(target=toil, args=(url, seed)) for seed in range(6)]
    for worker in workers:
        worker.start()
    while rescore(store, "r1", 1).waiting > waiting.turns * 0.8 and all(worker.is_alive() for worker in workers):
        time.sleep(0.02)
    for worker in workers[:4]:
        os.kill(worker.pid or 0, signal.SIGKILL)
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL] * 4 + [0] * 2
    done = [row[0] for row in select_rows(store, "SELECT id FROM done ORDER BY id", 10_000).rows]
    assert len(done) == len(set(done)) == waiting.turns
    assert compared(store, rescore(store, "r1", 1)).total.valued == waiting.turns


def start(url: str, ready: Any) -> None:
    with Store(url, create=False) as store:
        ready.wait()
        begin(store, "r1", "verifier", "code", {}, Asked())
    os._exit(0)


def test_scorings_that_begin_at_the_same_moment_get_numbers_of_their_own(
    url: str, store: Store, waiting: Rescore
) -> None:
    ready = forking.Barrier(4)
    workers = [forking.Process(target=start, args=(url, ready)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert {worker.exitcode for worker in workers} == {0}
    found = rescores(store, "r1")
    assert [one.number for one in found] == [1, 2, 3, 4, 5] and {one.turns for one in found} == {waiting.turns}


def test_leased_rows_are_passed_over_and_nobody_waits(store: Store, waiting: Rescore) -> None:
    """Bites: leave SKIP LOCKED out, and the second lease waits for the first until it times out."""
    mine, yours = Shift(store, waiting, "mine"), Shift(store, waiting, "yours")
    with store.write() as connection:
        first = lease(connection, mine.queue, "mine", 5)
        second = [row.id for row in yours.take(5)]
    assert len(first) == len(second) == 5 and not set(first) & set(second)
