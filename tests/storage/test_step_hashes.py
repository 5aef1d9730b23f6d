"""The hash of a step: it holds for rows as they were saved, and for nothing else."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from sparring.storage import queries
from sparring.storage.exporting.archive import pack, unpack
from sparring.storage.records import EvaluationRow
from sparring.storage.samples import sample_step
from sparring.storage.step_hashes import COLUMNS, differing, of_stored_rows
from sparring.storage.store import Store
from sparring.storage.tables import Base, Checkpoints, Episodes, States, Steps, Tasks, Turns

# Names of rows and of what they belong to, what the hash of an episode covers, and what may change (see the module).
NAMES = {"id", "run_id", "step_id", "episode_id", "turn_id"}


def hashes(store: Store) -> list[tuple[str, str]]:
    """Stored and recomputed, of every step."""
    with store.read() as session:
        rows = session.execute(select(Steps.id, Steps.hash).order_by(Steps.id)).all()
        return [(row.hash, of_stored_rows(session, row.id)) for row in rows]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose second step borrows, measures, and holds figures that are no numbers: to be copied."""
    file = tmp_path_factory.mktemp("made") / "sparring.db"
    with Store(file) as store:
        store.start_run("sample", {"name": "sample"}, "digest", 0)
        first = sample_step(0, episodes=3)
        store.save_step("r1", first)
        lent = queries.stored_episodes(store, "r1")[0]
        second = sample_step(1, episodes=3)
        learnt = replace(second.advantages[0], episode=3, tokens=(0.5, -0.0), n_tokens=2, group=0, value=-0.0)
        figures = {**second.metrics, "odd": float("nan"), "far": float("inf")}
        measured = EvaluationRow(1, "accuracy", -0.0, 3, {"arm": ("a", 1)})
        advantages = (*second.advantages, learnt)
        record = replace(second, borrowed=(lent.id,), advantages=advantages, metrics=figures, evaluations=(measured,))
        store.save_step("r1", record)
    return file


@pytest.fixture
def rich(made: Path, file: Path) -> Iterator[Store]:
    shutil.copy(made, file)
    with Store(file) as opened:
        yield opened


def test_rows_hash_to_what_was_saved(rich: Store) -> None:
    found = hashes(rich)
    assert len(found) == 2 and all(saved == now for saved, now in found)


@pytest.mark.parametrize(("model", "name"), [(model, name) for model, names in COLUMNS.items() for name in names])
def test_every_column_counts(rich: Store, model: type[Base], name: str) -> None:
    """Bites: take a name out of ``COLUMNS``."""
    of = model.__tablename__
    assert rich.path is not None
    with closing(sqlite3.connect(rich.path)) as other:
        other.execute("INSERT INTO alarms SELECT 1, max(id), 0, 'entropy', 0.1, 0.2, 'low' FROM steps")
        other.commit()
        before = hashes(rich)[1][1]
        row, value = other.execute(f'SELECT id, "{name}" FROM {of} ORDER BY id DESC LIMIT 1').fetchone()
        new = (
            value + 7 if isinstance(value, int | float) else (value or b"") + b"\1" if name == "tokens" else f"{value}x"
        )
        other.execute(f'UPDATE {of} SET "{name}" = ? WHERE id = ?', (new, row))
        other.commit()
    assert differing(before, hashes(rich)[1][1])


def test_a_column_is_hashed_or_has_a_reason_not_to_be() -> None:
    covered = {Steps: {"hash"}, Checkpoints: set[str](), States: set[str]()}
    for model, names in COLUMNS.items():
        if model in (Episodes, Tasks, Turns):  # the hash of an episode has the others
            continue
        left_out = {column.name for column in model.__table__.columns} - NAMES - covered.get(model, set())
        assert left_out == set(names)


def test_a_row_more_or_less_is_noticed(rich: Store) -> None:
    assert rich.path is not None
    for of in ("advantages", "borrowed", "evaluations", "episodes", "curriculum_events", "checkpoints"):
        with closing(sqlite3.connect(rich.path)) as other:
            other.execute("PRAGMA foreign_keys=0")
            other.execute(f"DELETE FROM {of} WHERE id = (SELECT max(id) FROM {of})")
            other.commit()
        saved, now = hashes(rich)[1]
        assert differing(saved, now), of


def test_a_step_that_vanished_is_missed_by_the_next(rich: Store) -> None:
    assert rich.path is not None
    with closing(sqlite3.connect(rich.path)) as other, other:
        other.execute("DELETE FROM steps WHERE number = 0")
    ((saved, now),) = hashes(rich)
    assert differing(saved, now)


@pytest.mark.parametrize("change", ["runs SET seed = 7", "runs SET info = '{}x'", "scenarios SET resolved = '{}'"])
def test_the_run_and_its_scenario_count_and_its_status_does_not(rich: Store, change: str) -> None:
    assert rich.path is not None
    rich.finish_run("r1", "done")
    assert [differing(saved, now) for saved, now in hashes(rich)] == [[], []]
    with closing(sqlite3.connect(rich.path)) as other, other:
        other.execute(f"UPDATE {change}")
    assert [differing(saved, now) for saved, now in hashes(rich)] == [["run"], ["run"]]


def test_dropped_trainer_state_of_old_steps_is_no_damage(store: Store) -> None:
    store.start_run("sample", {"name": "sample"}, "digest", 0)
    for number in range(10):
        store.save_step("r1", sample_step(number, episodes=1))
    found = hashes(store)
    assert "+" not in found[0][1] and not any(differing(saved, now) for saved, now in found)
    assert differing(*found[0], states_may_be_gone=False) == ["state"]


def test_an_archive_taken_in_elsewhere_keeps_the_hash(rich: Store, tmp_path: Path) -> None:
    pack(rich, "r1", tmp_path / "a.tar.gz", {})
    with Store(tmp_path / "other.db") as other:
        other.start_run("before", {"name": "before"}, "other", 0)
        other.save_step("r1", sample_step(5, episodes=2))
        unpack(other, tmp_path / "a.tar.gz")
        found = hashes(other)
    assert len(found) == 3 and all(saved == now for saved, now in found)
    assert [saved for saved, _ in found[1:]] == [saved for saved, _ in hashes(rich)]
