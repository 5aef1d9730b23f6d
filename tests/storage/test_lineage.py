"""Everything that influenced an update is reachable from it."""

import itertools
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from sparring.scenarios.errors import RunNotFound
from sparring.storage import queries
from sparring.storage.lineage import why
from sparring.storage.records import AlarmRow
from sparring.storage.rescores import Asked, begin
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.storage.tables import Base
from sparring.storage.views import VIEWS


def test_the_hardest_pulls_of_each_role_come_first(filled: Store) -> None:
    report = why(filled, "r1", 1, limit=3)
    assert [role.role for role in report.roles] == ["critic", "solver", "teacher"]
    saved = [row for row in sample_step(1, episodes=4).advantages if row.role == "solver"]
    solver = report.roles[1]
    expected = sorted((abs(row.pull) for row in saved), reverse=True)[:3]
    assert [abs(turn.pull) for turn in solver.turns] == expected
    assert solver.n_turns == len(saved)
    assert solver.pull_abs == pytest.approx(sum(abs(row.pull) for row in saved))


def test_a_pull_leads_to_criteria_their_author_the_task_and_the_arm(filled: Store) -> None:
    turn = why(filled, "r1", 1, limit=1).roles[1].turns[0]
    episode = queries.episode(filled, "r1", turn.episode)
    rubric = next(score for score in turn.scores if score.name == "rubric")
    assert [item.text for item in rubric.criteria] == ["says 12", "at most 9 words", "at least 1 lines"]
    assert {item.written_by for item in rubric.criteria} == {"rubric_writer"}
    task = episode.task(episode.turns[turn.turn].task)
    assert task is not None and turn.task is not None
    assert (turn.task.key, turn.task.parent, turn.task.origin_turn) == (task.key, task.parent, 0)
    assert turn.task.parent_summary is not None
    assert (turn.arm, turn.said) == (f"depth={1 + episode.pick}", episode.turns[turn.turn].said)


def test_a_teachers_pull_leads_to_the_task_it_proposed(filled: Store) -> None:
    turn = next(t for t in why(filled, "r1", 0, limit=9).roles[2].turns if t.task is not None)
    assert turn.task is not None and turn.task.origin == "teacher"


def test_the_parts_of_a_steps_episodes_make_the_whole(filled: Store) -> None:
    whole = why(filled, "r1", 2, limit=99)
    parts = [why(filled, "r1", 2, 99, number) for number in range(len(queries.episodes(filled, "r1", step=2)))]
    assert sum(part.share or 0.0 for part in parts) == pytest.approx(1.0)
    found = {(turn.episode, turn.turn) for part in parts for role in part.roles for turn in role.turns}
    assert found == {(turn.episode, turn.turn) for role in whole.roles for turn in role.turns}
    assert all(turn.episode == part.episode for part in parts for role in part.roles for turn in role.turns)


def test_an_absent_episode_is_named(filled: Store) -> None:
    with pytest.raises(RunNotFound, match=r"no episode r1/2/99.*why r1/2"):
        why(filled, "r1", 2, episode=99)


def test_an_absent_step_is_named(filled: Store) -> None:
    with pytest.raises(RunNotFound, match="no step 9; its last is 2"):
        why(filled, "r1", 9)


def test_the_lineage_view_agrees_with_the_report(filled: Store) -> None:
    turn = why(filled, "r1", 1, limit=1).roles[1].turns[0]
    where = f"episode = '{turn.episode}' AND turn = {turn.turn}"
    rows = queries.select_rows(filled, f"SELECT score, criterion, rubric_by, arm FROM v_lineage WHERE {where}").rows
    expected = {(s.name, c.text, c.written_by, turn.arm) for s in turn.scores for c in s.criteria}
    expected |= {(s.name, None, None, turn.arm) for s in turn.scores if not s.criteria}
    assert set(rows) == expected


