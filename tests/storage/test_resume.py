"""A run goes on from its last whole step to the same result."""

import dataclasses

import pytest

from sparring.scenarios.errors import StoreError
from sparring.storage import queries
from sparring.storage.records import CheckpointRow, StepRecord
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

TABLES = ["episodes", "turns", "scores", "criterion_scores", "rubrics", "criteria", "tasks", "groups", "advantages"]
TABLES += ["segments", "refusals", "states", "policy_versions"]


def save(store: Store, steps: range, every: int) -> None:
    for number in steps:
        store.save_step("r1", sample_step(number, episodes=3, checkpoint=number % every == 0))


def started(store: Store) -> Store:
    store.start_run("sample", {"name": "sample"}, "digest", 5)
    return store


def counts(store: Store) -> dict[str, int]:
    return {t: queries.select_rows(store, f"SELECT count(*) FROM {t}").rows[0][0] for t in TABLES}


def test_rows_past_the_last_checkpoint_are_rolled_back(store: Store) -> None:
    save(started(store), range(7), every=3)
    with Store.memory() as other:
        save(started(other), range(4), every=3)
        point = store.resume_point("r1", usable=lambda saved: saved.path == "step_3")  # step_6 is broken
        assert point.last_step == 3
        assert counts(store) == counts(other)
    assert queries.select_rows(store, "PRAGMA foreign_key_check").rows == ()


def test_a_resumed_run_equals_an_unbroken_one(store: Store) -> None:
    save(started(store), range(6), every=2)
    assert store.resume_point("r1").last_step == 4
    save(store, range(5, 10), every=2)
    with Store.memory() as other:
        save(started(other), range(10), every=2)
        assert queries.run_hash(store, "r1") == queries.run_hash(other, "r1")
        assert counts(store) == counts(other)


def test_the_resume_point_holds_what_the_step_left(store: Store) -> None:
    save(started(store), range(3), every=1)
    point, record = store.resume_point("r1"), sample_step(2, episodes=3)
    assert (point.run, point.scenario, point.seed, point.last_step) == ("r1", {"name": "sample"}, 5, 2)
    assert point.checkpoint == record.checkpoint
    assert (point.policy_version, point.weights_sha) == (record.policy_version, record.weights_sha)
    assert (point.curriculum_state, point.state) == (record.curriculum_state, record.state)


def test_without_a_checkpoint_a_run_starts_over(store: Store) -> None:
    record = dataclasses.replace(sample_step(0, episodes=2), checkpoint=None)
    started(store).save_step("r1", record)
    point = store.resume_point("r1")
    assert (point.last_step, point.checkpoint, point.state) == (None, None, {})
    assert set(counts(store).values()) == {0}


def test_with_no_usable_checkpoint_nothing_is_changed(store: Store) -> None:
    save(started(store), range(3), every=1)
    before = queries.run_hash(store, "r1")
    with pytest.raises(StoreError, match="step_2, step_1, step_0"):
        store.resume_point("r1", usable=lambda saved: False)
    assert queries.run_hash(store, "r1") == before


def test_resuming_reopens_a_stopped_run(store: Store) -> None:
    save(started(store), range(1), every=1)
    store.finish_run("r1", "stopped")
    store.resume_point("r1")
    assert (store.run("r1").status, store.run("r1").finished_at) == ("running", None)


def test_rolling_back_one_run_leaves_another_alone(store: Store) -> None:
    save(started(store), range(2), every=1)
    store.start_run("other", {"name": "sample"}, "digest", 5)
    for number in range(3):
        store.save_step("r2", sample_step(number, episodes=3, checkpoint=number == 0))
    before = queries.run_hash(store, "r1")
    store.resume_point("r2")
    assert queries.run_hash(store, "r1") == before
    assert (store.run("r1").last_step, store.run("r2").last_step) == (1, 0)


def test_a_version_first_met_without_its_weights_learns_them_later(store: Store) -> None:
    started(store).save_step("r1", sample_step(0, episodes=2))
    store.save_step("r1", StepRecord(1, policy_version=0, weights_sha="first", checkpoint=CheckpointRow("c", "s", 1)))
    assert store.resume_point("r1").weights_sha == "first"
