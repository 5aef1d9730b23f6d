"""Whether two plain values are the same, type for type. One is expected, the other came from a hostile program."""

from __future__ import annotations

import math
from typing import Any

_DEEPEST = 60  # what crosses from the sandbox is at most 50 deep


def same(expected: Any, actual: Any, tolerance: float = 0.0, exact: bool = True) -> bool:
    """Types are compared exactly: a bool is no int, a tuple no list; without ``exact`` an int may stand for a float.

    Floats are the same up to ``tolerance``, relative or absolute, whichever is wider; NaN is the same as NaN, an
    infinity only as itself. Keys and members of sets are compared without tolerance. Order matters in lists and tuples.

    >>> same([1, 2.0], [1, 2.0000001], 1e-6), same(1, True), same(2, 2.0), same(2, 2.0, exact=False)
    (True, False, False, True)
    """
    return _same(expected, actual, tolerance, exact, 0)


def _same(expected: Any, actual: Any, tolerance: float, exact: bool, depth: int) -> bool:
    kind, other = type(expected), type(actual)
    if depth > _DEEPEST:
        return False
    if kind is not other:
        numbers = not exact and {kind, other} == {int, float}
        return numbers and _close(expected, actual, tolerance)
    if kind is float:
        return _close(expected, actual, tolerance)
    if kind in (list, tuple):
        return len(expected) == len(actual) and all(
            _same(one, two, tolerance, exact, depth + 1) for one, two in zip(expected, actual, strict=True)
        )
    if kind is dict:
        mine, theirs = _by_key(expected), _by_key(actual)
        return mine.keys() == theirs.keys() and all(
            _same(mine[key], theirs[key], tolerance, exact, depth + 1) for key in mine
        )
    if kind in (set, frozenset):
        return {_tagged(item) for item in expected} == {_tagged(item) for item in actual}
    return bool(expected == actual)


def _close(expected: float, actual: float, tolerance: float) -> bool:
    try:
        if math.isnan(expected) or math.isnan(actual):
            return math.isnan(expected) and math.isnan(actual)
        return math.isclose(expected, actual, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:  # an int too wide to be a float
        return expected == actual


def _by_key(held: dict[Any, Any]) -> dict[Any, Any]:
    return {_tagged(key): value for key, value in held.items()}


def _tagged(item: Any) -> Any:
    """A hashable value with its types: 1, 1.0 and True are one key to a dict, and three here."""
    if type(item) is tuple:
        return tuple, tuple(_tagged(part) for part in item)
    if type(item) is frozenset:
        return frozenset, frozenset(_tagged(part) for part in item)
    if type(item) is float and math.isnan(item):
        return float, "nan"
    return type(item), item
