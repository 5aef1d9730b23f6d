"""Text from a model cannot move the cursor, JSON is JSON, and figures read as they are."""

from __future__ import annotations

import doctest
import json
import math
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.training.cli import output


@given(st.text(st.characters(codec=None)))
def test_no_control_character_gets_through(text: str) -> None:
    shown = output.visible(text)
    assert all(character in "\t\n" or ord(character) >= 32 for character in shown)
    assert shown.encode() is not None  # no lone surrogate is left


@given(st.text(), st.integers(2, 80))
def test_one_line_is_one_line_of_that_width(text: str, width: int) -> None:
    shown = output.one_line(text, width)
    assert len(shown) <= width and "\n" not in shown


@given(st.lists(st.none() | st.floats()), st.integers(1, 30))
def test_a_sparkline_has_a_place_for_each_value(values: list[float | None], width: int) -> None:
    line = output.sparkline(values, width)
    assert len(line) in (0, min(len(values), width))


def test_an_absent_figure_is_no_zero() -> None:
    assert output.number(None) == "-" and output.number(0.0) == "0.000" and output.number(2e-7) == "2.0e-07"


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    assert json.dumps(output.plain({"a": [math.nan, 1.5], 2: b"\x01"})) == '{"a": [null, 1.5], "2": "01"}'


@pytest.mark.parametrize("module", [output])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
