"""``health``: figures with their limits, alarms with what to do; ``run``, ``runs`` and ``show`` tell of alarms too."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from typer.testing import Result

from sparring.scenarios.load import load
from sparring.storage.records import AlarmRow, StepRecord
from sparring.storage.store import Store
from sparring.training.health.meanings import note

Told = Callable[..., Result]
NAME, VALUES = "judge_false", (0.0, 0.3, 0.4)


def ill(*on: bool) -> None:
    """Run r1 of steps with this figure; the alarm is on where ``on`` says so."""
    alarm = AlarmRow(NAME, 0.35, 0.05, note(NAME, 0.35, 0.05, above=True))
    with Store("sparring.db") as store:
        store.start_run("sample", {"name": "sample", "training": {"steps": 9}}, "digest", 0)
        for number, (value, told) in enumerate(zip(VALUES, on, strict=True)):
            metrics = {f"health/{NAME}": value, f"health_n/{NAME}": 64.0}
            here = StepRecord(step=number, metrics=metrics, policy_version=number, weights_sha=f"w{number}")
            store.save_step("r1", replace(here, alarms=(alarm,) * told))
        store.finish_run("r1", "stopped")


def test_health_tells_what_is_wrong_its_history_and_what_to_do(told: Told) -> None:
    ill(False, True, True)
    done = told("health")
    assert done.exit_code == 0
    assert "ALARM judge_false since step 1" in done.stdout and "tighten the rubric" in done.stdout
    assert "> 0.05" in done.stdout and "▁▆█" in done.stdout


def test_health_as_json_has_alarms_and_figures(told: Told) -> None:
    ill(False, True, False)
    found = json.loads(told("health", "r1", "--json").stdout)
    assert found["on"] == 0
    assert (found["alarms"][0]["began"], found["alarms"][0]["ended"]) == (1, 2)
    (figure,) = found["figures"]
    assert figure["name"] == NAME and figure["values"] == list(VALUES) and figure["above"] == 0.05


def test_health_of_a_recipe_tells_what_its_mechanism_did(told: Told) -> None:
    said = "falls [from 2] to [a] :fire: 0 [/when] one arm takes all"  # no markup: these characters
    watch = {"curriculum/entropy": said, "rounds/drawn": "never there"}
    with Store("sparring.db") as store:
        store.start_run("sample", {"name": "sample", "recipe": {"watch": watch}}, "digest", 0)
        for number, value in enumerate((0.25, 0.75, 0.5)):
            here = StepRecord(step=number, metrics={"curriculum/entropy": value}, policy_version=number)
            store.save_step("r1", replace(here, weights_sha=f"w{number}"))
    (line,) = [line for line in told("health").stdout.splitlines() if "curriculum/entropy" in line]
    assert line.split()[:5] == ["curriculum/entropy", "0.250", "0.500", "0.250", "0.750"]
    assert line.endswith(said)
    found, absent = json.loads(told("health", "--json").stdout)["mechanism"]
    assert (found["least"], found["most"], found["last"]) == (0.25, 0.75, 0.5)
    assert absent["values"] == [] and absent["last"] is None


def test_a_run_without_figures_says_so(told: Told, filled: str) -> None:
    assert "no health figures" in told("health").stdout


def test_runs_and_show_count_alarms(told: Told) -> None:
    ill(True, True, True)
    assert "1 on" in told("runs").stdout
    assert "health alarms 1 on" in told("show", "r1").stdout
    assert json.loads(told("runs", "--json").stdout)[0]["alarms_on"] == 1


def test_watch_tells_when_an_alarm_begins_and_ends(told: Told, scenario: Path) -> None:
    ill(False, True, False)
    with Store("sparring.db") as store:
        made = load(scenario, ["name=sample"])
        store.start_run("sample", made.resolved(), made.digest, 0)
        alarm = AlarmRow(NAME, 0.35, 0.05, "paid and wrong")
        for number in range(3):
            here = StepRecord(step=number, policy_version=number, weights_sha=f"w{number}")
            store.save_step("r2", replace(here, alarms=(alarm,) * (number == 1)))
        store.finish_run("r2", "done")
    lines = told("watch", "r2").stdout.splitlines()
    assert [line for line in lines if "ALARM" in line or "over" in line] == [
        "ALARM judge_false: paid and wrong",
        "alarm over: judge_false",
    ]


def test_a_run_ended_by_an_alarm_says_so_leaves_with_7_and_goes_on_later(told: Told, scenario: Path) -> None:
    limits = "health={limits: {length: {above: 0.1, window: 1, patience: 1, least: 1}}, on_alarm: stop}"
    done = told("run", str(scenario), "-s", limits)
    assert done.exit_code == 7
    assert "ALARM length/solver: tokens per turn" in done.stdout
    assert "r1 is stopped after step 1 of 2" in done.stdout and "sparring health r1" in done.stdout
    again = told("resume", "r1")
    assert again.exit_code == 0 and "ALARM" not in again.stdout
