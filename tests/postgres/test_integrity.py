"""Hashes, verify and dropping tokens work on a server as they do on a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from sparring.storage import queries
from sparring.storage.exporting.archive import pack, unpack
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.storage.thinning import dropped_on, thin, weigh
from sparring.storage.verifying import verify, verify_at

OF = "JOIN episodes e ON e.id = t.episode_id JOIN steps s ON s.id = e.step_id"
pytestmark = pytest.mark.postgres


def fill(store: Store) -> None:
    """Run r1 of three steps; the last learnt again from an episode of the first."""
    store.start_run("sample", {"name": "sample"}, "digest", 0)
    for number in range(3):
        step = sample_step(number, episodes=3)
        learnt = replace(step.advantages[0], tokens=(0.5,) * step.advantages[0].n_tokens)
        lent = tuple(one.id for one in queries.stored_episodes(store, "r1", limit=1)) if number == 2 else ()
        store.save_step("r1", replace(step, advantages=(learnt, *step.advantages[1:]), borrowed=lent))
    store.finish_run("r1", "done")


def change(store: Store, sql: str) -> None:
    with store.write() as connection:
        connection.execute(text(sql))


def test_every_episode_and_step_is_covered_on_a_server(url: str) -> None:
    with Store(url) as store:
        fill(store)
        found = verify(store)
        assert (found.findings, found.steps, found.episodes, found.uncovered) == ([], 3, 9, 0)
        change(store, f"UPDATE turns SET said = 'x' WHERE id = (SELECT min(t.id) FROM turns t {OF} WHERE s.number = 0)")
        change(store, "UPDATE advantages SET value = value + 1 WHERE step_id = (SELECT id FROM steps WHERE number = 1)")
        change(
            store, f"UPDATE tasks SET parent_id = NULL WHERE id IN (SELECT t.id FROM tasks t {OF} WHERE s.number = 2)"
        )
    places = [finding.where for finding in verify_at(url).findings]
    assert places[0] == "r1/1" and {"r1/0/0", "r1/2/0", "r1/2/1"} == set(places[1:])


def test_a_step_has_the_same_hash_on_both_and_keeps_it_when_it_moves(url: str, tmp_path: Path) -> None:
    with Store(url) as store, Store(tmp_path / "here.db") as here:
        fill(store)
        pack(store, "r1", tmp_path / "r1.tar.gz", {})
        unpack(here, tmp_path / "r1.tar.gz")
        asked = "SELECT hash FROM steps ORDER BY id"
        assert queries.select_rows(here, asked).rows == queries.select_rows(store, asked).rows
        assert verify(here).findings == []


def test_tokens_are_dropped_on_a_server_too(url: str) -> None:
    with Store(url) as store:
        fill(store)
        (run,) = weigh(store, keep_steps=1)
        assert (run.episodes, run.kept) == (6, "") and run.bytes > 0
        thin(store, [run])
        assert dropped_on(store, "r1", 0) is not None and dropped_on(store, "r1", 2) is None
        found = verify(store)
        assert (found.findings, found.thinned) == ([], 6)
