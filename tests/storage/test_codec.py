"""What goes into a column comes out of it."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.types import Criterion, CriterionKind
from sparring.scenarios.errors import StoreError
from sparring.storage.codec import (
    escape,
    pack_figures,
    pack_json,
    pack_logprobs,
    pack_tokens,
    pack_wide,
    unescape,
    unpack_figures,
    unpack_json,
    unpack_logprobs,
    unpack_tokens,
)

any_text = st.text(st.characters(exclude_categories=()))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(st.lists(st.integers(0, 2**32 - 1)).map(tuple))
def test_token_ids_come_back(token_ids: tuple[int, ...]) -> None:
    assert unpack_tokens(pack_tokens(token_ids)) == token_ids


@pytest.mark.parametrize(("top", "width"), [(255, 1), (256, 2), (65_535, 2), (65_536, 3), (2**24 - 1, 3), (2**24, 4)])
def test_tokens_take_the_narrowest_width(top: int, width: int) -> None:
    blob = pack_tokens([0, top])
    assert blob is not None and len(blob) == 1 + 2 * width


@given(st.lists(st.floats(allow_nan=False)).map(tuple))
def test_any_logprobs_come_back(logprobs: tuple[float, ...]) -> None:
    assert unpack_logprobs(pack_logprobs(logprobs)) == logprobs


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_float32_logprobs_take_four_bytes_each(logprobs: list[float]) -> None:
    blob = pack_logprobs(logprobs)
    assert blob is not None and len(blob) == 1 + 4 * len(logprobs)


def test_the_blob_format_is_the_documented_one() -> None:
    assert pack_tokens([1, 300]) == bytes([0x12, 1, 0, 44, 1])
    assert pack_tokens([1, 70_000]) == bytes([0x13, 1, 0, 0, 112, 17, 1])
    assert pack_logprobs([-0.5]) == b"\x15" + struct.pack("<f", -0.5)
    assert math.isnan(unpack_logprobs(pack_logprobs([math.nan]))[0])


def test_content_hashes_are_taken_of_the_form_that_never_had_uint24() -> None:
    assert pack_wide([1, 70_000]) == b"\x14" + struct.pack("<2I", 1, 70_000)


@pytest.mark.parametrize("blob", [b"", b"\x99\x00", b"\x12\x00", b"\x13\x00", b"\x15\x00\x00"])
def test_a_damaged_blob_is_refused(blob: bytes) -> None:
    with pytest.raises(StoreError, match="damaged blob"):
        unpack_tokens(blob)


@pytest.mark.parametrize("token_ids", [[-1], [2**32], [1, -5]])
def test_impossible_token_ids_are_refused(token_ids: list[int]) -> None:
    with pytest.raises(StoreError, match=r"2\*\*32"):
        pack_tokens(token_ids)


@given(any_text | any_text.map("escaped:".__add__))
def test_any_text_comes_back_and_is_storable(text: str) -> None:
    stored = escape(text)
    assert unescape(stored) == text
    assert "\x00" not in stored
    stored.encode("utf-8")  # raises on a lone surrogate


def test_ordinary_text_is_stored_as_it_is() -> None:
    assert escape("né → 12\n\\u0041") == "né → 12\n\\u0041"


@given(plain)
def test_any_json_like_value_comes_back(value: object) -> None:
    assert unpack_json(unescape(escape(pack_json(value)))) == value


@pytest.mark.parametrize(
    "value",
    [(1, ("a", [2])), {1: "a"}, {"$tagged": 3}, (Criterion("says 12", 2.0, CriterionKind.VETO),), {"x": (1,)}],
)
def test_values_json_would_change_come_back(value: object) -> None:
    back = unpack_json(pack_json(value))
    assert back == value and type(back) is type(value)


def test_metrics_keep_numbers_that_are_not_finite() -> None:
    figures = unpack_figures(pack_figures({"loss": math.nan, "norm": -math.inf, "kl": None, "lr": 0.5}))
    assert math.isnan(figures.pop("loss") or 0.0)
    assert figures == {"norm": -math.inf, "kl": None, "lr": 0.5}
