"""``runs``, ``show``, ``why`` and ``sql`` over made-up steps: what they print and which code they leave with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from sparring.storage.samples import sample_step

Told = Callable[..., Result]


def test_runs_tells_how_far_each_run_came(told: Told, filled: str) -> None:
    done = told("runs")
    assert done.exit_code == 0 and done.stdout.splitlines()[1].split()[:5] == ["r1", "sample", "stopped", "0", "2/9"]


def test_runs_as_json_is_a_list(told: Told, filled: str) -> None:
    (row,) = json.loads(told("runs", "--json").stdout)
    assert row["id"] == "r1" and row["last_step"] == 2 and row["minutes"] == pytest.approx(4.5 / 60)


def test_show_of_a_run_counts_refusals_by_reason(told: Told, filled: str) -> None:
    found = json.loads(told("show", "r1", "--json").stdout)
    assert found["refused"] == [{"reason": "syntax", "n": 3}]
    assert sum(arm["episodes"] for arm in found["curriculum"]) == 3 * 4 * 4  # four picks of four in each sample step


def test_show_without_a_word_is_the_newest_run(told: Told, filled: str) -> None:
    assert told("show").stdout == told("show", "r1").stdout


def test_show_of_a_step_lists_its_episodes(told: Told, filled: str) -> None:
    done = told("show", "r1/1")
    assert done.exit_code == 0
    assert all(f"r1/1/{index}" in done.stdout for index in range(4))


def test_a_bare_step_belongs_to_the_newest_run(told: Told, filled: str) -> None:
    assert told("show", "1", "--json").stdout == told("show", "r1/1", "--json").stdout


def test_an_episode_shows_every_word_and_each_context_once(told: Told, filled: str) -> None:
    done, episode = told("show", "r1/1/0"), sample_step(1, episodes=4).episodes[0]
    assert done.exit_code == 0
    assert all(line in done.stdout for turn in episode.turns for line in turn.said.splitlines())
    assert done.stdout.count("What is printed?") == 1


def test_an_episode_shows_criteria_with_their_verdict(told: Told, filled: str) -> None:
    shown = told("show", "r1/1/0").stdout
    assert "✓ 2 says 12" in shown and "✗ " in shown and "met by" in shown


def test_an_episode_as_json_holds_turns_scores_and_advantages(told: Told, filled: str) -> None:
    found = json.loads(told("show", "1/0", "--json").stdout)
    assert found["episode"] == "r1/1/0" and len(found["turns"]) == 17
    assert set(found["advantages"]["0"]) == {"reward", "advantage", "pull"}


def test_best_and_worst_differ(told: Told, filled: str) -> None:
    best, worst = (json.loads(told("show", "r1", flag, "--json").stdout) for flag in ("--best", "--worst"))
    assert best["episode"] != worst["episode"]


def test_best_and_worst_at_once_is_a_mistake(told: Told, filled: str) -> None:
    assert told("show", "r1", "--best", "--worst").exit_code == 2


def test_why_puts_the_hardest_pull_of_each_role_first(told: Told, filled: str) -> None:
    report = json.loads(told("why", "r1/2", "--json").stdout)
    for role in report["roles"]:
        pulls = [abs(turn["pull"]) for turn in role["turns"]]
        assert pulls == sorted(pulls, reverse=True) and len(pulls) <= 3


def test_why_names_criterion_writer_task_and_arm(told: Told, filled: str) -> None:
    shown = told("why", "r1/2", "--limit", "1").stdout
    assert "written by rubric_writer" in shown and "made from" in shown and "arm depth=" in shown and " %" in shown


def test_why_of_an_episode_tells_its_part_of_the_step(told: Told, filled: str) -> None:
    report = json.loads(told("why", "r1/2/0", "--json").stdout)
    assert {turn["episode"] for role in report["roles"] for turn in role["turns"]} == {"r1/2/0"}
    assert 0 < report["share"] < 1 and "r1/2/0 has" in told("why", "r1/2/0").stdout


def test_why_of_a_run_is_its_last_step(told: Told, filled: str) -> None:
    assert told("why", "r1").stdout == told("why", "r1/2").stdout == told("why").stdout


def test_sql_answers_with_names_and_values(told: Told, filled: str) -> None:
    query = "SELECT run, step FROM v_steps ORDER BY step"
    assert json.loads(told("sql", query, "--json").stdout)[-1] == {"run": "r1", "step": 2}
    assert told("sql", query).stdout.split()[:4] == ["run", "step", "r1", "0"]


def test_sql_says_when_rows_are_left(told: Told, filled: str) -> None:
    done = told("sql", "SELECT * FROM turns", "--limit", "2")
    assert done.exit_code == 0 and "--limit" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("show", "r7"), 5, "no run r7"),
        (("show", "r1/9"), 5, "no step 9"),
        (("show", "r1/1/99"), 5, "no episode"),
        (("show", "rr"), 5, "names nothing"),
        (("why", "r1/9"), 5, "no step 9"),
        (("eval", "r7"), 5, "no run r7"),
        (("resume", "r7"), 5, "no run r7"),
        (("sql", "DELETE FROM runs"), 5, "readonly"),
        (("sql", "SELEC"), 5, "syntax error"),
        (("list", "rewrd"), 2, "did you mean 'reward'?"),
        (("run", "smoke", "-s", "training.stepz=3"), 2, "did you mean 'steps'?"),
        (("run", "no-such-file.yaml"), 2, "no such file"),
    ],
)
def test_a_mistake_is_one_message_and_its_code(
    told: Told, filled: str, words: tuple[str, ...], code: int, says: str
) -> None:
    done = told(*words)
    assert done.exit_code == code and says in done.stderr and "Traceback" not in done.output
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_no_database_is_left_alone(told: Told, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database at all")
    done = told("runs", "--db", "notes.txt")
    assert done.exit_code == 5 and "not a SQLite database" in done.stderr
    assert (tmp_path / "notes.txt").read_text() == "not a database at all"


def test_reading_an_absent_database_makes_none(told: Told, tmp_path: Path) -> None:
    assert told("runs").exit_code == 5 and not list(tmp_path.iterdir())


def test_the_environment_variable_names_the_database(
    told: Told, filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sparring.db").rename(tmp_path / "other.db")
    monkeypatch.setenv("SPARRING_DB", "sqlite:///other.db")
    assert told("runs").exit_code == 0
