"""The tasks of a run as a list and one by one."""

from dataclasses import replace
from itertools import pairwise

import pytest

from sparring.scenarios.errors import RunNotFound
from sparring.storage import queries
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.storage.tasks import TaskRow, tasks
from sparring.storage.tasks import task as story


def test_paging_tells_every_task_once_newest_step_first(filled: Store) -> None:
    told: list[TaskRow] = []
    after = None
    while True:
        page = tasks(filled, "r1", after, limit=5)
        told += page.tasks
        if (after := page.after) is None:
            break
    saved = {task.key for number in range(3) for episode in sample_step(number, 4).episodes for task in episode.tasks}
    assert sorted(row.key for row in told) == sorted(saved)
    assert [row.step for row in told] == sorted((row.step for row in told), reverse=True)


def test_a_task_that_comes_again_stands_where_it_was_set_last(store: Store) -> None:
    store.start_run("sample", {"name": "sample"}, "digest", 0)
    first = sample_step(0, episodes=2)
    store.save_step("r1", first)
    store.save_step("r1", replace(first, step=1, policy_version=2))
    rows = tasks(store, "r1").tasks
    assert {row.step for row in rows} == {1}
    assert {row.seen for row in rows} == {2}


def test_the_solve_rate_is_the_mean_verifier_score_of_the_attempts(filled: Store) -> None:
    episode = queries.episode(filled, "r1", "r1/2/1")
    key = episode.tasks[1].key
    judged = [score for turn in episode.turns if turn.task == key and (score := episode.score(turn.index, "verifier"))]
    told = story(filled, "r1", key)
    assert told.row.tries == len(judged) == 7
    assert told.row.solved == pytest.approx(sum(score.value or 0.0 for score in judged) / 7)
    assert [(time.episode, time.solved) for time in told.times] == [("r1/2/1", told.row.solved)]


def test_a_task_knows_its_parent_its_children_and_its_turn(filled: Store) -> None:
    given, made = queries.episode(filled, "r1", "r1/0/0").tasks
    child, parent = story(filled, "r1", made.key[:10]), story(filled, "r1", given.key)
    assert [row.key for row in child.ancestors] == [given.key] == [child.row.parent]
    assert [row.key for row in parent.children] == [made.key]
    assert (child.origin_turn, child.row.origin, parent.origin_turn) == (0, "teacher", None)
    assert (child.payload, child.secret) == (made.payload, made.secret)


def test_an_unknown_or_ambiguous_key_is_refused_with_what_there_is(filled: Store) -> None:
    keys = sorted(row.key for row in tasks(filled, "r1").tasks)
    with pytest.raises(RunNotFound, match="among its tasks are"):
        story(filled, "r1", "nothing")
    twice = next(one[0] for one, other in pairwise(keys) if one[0] == other[0])
    with pytest.raises(RunNotFound, match="several tasks"):
        story(filled, "r1", twice)


def test_a_run_without_tasks_has_an_empty_list_and_says_so(store: Store) -> None:
    store.start_run("empty", {}, "digest", 0)
    assert (tasks(store, "r1").tasks, tasks(store, "r1").after) == ((), None)
    with pytest.raises(RunNotFound, match="no task yet"):
        story(store, "r1", "abc")
    with pytest.raises(RunNotFound, match="places look like"):
        tasks(store, "r1", "here")
