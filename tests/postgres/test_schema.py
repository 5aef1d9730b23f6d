"""The schema on a server: made once, refused when it is not ours; what cannot be used is told, and no password."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from sparring.scenarios.errors import SchemaMismatch, StorageFull, StoreError
from sparring.storage import queries
from sparring.storage.database import stamp_of
from sparring.storage.dialects import masked
from sparring.storage.postgres import Postgres
from sparring.storage.schema import HEAD
from sparring.storage.store import Store
from sparring.storage.tables import Base
from sparring.storage.views import VIEWS

from .conftest import Server

pytestmark = [pytest.mark.postgres]

forking = multiprocessing.get_context("fork")


@pytest.mark.filterwarnings("ignore:Cannot correctly sort tables")  # cycles are meant; they are checked at commit
def test_a_fresh_database_is_what_the_models_say(store: Store) -> None:
    with store.read() as session:
        found = compare_metadata(MigrationContext.configure(session.connection()), Base.metadata)
    keys = {"add_fk": 0, "remove_fk": 0}  # they are there, and checked later than the models say: Postgres.make
    for change in found:
        keys[change[0]] += 1  # any other change is none of these keys
    assert keys["add_fk"] == keys["remove_fk"]
    views = queries.select_rows(store, "SELECT viewname FROM pg_views WHERE schemaname = 'public'").rows
    assert {name for (name,) in views} == set(VIEWS)


def test_a_newer_schema_is_refused_by_its_name(server: Server, url: str) -> None:
    server.do("UPDATE alembic_version SET version_num = '9999'", url.split("/")[3].partition("?")[0])
    with pytest.raises(SchemaMismatch, match=f"schema 9999.*knows {HEAD}"):
        Store(url)
    assert stamp_of(url)[1] == "9999"


def test_a_database_of_something_else_and_an_absent_one_are_refused_untouched(server: Server) -> None:
    url = server.empty()
    name = url.split("/")[3].partition("?")[0]
    with pytest.raises(StoreError, match="no Sparring database"):
        Store(url, create=False)
    server.do("CREATE TABLE bookmarks (url text)", name)
    with pytest.raises(StoreError, match=r"something else.*bookmarks"):
        Store(url)
    with pytest.raises(StoreError, match="does not exist; make it with: createdb nowhere"):
        Store(server.url("nowhere"))
    server.do("CREATE SCHEMA lab", name)
    with Store(f"{url}&options=-csearch_path%3Dlab") as store:  # beside the other tables, in a schema of its own
        assert store.start_run("sample", {}, "digest", 0).id == "r1"


def test_a_database_of_narrow_text_is_refused(server: Server) -> None:
    server.do(
        "CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0 LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    with pytest.raises(StoreError, match=r"LATIN1.*createdb --encoding=UTF8"):
        Store(server.url("narrow"))


def open_and_close(url: str) -> None:
    Store(url).close()
    os._exit(0)


def test_several_processes_may_open_a_fresh_database_at_once(server: Server) -> None:
    url = server.empty()
    all_ = [forking.Process(target=open_and_close, args=(url,)) for _ in range(4)]
    for process in all_:
        process.start()
    for process in all_:
        process.join(60)
    assert [process.exitcode for process in all_] == [0, 0, 0, 0] and stamp_of(url)[1] == HEAD


def test_views_of_another_version_give_way_and_a_database_is_read_with_those_it_has(server: Server, url: str) -> None:
    name = url.split("/")[3].partition("?")[0]
    server.do("COMMENT ON VIEW v_rewards IS 'older'", name)
    server.do("CREATE VIEW mine AS SELECT count(*) AS n FROM v_steps", name)
    server.do("COMMENT ON VIEW v_steps IS 'older'", name)  # cannot be dropped: a person's own view reads it
    with Store(url) as store:
        assert queries.select_rows(store, "SELECT n FROM mine").rows == ((0,),)
    server.do("DROP VIEW mine", name)
    with Store(url) as store:
        asked = "SELECT obj_description('v_steps'::regclass), obj_description('v_rewards'::regclass)"
        assert all(told.startswith("A view of Sparring") for told in queries.select_rows(store, asked).rows[0])


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM runs", "SELECT 1; DELETE FROM runs", "SET x.y = 1", "CREATE TABLE x (y int)", "COMMIT", "nonsense"],
)
def test_statements_that_write_are_refused(filled: Store, statement: str) -> None:
    with pytest.raises(StoreError) as refused:
        queries.select_rows(filled, statement)
    assert "geheim" not in str(refused.value)
    assert queries.select_rows(filled, "SELECT count(*) FROM runs WHERE name LIKE 's%'").rows == ((1,),)
    assert queries.select_rows(filled, "EXPLAIN SELECT 1").rows


def test_no_message_row_or_listing_shows_the_password(server: Server, url: str) -> None:
    typed = f"sparring run --db {url}"
    with Store(url) as store:
        store.start_run("a", {"store": {"url": url}}, "digest", 0, {"command": typed})
        shown = [store.name, repr(queries.runs(store)), *map(str, queries.select_rows(store, "TABLE scenarios").rows)]
    for wrong in (server.url("nowhere"), url.replace("postgres:", "nobody:"), url + "&nonsense=1", url + "&port=x"):
        with pytest.raises(StoreError) as refused:
            Store(wrong)
        shown.append(str(refused.value))
    assert "geheim" not in "".join(shown) and masked(url) in repr(shown)
    assert re.search(r"postgres:\*\*\*@", shown[0])


def test_a_full_disk_of_the_server_is_told_from_other_faults() -> None:
    import psycopg

    dialect = Postgres("postgresql://me@host/runs")
    full = dialect.explain(psycopg.errors.DiskFull("could not extend file: No space left on device"))
    assert isinstance(full, StorageFull) and "server's disk" in str(full)
    other = dialect.explain(psycopg.errors.DeadlockDetected("deadlock detected"))
    assert not isinstance(other, StorageFull) and "try again" in str(other)


def test_checkpoints_of_two_databases_never_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [Postgres(f"postgresql://me@{at}").folder for at in ("a/runs", "b/runs", "a/lab", "/runs?host=/tmp/x")]
    assert len(set(folders)) == 4 and {folder.parent for folder in folders} == {tmp_path / "checkpoints"}
