"""How tokens, log-probs, text and JSON become column values and come back unchanged. Pure functions, no SQL.

Blob: one byte, then little-endian numbers. The byte's high nibble is the format version (1), the low nibble the type:
``0x11`` uint8, ``0x12`` uint16, ``0x13`` uint24, ``0x14`` uint32 (token ids); ``0x15`` float32, ``0x16`` float64
(log-probs). The narrowest type that holds every value exactly is used; per-token advantages are rounded to float32. No
tokens: NULL.

Text: itself, unless it holds NUL or a lone surrogate (no database stores those) or begins with ``escaped:``; then
``escaped:`` and the text with each backslash, NUL and surrogate written ``\\uXXXX``.

JSON: plain JSON where that comes back equal; else ``{"$tagged": ...}`` in which a tuple is ``{"tuple": [...]}``, a
mapping ``{"dict": [[key, value], ...]}``, a criterion ``{"criterion": {...}}``, anything else ``{"repr": "..."}``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from sparring.envs.types import Criterion, CriterionKind
from sparring.scenarios.errors import StoreError

_TYPES = {0x11: ("B", 1), 0x12: ("H", 2), 0x14: ("I", 4), 0x15: ("f", 4), 0x16: ("d", 8)}
_ODD = re.compile("[\x00\ud800-\udfff]")
_ESCAPE = re.compile("[\\\\\x00\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")
_MARK = "escaped:"
_TAG = "$tagged"


def pack_tokens(token_ids: Sequence[int]) -> bytes | None:
    """Token ids (each in [0, 2**32)) as a blob; ``None`` for none. Raises ``StoreError`` on an id outside the range."""
    return narrowed(pack_wide(token_ids))


def pack_wide(token_ids: Sequence[int]) -> bytes | None:
    """As ``pack_tokens``, without uint24: the form that content hashes are taken of."""
    if not token_ids:
        return None
    for kind in (0x11, 0x12, 0x14):  # the first id that does not fit ends an attempt
        try:
            return bytes([kind]) + _little(array(_TYPES[kind][0], token_ids))
        except (OverflowError, TypeError):
            pass
    raise StoreError(f"token ids must be whole numbers in [0, 2**32): {min(token_ids)}..{max(token_ids)}")


def narrowed(wide: bytes | None) -> bytes | None:
    """A blob of uint32 token ids as uint24, where they fit; any other blob as it is."""
    if wide is None or wide[0] != 0x14 or wide[4::4].strip(b"\0"):
        return wide
    narrow = bytearray(1 + (len(wide) - 1) // 4 * 3)
    narrow[0] = 0x13
    for place in (1, 2, 3):
        narrow[place::3] = wide[place::4]
    return bytes(narrow)


def _widened(blob: bytes) -> bytes:
    """A blob of uint24 as uint32."""
    wide = bytearray(1 + (len(blob) - 1) // 3 * 4)
    wide[0] = 0x14
    for place in (1, 2, 3):
        wide[place::4] = blob[place::3]
    return bytes(wide)


def _little(numbers: array[Any]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def pack_logprobs(logprobs: Sequence[float]) -> bytes | None:
    """Natural-log probabilities as a blob: float32, or float64 when float32 would change one; ``None`` for none."""
    if not logprobs:
        return None
    narrow = array("f", logprobs)  # infinite where it is beyond float32, which the comparison sees
    if narrow.tolist() == list(logprobs):
        return b"\x15" + _little(narrow)
    return b"\x16" + _little(array("d", logprobs))


def pack_advantages(advantages: Sequence[float]) -> bytes | None:
    """Per-token advantages as a blob, rounded to float32; ``None`` for none. Raises ``StoreError`` past its range."""
    if not advantages:
        return None
    try:
        return b"\x15" + struct.pack(f"<{len(advantages)}f", *advantages)
    except OverflowError as error:
        raise StoreError(f"a token's advantage is too large for float32: {max(advantages, key=abs)}") from error


def _unpack(blob: bytes) -> tuple[Any, ...]:
    if blob[:1] == b"\x13" and len(blob) % 3 == 1:
        blob = _widened(blob)
    code, width = _TYPES.get(blob[0], ("", 0)) if blob else ("", 0)
    if not code or (len(blob) - 1) % width:
        raise StoreError(f"damaged blob: first byte {blob[:1].hex() or 'absent'}, {len(blob)} bytes")
    return struct.unpack(f"<{(len(blob) - 1) // width}{code}", blob[1:])


def unpack_tokens(blob: bytes | None) -> tuple[int, ...]:
    """The token ids of a blob. Raises ``StoreError`` on a damaged one."""
    return _unpack(blob) if blob is not None else ()


def unpack_logprobs(blob: bytes | None) -> tuple[float, ...]:
    """The log-probs (or per-token advantages) of a blob. Raises ``StoreError`` on a damaged one."""
    return _unpack(blob) if blob is not None else ()


def escape(text: str) -> str:
    """``text`` in a form every database stores; the same text when it is ordinary."""
    odd = "\0" in text if text.isascii() else _ODD.search(text) is not None  # the first way is ten times as fast
    if not odd and not text.startswith(_MARK):
        return text
    return _MARK + _ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def unescape(stored: str) -> str:
    """The text that ``escape`` was given."""
    if not stored.startswith(_MARK):
        return stored
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), stored[len(_MARK) :])


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_SAFE = frozenset((str, int, bool, type(None)))


def _is_plain(value: Any) -> bool:
    """Whether a value surely comes back equal from plain JSON; ``False`` for what must be tried."""
    kind = type(value)
    if kind is dict:
        return _TAG not in value and all(type(key) is str and _is_plain(item) for key, item in value.items())
    return kind in _SAFE or (kind is list and all(map(_is_plain, value)))


def pack_json(value: Any) -> str:
    """JSON text of any value; see the module's docstring for values plain JSON would change."""
    if value is None:
        return "null"
    try:
        text = _encode(value)
        if _is_plain(value) or (not (isinstance(value, Mapping) and _TAG in value) and json.loads(text) == value):
            return text
    except (TypeError, ValueError):  # not JSON as it is: tagged below
        pass
    return json.dumps({_TAG: _tagged(value)}, ensure_ascii=False, separators=(",", ":"))


def unpack_json(text: str) -> Any:
    """The value ``pack_json`` was given (values of unknown types come back as their ``repr``)."""
    value = json.loads(text)
    return _untagged(value[_TAG]) if isinstance(value, dict) and value.keys() == {_TAG} else value


def _tagged(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Criterion):
        return {"criterion": dataclasses.asdict(value)}
    if isinstance(value, Mapping):
        return {"dict": [[_tagged(key), _tagged(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_tagged(item) for item in value]}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    return {"repr": repr(value)}


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "dict":
        return {_untagged(key): _untagged(item) for key, item in inner}
    if kind == "tuple":
        return tuple(_untagged(item) for item in inner)
    if kind == "criterion":
        return Criterion(**{**inner, "kind": CriterionKind(inner["kind"])})
    return inner


def pack_figures(figures: Mapping[str, float | None]) -> str:
    """Metrics as JSON text that SQLite's JSON functions read: a number that is not finite becomes its name."""
    plain = {
        name: value if value is None or math.isfinite(value) else str(float(value))
        for name, value in ((str(key), None if item is None else float(item)) for key, item in figures.items())
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def unpack_figures(text: str) -> dict[str, float | None]:
    """The metrics ``pack_figures`` was given, as floats."""
    return {name: None if value is None else float(value) for name, value in json.loads(text).items()}
