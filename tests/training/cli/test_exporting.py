"""``export`` and ``import``: what they write and print, and a run that goes on in another database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from sparring.storage.exporting.jsonl import read_jsonl
from sparring.storage.queries import run_hash
from sparring.storage.store import Store
from sparring.training.course import folder_of

Told = Callable[..., Result]


@pytest.mark.parametrize(("to", "made"), [("jsonl", "r1.jsonl"), ("trl", "r1-trl"), ("archive", "r1.tar.gz")])
def test_an_export_lies_where_it_says(told: Told, filled: str, to: str, made: str) -> None:
    done = told("export", "latest", "--to", to)
    assert done.exit_code == 0 and done.stdout.startswith(f"{made}: ") and Path(made).exists()
    assert told("export", "latest", "--to", to).exit_code == 5  # it is there already


def test_a_data_set_may_hold_some_turns_only(told: Told, filled: str) -> None:
    whole = json.loads(told("export", "r1", "--to", "trl", "--json").stdout)["turns"]
    some = json.loads(told("export", "r1", "--to", "trl", "--out", "s", "--role", "solver", "--json").stdout)["turns"]
    right = told("export", "r1", "--to", "trl", "--out", "r", "--role", "solver", "--least", "verifier=1", "--json")
    assert 0 < json.loads(right.stdout)["turns"] < some < whole
    for wrong in (("--least", "verifier"), ("--least", "x=1"), ("--role", "nobody")):
        assert told("export", "r1", "--to", "trl", "--out", "w", *wrong).exit_code in (2, 5)
    assert told("export", "r1", "--to", "jsonl", "--role", "solver").exit_code == 2 and not Path("w").exists()


def test_an_export_as_json_tells_its_figures(told: Told, filled: str) -> None:
    found = json.loads(told("export", "r1", "--to", "jsonl", "--out", "else/e.jsonl", "--json").stdout)
    assert found["path"] == "else/e.jsonl" and found["episodes"] == 12
    assert found["bytes"] == Path("else/e.jsonl").stat().st_size
    assert len(list(read_jsonl(Path("else/e.jsonl")))) == 12


def test_a_part_of_a_run_and_an_unknown_form_are_refused(told: Told, filled: str) -> None:
    assert told("export", "r1/1", "--to", "jsonl").exit_code == 5
    assert told("export", "r1", "--to", "xml").exit_code == 2
    assert told("import", "nothing.tar.gz").exit_code == 5


def test_an_archive_without_a_whole_checkpoint_says_so(told: Told, filled: str) -> None:
    done = told("export", "r1", "--to", "archive")
    assert "no checkpoint went along" in done.stderr
    done = told("import", "r1.tar.gz", "--db", "n.db")
    assert done.exit_code == 0 and "sparring show r1 --db n.db" in done.stdout
    assert told("show", "r1", "--db", "n.db").exit_code == 0
    assert told("resume", "r1", "--db", "n.db").exit_code != 0  # and loses nothing
    with Store("n.db", create=False) as store:
        assert store.run("r1").last_step == 2


def test_an_imported_run_goes_on_to_the_rows_of_an_unbroken_one(told: Told, scenario: Path) -> None:
    told("run", str(scenario))
    with Store("sparring.db") as store:
        whole = run_hash(store, "r1")
        store.resume_point("r1", lambda saved: saved.path.endswith("step-000001"))  # as if stopped after its first step
        store.finish_run("r1", "stopped")
        half = run_hash(store, "r1")
    found = json.loads(told("export", "r1", "--to", "archive", "--json").stdout)
    assert found["checkpoints"] == 1 and found["steps"] == [1] and found["hash"] == half != whole
    Path("there").mkdir()
    for copy in ("r1", "r2"):
        done = told("import", "r1.tar.gz", "--db", "there/n.db")
        assert done.exit_code == 0 and f"next: sparring resume {copy}" in done.stdout
    assert told("resume", "r2", "--db", "there/n.db").exit_code == 0
    with Store("there/n.db") as store:
        assert (run_hash(store, "r1"), run_hash(store, "r2")) == (half, whole)
        assert folder_of(store, "r1") == Path("there/checkpoints/r1").resolve()
        assert [path.name for path in folder_of(store, "r1").iterdir()] == ["step-000001"]


def test_a_damaged_checkpoint_stays_behind(told: Told, scenario: Path) -> None:
    told("run", str(scenario))
    newest = max(Path("checkpoints/r1").iterdir())
    (newest / "model.safetensors").write_bytes(b"no")
    found = json.loads(told("export", "r1", "--to", "archive", "--json").stdout)
    assert found["steps"] == [1]


def test_sql_shows_token_blobs_as_lists(told: Told, filled: str) -> None:
    asked = "SELECT sparring_tokens(token_ids) AS ids, n_tokens FROM turns WHERE n_tokens > 0 LIMIT 1"
    (row,) = json.loads(told("sql", asked, "--json").stdout)
    assert len(json.loads(row["ids"])) == row["n_tokens"]
