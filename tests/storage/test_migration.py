"""A database made with the first schema goes on with the newest one."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sparring.storage import queries
from sparring.storage.lineage import why
from sparring.storage.samples import sample_step
from sparring.storage.schema import HEAD, schema_version
from sparring.storage.store import Store

FIRST = Path(__file__).with_name("first_schema.sql")  # a dump of run r1: steps 0 and 1 of `sample_step(n, episodes=2)`


@pytest.fixture
def old(file: Path) -> Path:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(FIRST.read_text())
    assert schema_version(file) == "0001"
    return file


def rows(file: Path, table: str, columns: str = "*") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(f'SELECT {columns} FROM "{table}" ORDER BY id').fetchall()


def tables(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in names if name != "alembic_version"]


def test_an_old_database_keeps_every_row(old: Path) -> None:
    learnt = 'id, step_id, turn_id, "group", role, reward, value, weight, n_tokens, pull'
    before = {name: rows(old, name) for name in tables(old)}
    compared = "id, step_id, number, role, node, scope, size, mean, std, kept, note"
    pulled = rows(old, "advantages", learnt)
    with Store(old) as store:
        assert queries.damaged(store, "r1") == []
        assert queries.select_rows(store, "PRAGMA foreign_key_check").rows == ()
    assert schema_version(old) == HEAD
    assert pulled and rows(old, "advantages", learnt) == pulled
    assert rows(old, "groups", compared) == before["groups"]
    added = {"turns": 2, "steps": 1, "episodes": 1}  # columns that came since, empty in rows stored before
    for name in before.keys() - {"advantages", "groups"}:
        now, new = rows(old, name), added.get(name, 0)
        assert [row[: len(row) - new] for row in now] == before[name]
        assert all(value is None for row in now for value in row[len(row) - new :])


def test_old_rows_read_as_those_of_one_trainer(old: Path) -> None:
    with Store(old) as store:
        turn = why(store, "r1", 1, limit=1).roles[1].turns[0]
        assert (turn.trainer, turn.entered, turn.token_advantages) == ("rl", "", ())
        assert (turn.group.trainer, turn.group.pool_size) == ("rl", None)
        assert [step.trainers for step in queries.steps(store, "r1")] == ["rl", "rl"]


def test_a_migrated_run_equals_one_that_is_saved_now(old: Path) -> None:
    with Store(old) as store, Store.memory() as other:
        other.start_run("sample", {"name": "sample"}, "digest", 0)
        for number in range(3):
            other.save_step("r1", sample_step(number, episodes=2))
        assert store.resume_point("r1").last_step == 1
        store.save_step("r1", sample_step(2, episodes=2))
        assert queries.run_hash(store, "r1") == queries.run_hash(other, "r1")


def test_a_migrated_database_has_the_schema_of_a_fresh_one(old: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    Store(old).close()
    Store(fresh).close()
    wanted = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
    found = []
    for file in (old, fresh):
        with closing(sqlite3.connect(file)) as connection:
            found.append([[" ".join(str(part).split()) for part in row] for row in connection.execute(wanted)])
    assert found[0] == found[1]


def test_a_persons_own_view_survives(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("CREATE VIEW mine AS SELECT sum(pull) AS pull FROM advantages")
        expected = connection.execute("SELECT pull FROM mine").fetchall()
    with Store(old) as store:
        assert list(queries.select_rows(store, "SELECT pull FROM mine").rows) == expected


def test_a_run_that_an_older_program_still_writes_goes_on(old: Path) -> None:
    Store(old).close()
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute(
            'INSERT INTO advantages (id, step_id, turn_id, "group", role, value, weight, n_tokens, pull) '
            "SELECT 9999, 2, turn_id, 0, role, value, weight, n_tokens, pull FROM advantages WHERE id = 1"
        )
        found = connection.execute("SELECT trainer, tokens, note FROM advantages WHERE id = 9999").fetchall()
    assert found == [("rl", None, "")]
