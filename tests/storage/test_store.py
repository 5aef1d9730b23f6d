"""Saving steps and reading them back."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.envs.types import Criterion, Ending, Episode, Finish, Parsed, Pick, Score, Segment, Task, Turn
from sparring.scenarios.errors import RunNotFound, StoreError
from sparring.storage import queries
from sparring.storage.hashes import episode_hash
from sparring.storage.records import CheckpointRow, EvaluationRow, StepRecord
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

any_text = st.text(st.characters(exclude_categories=()))


def one_turn(said: str, **changes: object) -> Episode:
    context = Segment(said + "?", (1, 2, 300))
    turn = Turn(0, None, "solve", "solver", said, context=context, token_ids=(7,), logprobs=(-0.25,))
    task = Task("echo", {"text": said}, {"reference": said}, {"n": 1}, ("copy",), "generator")
    turn = turn.amended(**{"task": task.key, "finish": Finish.LENGTH, "parsed": Parsed("answer", said), **changes})
    scores = {0: (Score.valued("verifier", 1.0, "echo", said),)}
    return Episode(0, 0, {"n": 1}, (turn,), (task,), scores, {}, {}, Ending.DONE, error=said)


def step_of(episode: Episode, number: int = 0) -> StepRecord:
    return StepRecord(number, picks=(Pick("all"),), episodes=(episode,))


@pytest.fixture
def memory() -> Store:
    store = Store.memory()
    store.start_run("sample", {}, "digest", 0)
    return store


def test_every_saved_episode_comes_back_equal(filled: Store) -> None:
    for number in range(3):
        for episode in sample_step(number, episodes=4).episodes:
            assert queries.episode(filled, "r1", f"r1/{number}/{episode.index}") == episode


@settings(max_examples=40, deadline=None)
@given(any_text)
def test_any_text_a_model_writes_comes_back(said: str) -> None:
    with Store.memory() as store:
        store.start_run("sample", {}, "digest", 0)
        store.save_step("r1", step_of(one_turn(said)))
        assert queries.episode(store, "r1", "r1/0/0") == one_turn(said)
        assert queries.damaged(store, "r1") == []


@pytest.mark.parametrize("value", [(Criterion("says 12"),), [1, (2,)], None, {"a": 1.5}, "plain"])
def test_parsed_values_come_back(memory: Store, value: object) -> None:
    episode = one_turn("x", parsed=Parsed("rubric", value, "no points"))
    memory.save_step("r1", step_of(episode))
    assert queries.episode(memory, "r1", "r1/0/0") == episode


def test_a_turn_keeps_what_it_was_trained_on_apart(memory: Store) -> None:
    episode = one_turn("x", train_context=Segment("x, without the hint", (1, 2, 300)), task="elsewhere")
    memory.save_step("r1", step_of(episode))
    assert queries.episode(memory, "r1", "r1/0/0") == episode


def test_siblings_share_one_stored_segment(filled: Store) -> None:
    rows = queries.select_rows(filled, "SELECT count(context_id), count(DISTINCT context_id) FROM turns").rows
    ((read, stored),) = rows
    assert stored < read / 1.5


def test_runs_get_short_ids_and_statuses(store: Store) -> None:
    assert store.start_run("a", {"x": 1}, "d", 7, {"python": "3.11"}).id == "r1"
    assert store.start_run("b", {"x": 1}, "d", 7).id == "r2"
    store.finish_run("r1", "done")
    first, second = queries.runs(store)
    assert (first.status, second.status) == ("done", "running")
    assert (first.seed, first.info, first.digest) == (7, {"python": "3.11"}, "d")
    assert first.finished_at is not None and second.finished_at is None


def test_a_step_is_saved_once(filled: Store) -> None:
    before = queries.run_hash(filled, "r1")
    with pytest.raises(StoreError, match="holds step 2 already"):
        filled.save_step("r1", sample_step(2, episodes=4))
    assert queries.run_hash(filled, "r1") == before


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (StepRecord(0, episodes=(one_turn("x"),)), "pick 0, but the step has 0"),
        (step_of(dataclasses.replace(one_turn("x"), index=4)), "numbered in order"),
        (step_of(dataclasses.replace(one_turn("x"), scores={5: ()})), "belongs to turn 5"),
        (
            step_of(dataclasses.replace(one_turn("x"), scores={0: (Score.valued("v", math.nan, "r"),)})),
            "score 'v': nan",
        ),
        (step_of(one_turn("x", parent=9)), "FOREIGN KEY"),
        (step_of(one_turn("x", token_ids=(-1,))), "token ids must be whole numbers"),
    ],
)
def test_what_contradicts_itself_is_refused_whole(memory: Store, record: StepRecord, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        memory.save_step("r1", record)
    assert queries.steps(memory, "r1") == []
    assert queries.select_rows(memory, "SELECT count(*) FROM turns").rows == ((0,),)


def test_new_weights_under_an_old_version_are_refused(memory: Store) -> None:
    memory.save_step("r1", StepRecord(0, policy_version=1, weights_sha="aa"))
    memory.save_step("r1", StepRecord(1, policy_version=1, weights_sha="aa"))
    with pytest.raises(StoreError, match="version 1 has weights 'bb'"):
        memory.save_step("r1", StepRecord(2, policy_version=1, weights_sha="bb"))


def test_unknown_runs_and_episodes_are_named(filled: Store) -> None:
    with pytest.raises(RunNotFound, match="no run r9"):
        filled.save_step("r9", StepRecord(0))
    with pytest.raises(RunNotFound, match="no episode r1/0/99"):
        queries.episode(filled, "r1", "r1/0/99")
    with pytest.raises(RunNotFound, match="no run id"):
        queries.steps(filled, "latest")


def test_task_keys_and_evaluations_are_kept(filled: Store) -> None:
    episodes = [episode for n in range(3) for episode in sample_step(n, episodes=4).episodes]
    made = {task.key for episode in episodes for task in episode.tasks}
    given = {episode.turns[0].task for episode in episodes if episode.turns[0].parent is None} - {None}
    assert filled.task_keys("r1") == made - given
    ((row),) = filled.evaluations("r1")
    assert (row.step, row.name, row.n, row.parameters) == (0, "accuracy", 200, {"depth": 2})


def test_old_trainer_state_is_pruned_and_new_kept(memory: Store) -> None:
    for number in range(20):
        saved = CheckpointRow(f"step_{number}", "sha", 1)
        record = StepRecord(number, policy_version=number, checkpoint=saved, state={"baseline": number})
        memory.save_step("r1", record)
    rows = queries.select_rows(memory, "SELECT count(*), max(value) FROM states").rows
    assert rows == ((8, "19"),)


def test_an_episodes_hash_ignores_its_duration_only() -> None:
    episode = one_turn("x")
    assert episode_hash(dataclasses.replace(episode, seconds=9.0)) == episode_hash(episode)
    assert episode_hash(one_turn("y")) != episode_hash(episode)
    turn = episode.turns[0].amended(logprobs=(-0.5,))
    assert episode_hash(dataclasses.replace(episode, turns=(turn,))) != episode_hash(episode)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE turns SET said = 'forged' WHERE id = 3",
        "UPDATE scores SET value = 1 - value WHERE id = 3",
        "UPDATE segments SET token_ids = x'99' WHERE id = 1",
        "UPDATE criteria SET text = text || '!' WHERE id = 1",
        "UPDATE tasks SET secret = '{' WHERE id = 1",
        "DELETE FROM criterion_scores WHERE id = 2",
    ],
)
def test_damage_to_an_episode_is_noticed(filled: Store, damage: str) -> None:
    assert queries.damaged(filled, "r1") == []
    with filled._database.write() as connection:
        connection.exec_driver_sql(damage)
    assert "r1/0/0" in queries.damaged(filled, "r1")


def test_a_run_hash_ignores_clocks_and_sees_content() -> None:
    def hashed(**changes: Any) -> str:
        with Store.memory() as store:
            store.start_run("any name", {}, "digest", 0)
            store.save_step("r1", dataclasses.replace(sample_step(0, episodes=2), **changes))
            return queries.run_hash(store, "r1")

    plain = hashed()
    assert hashed(curriculum_state=dict(list(sample_step(0, episodes=2).curriculum_state.items())[::-1])) == plain
    assert hashed(seconds=99.0, checkpoint=CheckpointRow("elsewhere", "sha", 5)) == plain
    assert hashed(metrics={**sample_step(0, episodes=2).metrics, "update_seconds": 7.0}) == plain
    for changed in (
        {"metrics": {"loss": 0.0}},
        {"weights_sha": "other"},
        {"advantages": ()},
        {"state": {"baseline": 0}},
        {"evaluations": (EvaluationRow(0, "accuracy", 0.5, 200),)},
        {"picks": tuple(Pick("other") for _ in range(4))},
    ):
        assert hashed(**changed) != plain


def test_statements_that_write_are_refused(filled: Store) -> None:
    for sql in ("DELETE FROM turns", "DROP TABLE turns", "SELEC 1"):
        with pytest.raises(StoreError):
            queries.select_rows(filled, sql)
    filled.save_step("r1", sample_step(3, episodes=2))


def test_a_path_may_hold_any_character(tmp_path: Path) -> None:
    file = tmp_path / "a ?#%41 \u00e9.db"
    with Store(f"sqlite:///{file}") as store:
        store.start_run("sample", {}, "digest", 0)
    assert file.exists() and {entry.name for entry in tmp_path.iterdir()} == {file.name}
