"""``show --tasks``, ``--task`` and ``--rubrics``: what a run was about."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from typer.testing import Result

Told = Callable[..., Result]


def listed(told: Told, *words: str) -> Any:
    answer = told("show", *words, "--json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.output)


def test_every_task_of_a_run_is_listed_and_told_by_the_beginning_of_its_key(told: Told, filled: str) -> None:
    rows = listed(told, filled, "--tasks")["tasks"]
    assert rows and len({row["key"] for row in rows}) == len(rows)
    text = told("show", filled, "--tasks").output
    assert all(row["key"][:12] in text for row in rows)
    for row in rows:
        story = listed(told, filled, "--task", row["key"])
        assert story["row"] == row and story["times"][-1]["episode"] == row["episode"]
        shown = told("show", filled, "--task", row["key"]).output
        assert row["key"] in shown and row["episode"] in shown


def test_a_task_that_is_not_there_is_refused_with_some_that_are(told: Told, filled: str) -> None:
    answer = told("show", filled, "--task", "zzzz")
    known = [row["key"] for row in listed(told, filled, "--tasks")["tasks"]]
    assert answer.exit_code != 0 and any(key in answer.output for key in known)


def test_rubrics_are_listed_for_a_run_and_told_with_their_record_for_an_episode(told: Told, filled: str) -> None:
    rows = listed(told, filled, "--rubrics")["rubrics"]
    assert rows
    stories = listed(told, rows[0]["episode"], "--rubrics")
    assert [story["row"]["turn"] for story in stories] == [
        row["turn"] for row in rows if row["episode"] == rows[0]["episode"]
    ]
    text = told("show", rows[0]["episode"], "--rubrics").output
    assert all(item["text"][:40] in text for story in stories for item in story["criteria"])


def test_what_is_asked_for_at_once_must_be_one_thing(told: Told, filled: str) -> None:
    answer = told("show", filled, "--tasks", "--rubrics")
    assert answer.exit_code == 2 and "exclude each other" in answer.output
