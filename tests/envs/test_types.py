"""Records: what their keys are made of."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.types import Segment


@given(st.lists(st.integers(0, 2**32 - 1)).map(tuple))
def test_the_key_of_a_segment_hashes_its_ids_in_four_little_endian_bytes_each(token_ids: tuple[int, ...]) -> None:
    spelt = b"".join(token.to_bytes(4, "little") for token in token_ids)
    assert Segment("any text", token_ids).key == hashlib.sha256(spelt).hexdigest()[:16]
