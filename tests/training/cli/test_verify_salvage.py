"""``verify`` and ``salvage`` as they are typed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing

from typer.testing import Result

Told = Callable[..., Result]


def spoil(sql: str) -> None:
    with closing(sqlite3.connect("sparring.db")) as connection, connection:
        connection.execute(sql)


def test_a_whole_database_ends_with_zero_and_a_damaged_one_with_one(filled: str, told: Told) -> None:
    done = told("verify", "--no-checkpoints")
    assert done.exit_code == 0 and "sparring.db is whole: 1 runs" in done.output
    spoil("UPDATE turns SET said = 'x' WHERE id = 2")
    done = told("verify", filled, "--no-checkpoints")
    assert done.exit_code == 1 and "r1/0/0" in done.output and "sparring salvage" in done.output


def test_json_has_every_finding_with_what_to_do(filled: str, told: Told) -> None:
    spoil("UPDATE steps SET seconds = 77")
    answer = json.loads(told("verify", "--json", "--no-checkpoints").output)
    assert answer["ok"] is False and answer["steps"] == len(answer["findings"])
    assert {finding["part"] for finding in answer["findings"]} == {"rows"}
    assert all(finding["advice"] for finding in answer["findings"])


def test_the_newest_checkpoint_is_looked_for(filled: str, told: Told) -> None:
    done = told("verify")
    assert done.exit_code == 1 and "is gone or incomplete" in done.output


def test_salvage_says_what_is_kept_lost_and_where_the_rest_is(filled: str, told: Told) -> None:
    spoil("UPDATE turns SET said = 'x' WHERE id = (SELECT max(id) FROM turns)")
    done = told("salvage", "sparring.db", "--to", "new.db")
    assert done.exit_code == 0, done.output
    assert "up to its first damaged step 2; r2 holds 3 whole episodes" in done.output
    assert "lost: r1/2/3" in done.output and "newest checkpoint is of step 1" in done.output
    assert told("verify", "--db", "new.db", "--no-checkpoints").exit_code == 0
    again = told("salvage", "sparring.db", "--to", "new.db")
    assert again.exit_code != 0 and "exists already" in again.output


def test_salvage_in_json_names_runs_and_losses(filled: str, told: Told) -> None:
    spoil("UPDATE steps SET seconds = 77 WHERE number = 1")
    (run,) = json.loads(told("salvage", "sparring.db", "--to", "new.db", "--json").output)["runs"]
    assert (run["steps"], run["cut"], run["rest"]) == (1, 1, "r2")
    assert [loss["where"] for loss in run["lost"]] == ["r1/1"]
