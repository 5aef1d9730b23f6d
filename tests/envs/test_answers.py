"""The answer parser takes the last tag and never raises; fences come off and nothing else changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.code.answers import parse, strip_fences
from sparring.envs.code.env import verify

TAGS = st.lists(st.sampled_from(["<answer>", "</answer>", "<think>", "12", " ", "\n", "<", "\ud800"])).map("".join)


@given(st.text() | TAGS)
def test_parsing_never_raises_and_says_a_value_or_a_problem(text: str) -> None:
    parsed = parse(text)
    assert (parsed.value is None) == (parsed.problem is not None)


@given(TAGS, st.text(alphabet="0123456789-ab", min_size=1))
def test_the_last_answer_wins(before: str, answer: str) -> None:
    assert parse(f"{before}<answer> {answer}\n</answer> done").value == answer


@pytest.mark.parametrize(
    "text", ["", "12", "<answer>", "<answer>1", "<answer>1</answer><answer>2", "<answer> </answer>"]
)
def test_no_closed_answer_is_no_answer(text: str) -> None:
    assert "no answer" in (parse(text).problem or "")


@pytest.mark.parametrize(
    ("said", "value", "note"),
    [
        ("<answer> 12\n</answer>", 1.0, "right"),
        ("<answer>12</answer><answer>13</answer>", 0.0, "wrong"),
        ("12", 0.0, "no answer"),
    ],
)
def test_only_the_printed_output_is_right(said: str, value: float, note: str) -> None:
    score = verify(said, "12\n")
    assert (score.value, score.note) == (value, note)


@pytest.mark.parametrize(
    "text",
    ["a=1\nprint(a)", "```python\na=1\nprint(a)\n```", "Here:\n```\na=1\nprint(a)\n```\nbye", "```py\na=1\nprint(a)"],
)
def test_fences_come_off(text: str) -> None:
    assert strip_fences(text) == "a=1\nprint(a)"


@given(st.text())
def test_stripping_fences_never_raises(text: str) -> None:
    strip_fences(text)
