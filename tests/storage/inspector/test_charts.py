"""Charts: what is drawn, what is said beside it, and what must not be in it."""

from __future__ import annotations

import math
import re
import sys
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.storage.inspector.charts import bars, drawn, figure, lines, sparkline, thinned, ticks, told

VALUES = st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=300)


def curve(*values: float | None, **more: object) -> str:
    one = figure("Reward", range(len(values)), {"solver": values}, **more)  # type: ignore[arg-type]  # figure's own words
    assert one is not None
    return str(lines(one))


def test_a_missing_value_is_a_gap_and_not_a_line_over_it() -> None:
    assert len(re.findall(r'class="line reactive nofill"', curve(1.0, 2.0, None, 3.0, 4.0))) == 2
    assert len(re.findall(r'class="line reactive nofill"', curve(1.0, 2.0, 2.5, 3.0, 4.0))) == 1


def test_a_value_alone_between_gaps_is_still_seen() -> None:
    assert curve(None, 0.5, None).count("<circle") == 1
    every_third = [0.5 if at % 3 == 1 else None for at in range(60)]
    assert curve(*every_third).count("<circle") == 20


def test_a_drawing_holds_shapes_and_no_script_style_or_foreign_address() -> None:
    svg = curve(1.0, 2.0, 3.0)
    assert not re.search(r"<(script|style|defs|desc|title|!--)|href|style=|https?:", svg)
    assert 'aria-hidden="true"' in svg


@given(VALUES)
def test_any_curve_can_be_drawn_or_is_left_out(values: list[float | None]) -> None:
    one = figure("Any", range(len(values)), {"a": values, "none": [None] * len(values)})
    finite = [value for value in values if value is not None and math.isfinite(value)]
    assert (one is None) == (not finite)
    if one is not None:
        assert "nan" not in str(lines(one)) and "inf" not in str(lines(one))
        assert len(drawn(one)) <= 160 and told(one).startswith("Any, step")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=2000), st.integers(1, 50))
def test_thinning_keeps_the_lowest_and_the_highest(values: list[float], most: int) -> None:
    x, means, low, high = thinned(range(len(values)), values, most)
    assert len(x) == len(means) <= most
    if low is not None and high is not None:
        assert min(v for v in low if v is not None) == min(values)
        assert max(v for v in high if v is not None) == max(values)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_lie_within_the_axis_and_are_few(low: float, wide: float) -> None:
    found = ticks(low, low + wide)
    air = 1e-6 * (abs(low) + wide)
    assert len(found) <= 6 and all(low - air <= tick <= low + wide + air for tick in found)
    assert found == sorted(found)


def test_a_figure_is_told_in_words_with_its_last_value_and_range() -> None:
    one = figure("Entropy", [0, 1, 2], {"solver": [0.5, 0.1, 0.3]}, unit="nats")
    assert one is not None
    assert told(one) == "Entropy, step 0 to 2. solver: last 0.3, from 0.1 to 0.5 nats"


def test_the_rows_under_a_chart_are_the_numbers_that_are_drawn() -> None:
    one = figure("Two", [0, 5, 10], {"a": [1.0, None, 3.0], "b": [4.0, 5.0, 6.0]})
    assert one is not None
    assert [(row["x"], row["at"], row["cells"]) for row in drawn(one)] == [
        ("0", "0.0000", ["1", "4"]),
        ("5", "0.5000", ["\u2013", "5"]),
        ("10", "1.0000", ["3", "6"]),
    ]


def test_the_words_on_an_axis_keep_their_last_figure() -> None:
    assert ">0.004<" in curve(0.0, 0.0052)


def test_what_is_never_negative_has_no_axis_below_0() -> None:
    assert not re.search(r">-[0-9.]+<", curve(0.0, 0.0, 0.0)) and not re.search(r">-[0-9.]+<", curve(0.01, 5.0))
    assert re.search(r">-[0-9.]+<", curve(-5.0, 5.0))


def test_bands_lie_behind_their_curve() -> None:
    svg = curve(1.0, 2.0, 3.0, bands={"solver": ([0.5, 1.5, 2.5], [1.5, 2.5, 3.5])})
    assert svg.index("band hue-0") < svg.index("line hue-0")


@pytest.mark.parametrize("values", [[], [1.0], [None, math.nan]])
def test_a_sparkline_of_less_than_two_values_is_nothing(values: list[float | None]) -> None:
    assert sparkline(values) == ""


def test_a_histogram_has_a_bar_for_every_bin() -> None:
    one = figure("Solve rate", [0.0, 0.5], {"tasks": [3, 0]})
    assert one is not None
    assert bars(one).count("<rect") == 2 + 2  # two backgrounds


def test_drawing_leaves_no_importer_behind() -> None:
    curve(1.0, 2.0)
    assert [one for one in sys.meta_path if type(one).__module__.startswith("pygal")] == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImportError):
            __import__("sparring_has_no_such_module")
