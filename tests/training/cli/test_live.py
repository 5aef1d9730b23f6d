"""The view of a run: the line per step, the picture, and what follows from what was told."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from sparring.scenarios.load import load
from sparring.storage.records import EvaluationRow
from sparring.training.cli.live import Progress, line, picture
from sparring.training.course import Told
from sparring.training.summary import Figures


def told(step: int, right: float, seconds: float = 2.0) -> Told:
    """A step of ten in which ``right`` of the first attempts were right."""
    figures: Figures = {"first/right": right, "tokens": 500.0, "score/solver/verifier": right} if step else {}
    rows = (EvaluationRow(step, "accuracy", right, 20), EvaluationRow(step, "accuracy", 0.9, 5, {"arm": "length=1"}))
    return Told(step, 10, figures, {"length=1": 0.75, "length=2": 0.25}, rows, seconds)


@pytest.fixture
def progress(scenario: Path) -> Progress:
    """Three steps in."""
    made = Progress(load(scenario), "tiny r1", "database sparring.db")
    for step, right in enumerate((0.1, 0.2, 0.4)):
        made.add(told(step, right))
    return made


def test_a_line_says_step_accuracy_rewards_pace_and_time_left(progress: Progress) -> None:
    assert line(progress) == (
        "step 2/10  accuracy 0.400  first attempts right 0.400  solver verifier 0.400  250 tokens/s  16 s left"
    )


def test_the_picture_shows_history_and_arms(progress: Progress) -> None:
    file = io.StringIO()
    screen = Console(file=file, width=100)
    screen.print(picture(progress))
    shown = file.getvalue()
    assert "0.100 → 0.400" in shown and "▁▃█" in shown and "length=1" in shown and "Ctrl-C" in shown
    assert shown.count("█") > 28


def test_the_picture_before_the_first_step_says_what_is_going_on(scenario: Path) -> None:
    file = io.StringIO()
    screen = Console(file=file, width=100)
    screen.print(picture(Progress(load(scenario), "tiny r1", "database")))
    assert "measuring the untouched policy" in file.getvalue()


def test_measuring_before_the_first_step_sets_no_pace(scenario: Path) -> None:
    made = Progress(load(scenario), "tiny r1", "database")
    made.add(told(0, 0.1, seconds=500.0))
    assert made.left is None


def test_what_could_not_be_used_is_said(progress: Progress) -> None:
    figures: dict[str, float | None] = {"invalid/rubric": 3.0, "train/tokens": 0.0}
    progress.add(dataclasses.replace(told(3, 0.4), figures=figures))
    assert progress.troubles() == ["rubric invalid on 3 turns", "nothing to learn from, weights as they were"]
    assert "  rubric invalid on 3 turns  nothing" in line(progress)
    progress.add(dataclasses.replace(told(4, 0.4), figures={"train/refused": 1.0, "train/tokens": 9.0}))
    assert progress.troubles() == ["update refused, loss or gradient not finite"]


def test_a_long_run_does_not_fill_the_memory(scenario: Path) -> None:
    made = Progress(load(scenario), "tiny r1", "database")
    for step in range(1000):
        made.add(told(step, 0.5, seconds=1.0))
    assert len(made.told) == 200 and made.told[-1].step == 999
