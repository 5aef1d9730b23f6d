"""Reading YAML: values, lines, and refusing quickly what no honest scenario holds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.yaml_text import parse

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 25))
HOSTILE: dict[str, tuple[str | bytes, str]] = {
    "alias bomb": (BOMB, "values"),
    "many aliases": ("a: &a 1\nb: [" + "*a, " * 60 + "]", "aliases"),
    "alias of itself": ("a: &a [*a]", "inside its own anchor"),
    "alias of nothing": ("a: *b", "no anchor"),
    "merge bomb": ("a: &a {b: 1}\nc: &c {<<: *a}\nd: {<<: [*a, *c]}", "merge key"),
    "python tag": ("a: !!python/object/apply:os.system ['true']", "tag"),
    "local tag": ("a: !env HOME", "tag"),
    "deep flow": ("[" * 10_000, "deeper"),
    "deep block": ("- " * 9_000, "deeper"),
    "deep mapping": ("\n".join(" " * i + "a:" for i in range(200)), "deeper"),
    "duplicate key": ("a: 1\nb: 2\na: 3", "already on line 1"),
    "huge": ("a: b\n" * 300_000, "bytes"),
    "many lines": ("#\n" * 100_000, "lines"),
    "many values": ("\n".join(f"- [{'1,' * 2000}]" for _ in range(50)), "values"),
    "one long line": ("a: " + "x" * 500_000, "characters"),
    "list as key": ("? [a]\n: b", "key"),
    "empty key": (": b", "key"),
    "two documents": ("a: 1\n---\nb: 1", "second document"),
    "tab": ("a:\n\tb: 1", "tab"),
    "NUL": ("a: 1\nb: \0", "NUL"),
    "escaped NUL": ('a: "\\0"', "NUL"),
    "half a surrogate": ('a: "\\ud800"', "surrogate"),
    "not UTF-8": (b"a: 1\nb: \xff", "UTF-8"),
    "UTF-16": ("a: 1".encode("utf-16"), "UTF-8"),
    "too large a number": ("a: 1e999", "too large"),
    "open bracket": ("a: [1, 2", "not YAML"),
}


@pytest.mark.timeout(20)  # a bomb that goes off takes minutes
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_text_is_refused_in_one_line(case: str) -> None:
    text, words = HOSTILE[case]
    with pytest.raises(ScenarioError) as caught:
        parse(text, "x.yaml")
    assert words in str(caught.value) and str(caught.value).startswith("x.yaml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1.0e-3", 1e-3), ("-.5", -0.5), ("3.", 3.0), ("12", 12), ("-7", -7), ("007", 7),
        ("0x10", 16), ("0o10", 8), ("true", True), ("False", False), ("~", None), ("", None), ("null", None),
        ("yes", "yes"), ("on", "on"), ("'12'", "12"), ('"true"', "true"), ("1_000", "1_000"), ("1-1", "1-1"),
        (".nan", ".nan"), ("${HOME}", "${HOME}"), ("1:30", "1:30"), ("x" * 500, "x" * 500),
    ],
)  # fmt: skip
def test_scalars_mean_what_they_say(text: str, value: object) -> None:
    found = parse(f"a: {text}", "x").value["a"]
    assert found == value and type(found) is type(value)


def test_every_key_and_item_has_its_line() -> None:
    lines = parse("a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n", "x").lines
    assert lines == {(): 1, ("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "c"): 4, ("b", 1, "d"): 5}


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse(b"\xef\xbb\xbfa: 1\n", "x").value == {"a": 1}


def test_an_alias_repeats_a_whole_value() -> None:
    assert parse("a: &s {t: 1}\nb: *s", "x").value == {"a": {"t": 1}, "b": {"t": 1}}


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80), st.binary(max_size=80), st.text(alphabet="ab:-[]{}&*!|>'\"#%@ \n\t,?<0", max_size=60)
    )
)
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        document = parse(text, "x")
    except ScenarioError as error:
        assert "\n" not in str(error)
    else:
        json.dumps(document.value, allow_nan=False)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc-_ é", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1), DATA, max_size=4))
def test_json_reads_back_as_itself(value: dict[str, object]) -> None:
    """JSON is YAML: what a run stored as JSON can be pasted into a file."""
    assert parse(json.dumps(value), "x").value == value
