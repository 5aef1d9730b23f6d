"""``prune``: what goes, what stays and why, and that nothing goes unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from sparring.storage import queries
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

Told = Callable[..., Result]


@pytest.fixture
def four(filled: str) -> None:
    """Runs r1 to r4, each with a checkpoint folder; r3 learnt from r1."""
    with Store("sparring.db") as store:
        for number in (2, 3, 4):
            store.start_run(f"run {number}", {}, f"digest {number}", 0)
            step = sample_step(0, episodes=2, seed=number)
            if number == 3:
                lent = queries.stored_episodes(store, "r1", range(0, 1))[0]
                step = replace(step, episodes=(), picks=(), groups=(), advantages=(), borrowed=(lent.id,))
            store.save_step(f"r{number}", step)
            store.finish_run(f"r{number}", "done")
    for number in (1, 2, 3, 4):
        Path(f"checkpoints/r{number}/step-000000").mkdir(parents=True)


def left() -> list[str]:
    with Store("sparring.db", create=False) as store:
        return [row.id for row in queries.runs(store)]


def test_prune_deletes_nothing_unasked(told: Told, four: None) -> None:
    before = Path("sparring.db").read_bytes()
    done = told("prune", "--keep", "1")
    assert done.exit_code == 0 and "would go" in done.stdout and "sparring prune --keep 1 --yes" in done.stdout
    assert Path("sparring.db").read_bytes() == before and Path("checkpoints/r1").exists()


def test_prune_lets_the_older_runs_go_with_their_checkpoints(told: Told, four: None) -> None:
    size = Path("sparring.db").stat().st_size
    found = json.loads(told("prune", "--keep", "1", "--yes", "--json").stdout)
    assert found["gone"] == ["r1", "r2", "r3"] and left() == ["r4"]
    assert found["bytes"] == size - Path("sparring.db").stat().st_size > 0
    assert [path.name for path in Path("checkpoints").iterdir()] == ["r4"]
    with Store("sparring.db") as store:
        assert queries.damaged(store, "r4") == []
        assert queries.select_rows(store, "SELECT count(DISTINCT step_id) FROM episodes").rows == ((1,),)
        assert queries.select_rows(store, "PRAGMA foreign_key_check").rows == ()


def test_a_run_that_a_kept_run_learnt_from_stays(told: Told, four: None) -> None:
    found = json.loads(told("prune", "--keep", "2", "--yes", "--json").stdout)
    assert found["gone"] == ["r2"] and found["kept"]["r1"] == "r3 learnt from it" and left() == ["r1", "r3", "r4"]


def test_a_run_that_is_being_written_stays(told: Told, four: None) -> None:
    with Store("sparring.db") as store:
        store.start_run("live", {}, "live", 0)
        found = json.loads(told("prune", "--keep", "0", "--yes", "--json").stdout)
    assert found["kept"] == {"r5": "being written"} and left() == ["r5"]


def test_nothing_to_prune_is_no_error(told: Told, four: None) -> None:
    assert told("prune", "--keep", "9", "--yes").exit_code == 0 and left() == ["r1", "r2", "r3", "r4"]
    assert told("prune").exit_code == 2  # the rule is asked for
