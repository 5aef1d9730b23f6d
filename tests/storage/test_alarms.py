"""Alarms as rows: stored with their step, read as spans, told by a view, part of what a run is."""

from __future__ import annotations

import dataclasses

from sparring.storage.alarms import alarms, alarms_ever, alarms_on
from sparring.storage.queries import run_hash, select_rows
from sparring.storage.records import AlarmRow, StepRecord
from sparring.storage.store import Store

HIGH = AlarmRow("judge_false", 0.2, 0.05, "paid and wrong; read what was paid")
LOW = AlarmRow("entropy/solver", 0.001, 0.005, "nothing is drawn any more")


def fill(store: Store, *steps: tuple[AlarmRow, ...]) -> str:
    run = store.start_run("a", {}, "digest", 0, {}).id
    for number, on in enumerate(steps):
        store.save_step(run, StepRecord(step=number, policy_version=number, weights_sha=f"w{number}", alarms=on))
    return run


def test_alarms_come_back_as_spans_with_their_worst_value() -> None:
    with Store.memory() as store:
        worse = dataclasses.replace(HIGH, value=0.4)
        run = fill(store, (), (HIGH,), (worse, LOW), (HIGH,), (), (HIGH,))
        told = [(span.name, span.began, span.ended, span.worst, span.steps) for span in alarms(store, run)]
        assert told == [
            ("judge_false", 1, 4, 0.4, 3),
            ("entropy/solver", 2, 3, 0.001, 1),
            ("judge_false", 5, None, 0.2, 1),
        ]


def test_runs_are_told_by_the_alarms_that_are_on_and_that_ever_were() -> None:
    with Store.memory() as store:
        first, second = fill(store, (HIGH, LOW), (HIGH,)), fill(store, (LOW,), ())
        assert alarms_on(store) == {first: 1}
        assert alarms_ever(store) == {first: 2, second: 1}
        assert alarms(store, fill(store, ())) == []


def test_the_view_says_in_which_step_an_alarm_began() -> None:
    with Store.memory() as store:
        fill(store, (HIGH,), (HIGH, LOW), (HIGH,))
        rows = select_rows(store, "SELECT step, alarm, began, bound FROM v_alarms ORDER BY step, number").rows
        assert rows == (
            (0, "judge_false", 1, 0.05),
            (1, "judge_false", 0, 0.05),
            (1, "entropy/solver", 1, 0.005),
            (2, "judge_false", 0, 0.05),
        )


def test_alarms_are_part_of_what_a_run_did() -> None:
    hashes = []
    for on in ((), (HIGH,), (LOW,)):
        with Store.memory() as store:
            hashes.append(run_hash(store, fill(store, on)))
    assert len(set(hashes)) == 3
