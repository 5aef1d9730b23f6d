"""Plain data as bytes: the one form in which values cross between a live child and the trusted side.

Types are exact, never subclasses: None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset. Both
directions are bounded in bytes, depth, number of values and width of integers, so decoding hostile bytes is cheap.
"""

from __future__ import annotations

import struct
from typing import Any

MOST_BYTES = 1 << 20
MOST_VALUES = 1 << 17
DEEPEST = 50
WIDEST_INT = 4000  # bits
_MOST_ALIKE = 64  # keys with one hash: more of them would make building a dict quadratic

_GROUPS: dict[type, int] = {list: ord("L"), tuple: ord("U"), set: ord("E"), frozenset: ord("Z")}
_MAKE = {tag: kind for kind, tag in _GROUPS.items()}
_NONE, _TRUE, _FALSE, _INT, _FLOAT, _STR, _BYTES, _DICT = b"NTFIDSBM"


class NotPlain(ValueError):
    """A value of another type, or nested too deeply. ``too_much``: it is plain but larger than what may cross."""

    def __init__(self, message: str, too_much: bool = False) -> None:
        super().__init__(message)
        self.too_much = too_much


class Malformed(ValueError):
    """Bytes that no encoder of ours wrote."""


def encode(value: Any) -> bytes:
    """The bytes of a plain value; raises ``NotPlain``.

    >>> decode(encode([1, (2.5, "x"), {"k": b"b"}, None, True]))
    [1, (2.5, 'x'), {'k': b'b'}, None, True]
    """
    into = bytearray()
    left = _write(value, into, 0, MOST_VALUES)
    assert left >= 0
    return bytes(into)


def _write(value: Any, into: bytearray, depth: int, left: int) -> int:
    """Append one value; returns how many values may still follow."""
    kind = type(value)
    if left <= 0 or len(into) > MOST_BYTES:
        raise NotPlain(f"more than {MOST_VALUES} values or {MOST_BYTES} bytes", too_much=True)
    if kind in _GROUPS or kind is dict:
        return _write_group(value, kind, into, depth, left)
    if kind is int:
        if value.bit_length() > WIDEST_INT:
            raise NotPlain(f"an integer of more than {WIDEST_INT} bits", too_much=True)
        wide: bytes = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
        into += struct.pack(">BH", _INT, len(wide)) + wide
    elif kind is str or kind is bytes:
        if len(value) > MOST_BYTES:
            raise NotPlain(f"a text of more than {MOST_BYTES} bytes", too_much=True)
        text: bytes = value if kind is bytes else value.encode("utf-8", "surrogatepass")
        into += struct.pack(">BI", _BYTES if kind is bytes else _STR, len(text)) + text
    elif kind is float:
        into += struct.pack(">Bd", _FLOAT, value)
    elif value is None or kind is bool:
        into.append(_NONE if value is None else _TRUE if value else _FALSE)
    else:
        name = type.__getattribute__(kind, "__name__")
        raise NotPlain(f"{name} is not plain data (None, bool, int, float, str, bytes, list, tuple, dict, set)")
    if len(into) > MOST_BYTES:
        raise NotPlain(f"more than {MOST_BYTES} bytes", too_much=True)
    return left - 1


def _write_group(value: Any, kind: type, into: bytearray, depth: int, left: int) -> int:
    if depth >= DEEPEST:
        raise NotPlain(f"nested more than {DEEPEST} deep")
    if len(value) > left:
        raise NotPlain(f"more than {MOST_VALUES} values", too_much=True)
    into += struct.pack(">BI", _GROUPS.get(kind, _DICT), len(value))
    left -= 1
    items = [part for pair in value.items() for part in pair] if kind is dict else value
    for item in items:
        left = _write(item, into, depth + 1, left)
    return left


def decode(data: bytes) -> Any:
    """The value in ``data``; raises ``Malformed`` for anything else, within time linear in its length."""
    if len(data) > MOST_BYTES + 16:
        raise Malformed("too long")
    try:
        value, end, _ = _read(data, 0, 0, MOST_VALUES)
    except (struct.error, IndexError, UnicodeDecodeError, TypeError) as error:  # TypeError: an unhashable key
        raise Malformed(str(error)) from None
    if end != len(data):
        raise Malformed("bytes after the value")
    return value


def _read(data: bytes, at: int, depth: int, left: int) -> tuple[Any, int, int]:
    """The value at ``at``, where the next begins, and how many values may still follow."""
    tag = data[at]
    at += 1
    if left <= 0:
        raise Malformed("too many values")
    if tag == _INT:
        (length,) = struct.unpack_from(">H", data, at)
        raw = _take(data, at + 2, length, WIDEST_INT // 8 + 1)
        return int.from_bytes(raw, "big", signed=True), at + 2 + length, left - 1
    if tag in (_STR, _BYTES):
        (length,) = struct.unpack_from(">I", data, at)
        raw = _take(data, at + 4, length, MOST_BYTES)
        return raw if tag == _BYTES else raw.decode("utf-8", "surrogatepass"), at + 4 + length, left - 1
    if tag == _FLOAT:
        return struct.unpack_from(">d", data, at)[0], at + 8, left - 1
    if tag == _NONE:
        return None, at, left - 1
    if tag in (_TRUE, _FALSE):
        return tag == _TRUE, at, left - 1
    return _read_group(tag, data, at, depth, left)


def _take(data: bytes, at: int, length: int, most: int) -> bytes:
    raw = data[at : at + length]
    if len(raw) != length or length > most:
        raise Malformed("a length beyond its bounds")
    return raw


def _read_group(tag: int, data: bytes, at: int, depth: int, left: int) -> tuple[Any, int, int]:
    if (tag != _DICT and tag not in _MAKE) or depth >= DEEPEST:
        raise Malformed("an unknown tag" if depth < DEEPEST else "nested too deeply")
    (count,) = struct.unpack_from(">I", data, at)
    at, left = at + 4, left - 1
    if count > min(left, len(data) - at):
        raise Malformed("more values than bytes")
    items = []
    for _ in range(2 * count if tag == _DICT else count):
        item, at, left = _read(data, at, depth + 1, left)
        items.append(item)
    if tag == _DICT:
        _check_hashes(items[::2])
        return dict(zip(items[::2], items[1::2], strict=True)), at, left
    if _MAKE[tag] in (set, frozenset):
        _check_hashes(items)
    return _MAKE[tag](items), at, left


def _check_hashes(keys: list[Any]) -> None:
    """Refuse keys made to collide: hash(-1) == hash(-2) alone gives a tuple of 17 of them 131072 equal hashes."""
    alike: dict[int, int] = {}
    for key in keys:
        mixed = hash(key)
        alike[mixed] = alike.get(mixed, 0) + 1
    if alike and max(alike.values()) > _MOST_ALIKE:
        raise Malformed("keys made to collide")
