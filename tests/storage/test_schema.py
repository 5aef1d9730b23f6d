"""The schema: made fast, made once, refused when it is not ours."""

import multiprocessing
import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from sparring.scenarios.errors import SchemaMismatch, StoreError
from sparring.storage.schema import HEAD, schema_version
from sparring.storage.store import Store
from sparring.storage.tables import Base
from sparring.storage.views import VIEWS

forking = multiprocessing.get_context("fork")


def structure(file: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()


def test_a_fresh_database_has_every_table_and_view(file: Path) -> None:
    Store(file).close()
    names = {row[1] for row in structure(file)}
    assert names >= set(Base.metadata.tables) | set(VIEWS)
    assert schema_version(file) == HEAD


def test_opening_again_changes_nothing(file: Path) -> None:
    Store(file).close()
    before = structure(file)
    Store(file).close()
    assert structure(file) == before


@pytest.mark.filterwarnings("ignore:Cannot correctly sort tables")  # cycles are meant; they are checked at commit
def test_the_revisions_make_what_the_models_say(store: Store) -> None:
    with store.read() as session:
        found = compare_metadata(MigrationContext.configure(session.connection()), Base.metadata)
    assert found == []


def test_a_newer_schema_is_refused_untouched(file: Path) -> None:
    Store(file).close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = file.read_bytes()
    with pytest.raises(SchemaMismatch, match=f"schema 9999.*knows {HEAD}"):
        Store(file)
    assert file.read_bytes() == before


def test_a_file_that_is_not_sqlite_is_refused_untouched(file: Path) -> None:
    file.write_text("name: code-output\n")
    with pytest.raises(StoreError, match="is not a SQLite database"):
        Store(file)
    assert file.read_text() == "name: code-output\n"


def test_another_programs_database_is_refused_untouched(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(StoreError, match=r"something else.*bookmarks"):
        Store(file)
    assert [row[1] for row in structure(file)] == ["bookmarks"]


def test_an_absent_folder_and_an_absent_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"folder .*nowhere does not exist"):
        Store(tmp_path / "nowhere" / "sparring.db")
    with pytest.raises(StoreError, match="no database at"):
        Store(tmp_path / "sparring.db", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["mysql://host/runs", "sqlite://sparring.db"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="sqlite:///"):
        Store(url)


def open_and_close(file: Path) -> None:
    Store(file).close()


def test_two_processes_may_open_a_fresh_database_at_once(tmp_path: Path) -> None:
    for trial in range(5):
        file = tmp_path / f"{trial}.db"
        both = [forking.Process(target=open_and_close, args=(file,)) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join(60)
        assert [process.exitcode for process in both] == [0, 0]
        assert schema_version(file) == HEAD


def test_killed_while_it_is_made_the_schema_is_old_or_new(tmp_path: Path) -> None:
    rng, stamps = random.Random(0), set()
    for trial in range(15):
        file = tmp_path / f"{trial}.db"
        process = forking.Process(target=open_and_close, args=(file,))
        process.start()
        time.sleep(rng.uniform(0, 0.08))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        if file.exists():
            stamps.add(schema_version(file))
        Store(file).close()
        assert schema_version(file) == HEAD
    assert stamps <= {None, HEAD}
