"""``compare``: which runs are one side, their intervals, the difference, the keys, and the plot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from sparring.storage.comparing import Measured, compared, differing
from sparring.storage.intervals import difference, mean_interval, t_quantile
from sparring.storage.records import EvaluationRow, StepRecord
from sparring.storage.store import Store
from sparring.training.cli.plotting import BAND, MARKS, Line, plot

Told = Callable[..., Result]
ESCAPES = re.compile("\x1b\\[[0-9;]*m")


def run(name: str, seed: int, values: Mapping[int, float], lr: float = 0.1) -> Measured:
    rows = [EvaluationRow(step, "accuracy", value, 10) for step, value in values.items()]
    rows.append(EvaluationRow(0, "accuracy", 0.9, 5, {"arm": "depth=2"}))  # a part of the set is no point of the curve
    return Measured(name, "tiny", seed, {"name": "tiny", "seed": seed, "training": {"lr": lr}}, rows)


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (10, 2.2281), (30, 2.0423), (1000, 1.9623)]
)
def test_t_is_that_of_the_tables(freedom: float, t: float) -> None:
    assert t_quantile(freedom) == pytest.approx(t, abs=5e-5)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [mean_interval(list(rng.normal(3.0, 2.0, 4))) for _ in range(2000)]
    held = np.mean([one.low is not None and one.high is not None and one.low <= 3.0 <= one.high for one in found])
    assert 0.935 <= held <= 0.965


def test_the_same_seeds_are_pairs_and_others_are_not() -> None:
    one, two = {0: 0.1, 1: 0.5, 2: 0.9}, {0: 0.2, 1: 0.6, 2: 1.0}
    paired, how = difference(one, two)
    assert how == "paired by seed" and paired.half == pytest.approx(0.0, abs=1e-12)
    apart, how = difference(one, {seed + 9: value for seed, value in two.items()})
    assert (
        how == "Welch" and apart.mean == pytest.approx(0.1) and apart.half == pytest.approx(2.7764 * 0.32660, rel=1e-3)
    )


def test_a_single_run_has_no_interval() -> None:
    found, how = difference({0: 0.1}, {0: 0.4})
    assert (found.low, found.n, how) == (None, 1, "one seed, no interval")


def test_runs_that_differ_by_seed_only_are_one_side() -> None:
    found = compared([run("r1", 0, {0: 0.2}), run("r2", 1, {0: 0.4}), run("r3", 0, {0: 0.6}, lr=0.2)], "accuracy")
    assert [side.runs for side in found.sides] == [("r1", "r2"), ("r3",)]
    assert found.sides[0].curve[0].mean == pytest.approx(0.3) and found.sides[1].curve[0].half is None
    assert found.keys == {"training.lr": ("0.1", "0.2")}


def test_the_difference_is_taken_where_all_runs_have_been() -> None:
    found = compared([run("r1", 0, {0: 0.2, 5: 0.3}), run("r2", 0, {0: 0.4, 5: 0.7, 9: 0.9}, lr=0.2)], "accuracy")
    (contrast,) = found.contrasts
    assert contrast.step == 5 and contrast.interval is not None and contrast.interval.mean == pytest.approx(0.4)
    assert found.finals["accuracy"][1] is not None and found.finals["accuracy"][1].mean == 0.9


def test_copies_of_one_seed_are_not_taken_for_samples() -> None:
    found = compared([run("r1", 0, {0: 0.2}), run("r2", 0, {0: 0.2}), run("r3", 0, {0: 0.6}, lr=0.2)], "accuracy")
    assert found.contrasts[0].interval is None and "copies" in found.contrasts[0].how


def test_keys_that_one_side_lacks_are_named() -> None:
    assert differing([{"a": {"b": 1}, "c": 2}, {"a": {}, "c": 2}]) == {"a": ("absent", "{}"), "a.b": ("1", "absent")}


def test_a_curve_runs_from_the_lower_left_to_the_upper_right() -> None:
    rows = [line.plain for line in plot([Line("up", [(0, 0.0), (10, 1.0)])], 40, 5)]
    assert rows[0].rstrip().endswith(MARKS[0]) and rows[4].partition("│")[2].startswith(MARKS[0])
    assert rows[0].startswith("1.000") and rows[4].startswith("0.000") and rows[-1].split() == ["0", "10"]


def test_a_band_is_drawn_around_its_line_and_never_over_it() -> None:
    flat = Line("flat", [(0, 0.5), (4, 0.5)], [(0, 0.0, 1.0), (4, 0.0, 1.0)])
    rows = [line.plain.partition("│")[2] for line in plot([flat], 30, 5)]
    assert set(rows[0].strip()) == set(rows[4].strip()) == {BAND} and set(rows[2].strip()) == {MARKS[0]}


def test_a_plot_of_nothing_and_of_one_point_is_no_error() -> None:
    assert list(plot([Line("none", [])], 40)) == []
    assert sum(line.plain.count(MARKS[0]) for line in plot([Line("one", [(3, 0.5)])], 40)) == 1


@pytest.fixture
def four(tmp_path: Path) -> None:
    """``sparring.db`` with r1 to r4: two seeds of two scenarios, each with a curve of three points."""
    with Store(tmp_path / "sparring.db") as store:
        for number, (lr, seed) in enumerate([(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)], 1):
            resolved: dict[str, Any] = {"name": "tiny", "seed": seed, "training": {"lr": lr}, "source": "/a/b.yaml"}
            store.start_run("tiny", resolved, f"digest{number}", seed)
            for step in range(3):
                value = 0.3 + lr * step + 0.01 * seed
                rows = (EvaluationRow(step, "accuracy", value, 10), EvaluationRow(step, "pass@4", value + 0.1, 10))
                store.save_step(f"r{number}", StepRecord(step=step, evaluations=rows))
            store.finish_run(f"r{number}", "done")


def test_compare_tells_the_difference_with_its_interval(told: Told, four: None) -> None:
    shown = told("compare", "r1", "r2", "r3", "r4").stdout
    assert "r3, r4 - r1, r2  accuracy +0.200 (+0.200 to +0.200) at step 2  paired by seed" in shown
    assert "training.lr" in shown and "seed " not in shown.partition("differs in the scenarios")[2]


def test_compare_as_json_has_every_step_and_run(told: Told, four: None) -> None:
    found = json.loads(told("compare", "r1", "r2", "r3", "r4", "--json", "--metric", "pass@4").stdout)
    assert [side["runs"] for side in found["sides"]] == [["r1", "r2"], ["r3", "r4"]]
    assert found["sides"][1]["values"]["2"] == {"r3": pytest.approx(0.8), "r4": pytest.approx(0.81)}


def test_runs_of_one_scenario_have_no_difference(told: Told, four: None) -> None:
    done = told("compare", "r1", "r2")
    assert done.exit_code == 0 and "differ by seed only" in done.stdout


def test_a_figure_that_was_not_measured_is_said_with_what_was(told: Told, four: None) -> None:
    done = told("compare", "r1", "r3", "--metric", "pass@9")
    assert done.exit_code == 5 and "it has accuracy, pass@4: add --metric accuracy" in done.stderr


@pytest.mark.parametrize("width", ["80", "160"])
def test_no_line_is_wider_than_the_screen(told: Told, four: None, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = ESCAPES.sub("", told("compare", "r1", "r2", "r3", "r4").stdout)
    assert shown and max(map(len, shown.splitlines())) <= int(width)