def test_the_lineage_view_reads_well_in_the_sqlite3_shell(filled: Store) -> None:
    assert filled.path is not None
    try:
        shell = subprocess.run(
            ["sqlite3", filled.path, "select * from v_lineage where criterion is not null limit 5"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("the sqlite3 shell is not installed")
    lines = shell.stdout.splitlines()
    assert len(lines) == 5
    assert all("rubric_writer" in line and "depth=" in line for line in lines)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_answers(filled: Store, view: str) -> None:
    begin(filled, "r1", "verifier", "code", {}, Asked())  # no run scores its own turns again
    filled.save_step("r1", replace(sample_step(3, 1), alarms=(AlarmRow("entropy", 0.001, 0.01, "sure of little"),)))
    assert queries.select_rows(filled, f"SELECT * FROM {view} LIMIT 5").rows


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_of_every_view_is_documented(filled: Store, view: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "database.md").read_text()
    _, _, section = page.partition(f"### {view}\n")
    section = section.partition("\n### ")[0]
    columns = queries.select_rows(filled, f"SELECT * FROM {view} LIMIT 0").columns
    assert [column for column in columns if f"`{column}`" not in section] == []


@pytest.mark.parametrize("name", Base.metadata.tables)
def test_every_column_of_every_table_is_documented(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "database.md").read_text()
    said = page.partition(f"\n**`{name}`**")[2].partition("\n\n")[0]
    columns = [column.name for column in Base.metadata.tables[name].columns if column.name != "id"]
    assert [column for column in columns if f"`{column}`" not in said] == []


def instructions(store: Store, ask: Callable[[], object]) -> int:
    """How many hundreds of instructions SQLite runs for ``ask``."""
    count = itertools.count()
    with store.read() as session:
        driver = cast(sqlite3.Connection, session.connection().connection.driver_connection)  # the pool's only one
    driver.set_progress_handler(lambda: next(count) and 0, 100)
    ask()
    driver.set_progress_handler(None, 0)
    return next(count)


def test_lineage_costs_no_more_on_a_long_run(store: Store) -> None:
    store.start_run("sample", {}, "digest", 0)
    asked = (
        lambda: queries.select_rows(store, "SELECT * FROM v_lineage LIMIT 5"),
        lambda: queries.select_rows(store, "SELECT * FROM v_lineage WHERE run = 'r1' AND step = 2 LIMIT 5"),
        lambda: why(store, "r1", 2),
    )
    costs = []
    for steps in (range(3), range(3, 30)):
        for number in steps:
            store.save_step("r1", sample_step(number, episodes=12))
        costs.append([instructions(store, ask) for ask in asked])
    assert all(short > 0 and long < 2 * short + 20 for short, long in zip(*costs, strict=True)), costs


def test_best_worst_and_latest_are_in_order(filled: Store) -> None:
    best = [row.reward for row in queries.episodes(filled, "r1", "best", limit=99)]
    worst = [row.reward for row in queries.episodes(filled, "r1", "worst", limit=99)]
    latest = [row.episode for row in queries.episodes(filled, "r1", "latest", limit=3)]
    assert best == sorted(best, key=lambda reward: -(reward or 0.0)) and len(best) == 12
    assert worst == best[::-1]
    assert latest == ["r1/2/3", "r1/2/2", "r1/2/1"]
    assert {row.step for row in queries.episodes(filled, "r1", "best", step=1)} == {1}


def test_one_step_is_summed_up_as_among_all(filled: Store) -> None:
    assert queries.steps(filled, "r1", 1) == [step for step in queries.steps(filled, "r1") if step.step == 1]


def test_step_summaries_count_what_was_saved(filled: Store) -> None:
    summary, record = queries.steps(filled, "r1")[1], sample_step(1, episodes=4)
    assert (summary.step, summary.episodes, summary.refused, summary.broken) == (1, 4, 1, 0)
    assert summary.turns == sum(len(episode.turns) for episode in record.episodes)
    assert summary.metrics == record.metrics
    assert (summary.policy_version, summary.weights_sha) == (record.policy_version, record.weights_sha)
