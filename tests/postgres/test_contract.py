"""The claims that tests/storage makes of a file, made of a database on a server."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.postgres

STORAGE = Path(__file__).parents[1] / "storage"
FROM = (
    "test_store", "test_lineage", "test_borrowing", "test_resume", "test_stored_episodes", "test_reliability",
    "test_faults", "test_export_views", "test_exporting", "test_tasks", "test_rescores",
)  # fmt: skip
OURS = {"store", "filled", "memory", "other"}  # what conftest.py makes on a server
OTHERWISE = {
    "test_what_contradicts_itself_is_refused_whole": "the database's own words; test_writers.py",
    "test_the_database_itself_keeps_lent_episodes": "the database's own words; test_writers.py",
    "test_a_turn_is_used_once_by_a_trainer_of_a_step": "the database's own words; test_writers.py",
    "test_a_borrowed_episode_must_be_there_once": "names an episode by an id that SQLite gives",
    "test_per_token_advantages_come_back_as_float32": "names a row by an id that SQLite gives",
    "test_statements_that_write_are_refused": "the database's own words; test_schema.py",
    "test_damage_to_an_episode_is_noticed": "writes a column of text as a number",
    "test_every_pooled_connection_has_the_pragmas": "pragmas are SQLite's",
    "test_a_run_has_one_writer": "a lock file; test_writers.py",
    "test_a_refused_write_is_rolled_back_and_the_store_goes_on": "a trigger in SQLite's language",
    "test_a_reader_that_stays_open_neither_blocks_nor_sees_new_steps": "looks at the file of the log",
    "test_sql_counts_over_tokens": "json_each is SQLite's; test_same.py",
    "test_what_is_no_token_blob_is_an_error": "written as SQLite writes blobs; test_same.py",
    "test_inspect_reads_its_log_back": "needs inspect-ai, in an environment of its own",
    "test_token_blobs_are_lists_in_sql": "ids begin elsewhere; test_same.py",
    "test_every_view_answers": "opens the file; test_same.py",
    "test_lineage_costs_no_more_on_a_long_run": "counts SQLite's instructions",
    "test_the_lineage_view_reads_well_in_the_sqlite3_shell": "SQLite's shell",
    "test_rolling_back_a_borrower_leaves_the_lender_whole": "asks with a pragma whether foreign keys hold",
    "test_rows_past_the_last_checkpoint_are_rolled_back": "asks with a pragma whether foreign keys hold",
    "test_a_spoilt_archive_is_refused_and_changes_nothing": "looks for the database's file; test_archive.py",
    "test_the_columns_of_every_view_have_the_type_they_are_said_to_have": "typeof is SQLite's; test_same.py",
}


def taken() -> dict[str, Any]:
    """Every test that needs nothing but a store, or parameters beside it, and the fixtures these need."""
    found: dict[str, Any] = {}
    for name in FROM:
        spec = importlib.util.spec_from_file_location(f"storage_claims_{name}", STORAGE / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        fixtures = {key: item for key, item in vars(module).items() if "fixture" in type(item).__name__.lower()}
        found |= {key: item for key, item in fixtures.items() if key not in OURS}
        for key, item in vars(module).items():
            if key.startswith("test_") and inspect.isfunction(item) and key not in OTHERWISE and _fits(item, fixtures):
                found[key] = item
    return found


def _fits(test: Any, fixtures: dict[str, Any]) -> bool:
    marked = {name for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"
              for name in _names(mark.args[0])}  # fmt: skip
    asked = set(inspect.signature(test).parameters) - marked - {"tmp_path", "monkeypatch"}
    return bool(asked & (OURS | fixtures.keys())) and asked <= OURS | fixtures.keys() - {"file"}


def _names(given: Any) -> list[str]:
    return [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)


globals().update(taken())


def test_what_is_made_otherwise_on_a_server_is_still_made_of_a_file() -> None:
    """A test that was renamed would otherwise be taken over unnoticed, or left out for no reason."""
    told = "\n".join((STORAGE / f"{name}.py").read_text() for name in FROM)
    assert [name for name in OTHERWISE if f"def {name}(" not in told] == []
