"""The views of a database are this version's, tell every column themselves, and token blobs can be read in SQL."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from sparring.scenarios.errors import StoreError
from sparring.storage import database, queries, views
from sparring.storage.codec import pack_logprobs, pack_tokens
from sparring.storage.store import Store
from sparring.storage.view_columns import COLUMNS
from sparring.storage.views import VIEWS

PAGE = (Path(__file__).parents[2] / "docs" / "database.md").read_text()


def test_the_database_tells_every_column_of_every_view_itself(filled: Store) -> None:
    for view in VIEWS:
        asked = f"SELECT \"column\" FROM v_columns WHERE view = '{view}' ORDER BY number"
        told = tuple(row[0] for row in queries.select_rows(filled, asked).rows)
        assert told == queries.select_rows(filled, f"SELECT * FROM {view} LIMIT 0").columns
    assert set(COLUMNS) == set(VIEWS)


@pytest.mark.parametrize("view", VIEWS)
def test_the_page_and_the_database_say_the_same(view: str) -> None:
    section = PAGE.partition(f"### {view}\n")[2].partition("\n### ")[0]
    said = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    assert said == [(name, meaning) for name, (_, meaning) in COLUMNS[view].items()]


def test_an_opened_database_gets_the_views_of_this_version_and_keeps_its_rows(filled: Store, file: Path) -> None:
    filled.close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP VIEW v_columns")
        connection.execute("DROP VIEW v_steps")
        connection.execute("CREATE VIEW v_steps AS SELECT 1")
        connection.execute("CREATE VIEW mine AS SELECT 2")
    with Store(file, create=False) as again:
        assert len(queries.steps(again, "r1")) == 3
        assert queries.select_rows(again, "SELECT * FROM v_columns LIMIT 1").rows
        assert queries.select_rows(again, "SELECT * FROM mine").rows == ((2,),)


def test_views_that_are_right_are_left_alone(filled: Store, file: Path) -> None:
    filled.close()
    with closing(sqlite3.connect(file)) as connection:
        before = connection.execute("PRAGMA schema_version").fetchone()
        Store(file).close()
        assert connection.execute("PRAGMA schema_version").fetchone() == before


def test_a_database_that_another_program_writes_is_read_with_the_views_it_has(
    filled: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.close()
    monkeypatch.setitem(database.PRAGMAS, "busy_timeout", 50)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("DROP VIEW v_columns")
        connection.execute("BEGIN IMMEDIATE")
        with Store(file, create=False) as again:
            assert len(queries.steps(again, "r1")) == 3
        connection.execute("ROLLBACK")
    with Store(file, create=False) as again:
        assert queries.select_rows(again, "SELECT * FROM v_columns LIMIT 1").rows


def test_token_blobs_are_lists_in_sql(filled: Store) -> None:
    turn = queries.episode(filled, "r1", "r1/0/0").turns[0]
    asked = (
        "SELECT sparring_tokens(token_ids), sparring_tokens(logprobs), sparring_tokens(NULL) FROM turns WHERE id = 1"
    )
    ids, logprobs, nothing = queries.select_rows(filled, asked).rows[0]
    assert tuple(json.loads(ids)) == turn.token_ids and tuple(json.loads(logprobs)) == turn.logprobs
    assert nothing is None
    nan = queries.select_rows(filled, f"SELECT sparring_tokens(x'15{struct.pack('<f', float('nan')).hex()}')")
    assert nan.rows == (("[null]",),)


def test_sql_counts_over_tokens(filled: Store) -> None:
    asked = "SELECT count(*) FROM turns t, json_each(sparring_tokens(t.token_ids)) x"
    assert (
        queries.select_rows(filled, asked).rows == queries.select_rows(filled, "SELECT sum(n_tokens) FROM turns").rows
    )


@pytest.mark.parametrize("value", ["x'99'", "'text'", "x''"])
def test_what_is_no_token_blob_is_an_error(filled: Store, value: str) -> None:
    with pytest.raises(StoreError):
        queries.select_rows(filled, f"SELECT sparring_tokens({value})")


@pytest.mark.parametrize(
    ("blob", "numbers"),
    [
        *((pack_tokens(ids), ids) for ids in ([3, 255], [3, 256], [3, 70_000], [3, 2**24])),
        *((pack_logprobs(values), values) for values in ((-0.5, -1.25), (-0.1,))),
    ],
)
def test_the_lines_of_the_page_read_a_blob(blob: bytes, numbers: object) -> None:
    lines = re.search(r"  ```python\n(.*?)  ```", PAGE, re.DOTALL)
    assert lines is not None
    found: dict[str, object] = {"blob": blob, "struct": struct}
    exec(textwrap.dedent(lines[1]), found)
    assert found["numbers"] == numbers


def test_datasette_is_told_the_same_columns() -> None:
    told = json.loads((Path(views.__file__).parent / "datasette.json").read_text())["databases"]["sparring"]["tables"]
    assert {view: table["columns"] for view, table in told.items()} == {
        view: {name: meaning for name, (_, meaning) in columns.items()} for view, columns in COLUMNS.items()
    }
    for view, table in told.items():
        assert table["description"] in " ".join(PAGE.partition(f"### {view}\n")[2].split())
        assert set(table.get("facets", ())) <= set(COLUMNS[view])
