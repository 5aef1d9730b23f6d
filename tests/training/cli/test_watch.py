"""``watch`` and ``tail``: what is told of a run that somebody else writes meanwhile, and when they end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from sparring.scenarios.load import load
from sparring.storage.answers import steps_after
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

Told = Callable[..., Result]


@pytest.fixture
def resolved(scenario: Path) -> dict[str, Any]:
    return load(scenario).resolved()


@contextmanager
def written(resolved: dict[str, Any], steps: int, status: str = "done") -> Iterator[None]:
    """Run r1 with step 0; steps 1 to ``steps`` and its end come from another thread while the block runs."""
    ready = threading.Event()

    def write() -> None:
        with Store("sparring.db") as store:
            store.start_run("tiny", resolved, "digest", 0)
            store.save_step("r1", sample_step(0, episodes=2))
            ready.set()
            for number in range(1, steps + 1):
                store.save_step("r1", sample_step(number, episodes=2))
            store.finish_run("r1", status)

    thread = threading.Thread(target=write)
    thread.start()
    ready.wait()
    yield
    thread.join()


def test_watch_tells_every_step_once_until_the_run_ends(told: Told, resolved: dict[str, Any]) -> None:
    with written(resolved, 6):
        done = told("watch", "r1", "--every", "0.05")
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == [f"{step}/2" for step in range(7)]
    assert lines[-1] == "r1 is done after step 6"


def test_watch_as_json_is_a_line_per_step(told: Told, resolved: dict[str, Any]) -> None:
    with written(resolved, 3):
        done = told("watch", "--every", "0.05", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3] and rows[1]["metrics"] and "evaluations" in rows[1]


def test_a_run_that_stopped_says_how_to_go_on(told: Told, resolved: dict[str, Any]) -> None:
    with written(resolved, 1, "stopped"):
        done = told("watch", "r1", "--every", "0.05")
    assert done.stdout.splitlines()[-1] == "r1 is stopped after step 1; go on with sparring resume r1"


def test_a_killed_run_is_not_waited_for(told: Told, resolved: dict[str, Any]) -> None:
    with Store("sparring.db") as store:
        store.start_run("tiny", resolved, "digest", 0)
        store.save_step("r1", sample_step(0, episodes=2))  # its lock goes with the store, its status stays running
    assert "r1 is killed after step 0; go on with" in told("watch", "r1").stdout


def test_steps_that_a_resume_took_back_are_told_again(resolved: dict[str, Any]) -> None:
    from sparring.training.cli.watching import _followed

    with Store("sparring.db") as store:
        store.start_run("tiny", resolved, "digest", 0)
        for number in range(3):
            store.save_step("r1", sample_step(number, episodes=2))
        followed = _followed(store, "r1", 0.0)
        assert [step.step for step in next(followed)] == [0, 1, 2]
        wanted = sample_step(1, episodes=2).checkpoint
        store.resume_point("r1", lambda saved: wanted is not None and saved.path == wanted.path)
        assert next(followed) == [] and store.run("r1").last_step == 1
        store.save_step("r1", sample_step(2, episodes=2))
        assert [step.step for step in next(followed)] == [2]


def test_tail_tells_every_word_of_the_newest_step(told: Told, filled: str) -> None:
    shown = told("tail", "r1", "--whole", "--last", "9").stdout
    for episode in sample_step(2, episodes=4).episodes:
        assert f"r1/2/{episode.index}" in shown
        assert all(line in shown for turn in episode.turns for line in turn.said.splitlines())
    assert "r1/1/" not in shown


def test_tail_follows_until_the_run_ends(told: Told, resolved: dict[str, Any]) -> None:
    with written(resolved, 5):
        done = told("tail", "r1", "--every", "0.05", "--json", "--last", "1")
    found = list(dict.fromkeys(json.loads(line)["episode"] for line in done.stdout.splitlines()))
    assert found[-1] == "r1/5/0" and found == [f"r1/{step}/0" for step in range(6 - len(found), 6)]


def test_tail_of_a_role_says_only_its_words(told: Told, filled: str) -> None:
    rows = [json.loads(line) for line in told("tail", "--role", "critic", "--json").stdout.splitlines()]
    assert rows and {row["author"] for row in rows} == {"critic"} and "scores" in rows[0]


def test_tail_counts_the_episodes_it_does_not_show(told: Told, filled: str) -> None:
    done = told("tail", "r1", "--last", "1", "--no-follow")
    assert "r1/2 has 3 more: sparring show r1/2" in done.stdout and "r1/2/1" not in done.stdout


@pytest.mark.parametrize("width", [80, 160])
def test_a_turn_is_one_line_of_the_screen(told: Told, filled: str, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = told("tail", "r1", "--last", "1").stdout
    turns = [line for line in shown.splitlines() if "#" in line]
    assert len(turns) == len(sample_step(2, episodes=4).episodes[0].turns)


def test_steps_are_read_without_counting_turns(filled: str) -> None:
    with Store("sparring.db") as store:
        found = steps_after(store, "r1", 0)
        assert [step.step for step in found] == [1, 2]
        assert found[1].evaluations == sample_step(2, episodes=4).evaluations


@pytest.mark.parametrize("command", ["watch", "tail"])
def test_a_run_that_is_not_there_is_said(told: Told, filled: str, command: str) -> None:
    done = told(command, "r7")
    assert done.exit_code == 5 and "no run r7" in done.stderr
