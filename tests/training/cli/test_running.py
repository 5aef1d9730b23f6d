"""``run``, ``resume`` and ``eval`` on a model of random weights: rows, endings, and going on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from sparring.storage.queries import run_hash
from sparring.storage.store import Store
from sparring.training.cli.measuring import uniform
from sparring.training.cli.stopping import Stop

Told = Callable[..., Result]


def test_a_run_fills_the_database_and_says_what_to_type_next(told: Told, scenario: Path) -> None:
    done = told("run", str(scenario))
    assert done.exit_code == 0, done.output
    assert "run r1: 2 steps" in done.stdout and "step 2/2" in done.stdout
    for command in re.findall(r"sparring ((?:show|why) \S+(?: --\w+)?)", done.stdout):
        assert told(*command.split()).exit_code == 0, command
    with Store("sparring.db", create=False) as store:
        assert store.run("r1").status == "done" and store.run("r1").last_step == 2


def test_the_hints_name_a_database_that_is_not_the_usual_one(told: Told, scenario: Path) -> None:
    done = told("run", str(scenario), "-s", "training.steps=0", "--db", "else.db")
    assert done.exit_code == 0 and "sparring show r1 --best --db else.db" in done.stdout


def test_resuming_a_done_run_changes_nothing(told: Told, scenario: Path) -> None:
    told("run", str(scenario), "-s", "training.steps=1")
    before = json.loads(told("runs", "--json").stdout)
    assert told("resume", "r1").exit_code == 0 and json.loads(told("runs", "--json").stdout) == before


def test_a_run_that_cannot_load_its_model_leaves_no_row(told: Told, scenario: Path) -> None:
    done = told("run", str(scenario), "-s", "policy.model=./nothing")
    assert done.exit_code == 4 and "nothing" in done.stderr
    assert json.loads(told("runs", "--json").stdout) == []


def test_eval_measures_and_plays_without_touching_the_run(told: Told, scenario: Path) -> None:
    told("run", str(scenario))
    with Store("sparring.db", create=False) as store:
        before = run_hash(store, "r1")
    asked = ("--temperature", "0", "--temperature", "1", "--samples", "2", "--tasks", "4", "--play", "2", "--json")
    found = json.loads(told("eval", "latest", *asked).stdout)
    whole = [(row["name"], row["temperature"]) for row in found["evaluations"] if not row["parameters"]]
    assert whole == [("accuracy", 0.0), ("pass@2", 0.0), ("accuracy", 1.0), ("pass@2", 1.0)]
    assert found["played"]["episodes"] == 2
    with Store("sparring.db", create=False) as store:
        assert run_hash(store, "r1") == before


def test_a_stopped_and_resumed_run_equals_an_unbroken_one(
    told: Told, scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told("run", str(scenario), "--db", "whole.db").exit_code == 0
    with monkeypatch.context() as patch:
        asked = iter([False])  # not after step 0, but after step 1
        patch.setattr(Stop, "asked", lambda stop: next(asked, True))
        assert told("run", str(scenario)).exit_code == 0
    assert json.loads(told("runs", "--json").stdout)[0]["status"] == "stopped"
    done = told("resume", "latest")
    assert done.exit_code == 0 and "goes on from step 1" in done.stdout and "r1 is done" in done.stdout
    with Store("whole.db", create=False) as whole, Store("sparring.db", create=False) as parts:
        assert run_hash(whole, "r1") == run_hash(parts, "r1")


def test_fresh_episodes_are_shared_evenly() -> None:
    assert [(pick.arm, pick.count) for pick in uniform({"a": {}, "b": {}}, 3)] == [("a", 2), ("b", 1)]
    assert [pick.arm for pick in uniform({"a": {}, "b": {}}, 1)] == ["a"]
