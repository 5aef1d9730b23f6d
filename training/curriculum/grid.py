"""What a curriculum picks from: every combination of listed values, and a box of continuous parameters cut into cells.

Inside the box a place is measured in shares of each range, from 0 to 1, so that distances mean the same on every axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator

Value = str | int | float | bool
Bounds = tuple[int | float, int | float]


@dataclass(frozen=True, slots=True)
class Axis:
    """A range from ``low`` to ``high``. Between whole bounds lie whole numbers, each with an equal share of the axis.

    >>> Axis(1, 5).value(0.39), Axis(1.0, 5.0).value(0.5)
    (2, 3.0)
    """

    low: int | float
    high: int | float

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def value(self, share: float) -> int | float:
        """The value at this share of the way, 0 to 1."""
        if not self.whole:
            return min(self.high, self.low + share * (self.high - self.low))
        return min(int(self.high), int(self.low) + int(share * (self.high - self.low + 1)))

    def share(self, value: float) -> float:
        """How far along a value lies; a whole number in the middle of its share."""
        if self.whole:
            return (value - self.low + 0.5) / (self.high - self.low + 1)
        return (value - self.low) / (self.high - self.low)

    def cuts(self, parts: int) -> list[float]:
        """Shares at which ``parts`` equal parts begin and end; whole numbers are never cut."""
        if not self.whole:
            return [part / parts for part in range(parts + 1)]
        count = int(self.high - self.low) + 1
        parts = min(parts, count)
        return [round(count * part / parts) / count for part in range(parts + 1)]


@dataclass(frozen=True, slots=True)
class Span:
    """The part of an axis between two shares."""

    axis: Axis
    start: float
    end: float

    def value(self, share: float) -> int | float:
        """The value at this share of the span."""
        return self.axis.value(self.start + share * (self.end - self.start))

    def __str__(self) -> str:
        """Its first and last value."""
        inside = 1e-9 if self.axis.whole else 0.0  # a whole number belongs to the cell that it begins
        first, last = self.axis.value(self.start + inside), self.axis.value(self.end - inside)
        if self.axis.whole:
            return f"{first}" if first == last else f"{first}..{last}"
        digits = 4  # more where the range is narrow and far from 0: cells of one name would be one arm
        while digits < 17 and f"{first:.{digits}g}" == f"{last:.{digits}g}":
            digits += 1
        return f"{first:.{digits}g}..{last:.{digits}g}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm: fixed values, and the span of every range that a value is drawn from."""

    values: Mapping[str, Value]
    spans: Mapping[str, Span] = field(default_factory=dict)

    def draw(self, rng: Generator) -> dict[str, Value]:
        """Parameters, uniform over the spans."""
        return {**self.values, **{name: span.value(rng.random()) for name, span in self.spans.items()}}

    def centre(self) -> dict[str, Value]:
        """The parameters that stand for the cell."""
        return {**self.values, **{name: span.value(0.5) for name, span in self.spans.items()}}


def arms(values: Mapping[str, Sequence[Value]]) -> dict[str, dict[str, Value]]:
    """Every combination of parameter values under a readable name.

    >>> arms({"depth": [1, 2]})
    {'depth=1': {'depth': 1}, 'depth=2': {'depth': 2}}
    >>> arms({})
    {'any': {}}
    """
    return {name: cell.centre() for name, cell in cells(values).items()}


def cells(values: Mapping[str, Sequence[Value]], ranges: Mapping[str, Bounds] = {}, parts: int = 1) -> dict[str, Cell]:
    """Every combination of values with every cell of the box, whose ranges are cut into ``parts`` each.

    >>> list(cells({"kind": ["x"]}, {"depth": (1, 4), "size": (0.0, 1.0)}, 2))[:2]
    ['kind=x, depth=1..2, size=0..0.5', 'kind=x, depth=1..2, size=0.5..1']
    """
    spread: list[list[tuple[str, Value | Span]]] = [[(name, one) for one in listed] for name, listed in values.items()]
    for name, (low, high) in ranges.items():
        axis = Axis(low, high)
        spread.append([(name, Span(axis, *ends)) for ends in itertools.pairwise(axis.cuts(parts))])
    found = {}
    for combination in itertools.product(*spread):
        name = ", ".join(f"{key}={value}" for key, value in combination) or "any"
        fixed = {key: value for key, value in combination if not isinstance(value, Span)}
        found[name] = Cell(fixed, {key: value for key, value in combination if isinstance(value, Span)})
    return found


def spread(options: Mapping[str, Any]) -> dict[str, dict[str, Value]]:
    """Parameters that stand for each arm of a curriculum with these options: what tasks are spread over evenly."""
    found = cells(options.get("arms") or {}, options.get("ranges") or {}, int(options.get("cells") or 1))
    return {name: cell.centre() for name, cell in found.items()}


def evenly(names: Sequence[str], count: int) -> list[str]:
    """``count`` of the names, one after the other; of more names than that, some from everywhere, not the first ones.

    >>> evenly(["a", "b", "c"], 5), evenly(["a", "b", "c", "d"], 2)
    (['a', 'b', 'c', 'a', 'b'], ['a', 'c'])
    """
    if count < len(names):
        return [names[index * len(names) // count] for index in range(count)]
    return [names[index % len(names)] for index in range(count)]


class Box:
    """The box of several ranges: places as vectors of shares, one per range in the order given."""

    def __init__(self, ranges: Mapping[str, Bounds], parts: int) -> None:
        self.axes = {name: Axis(low, high) for name, (low, high) in ranges.items()}
        self.cells = cells({}, ranges, parts)
        self._cuts = [axis.cuts(parts)[1:-1] for axis in self.axes.values()]
        self._names = list(self.cells)

    def parameters(self, place_D: np.ndarray) -> dict[str, Value]:
        """The parameters at a place; one outside is moved to the nearest edge."""
        inside = np.clip(place_D, 0.0, 1.0)
        return {name: axis.value(float(share)) for (name, axis), share in zip(self.axes.items(), inside, strict=True)}

    def place(self, parameters: Mapping[str, Any]) -> np.ndarray:
        """Where parameters lie."""
        return np.array([axis.share(parameters[name]) for name, axis in self.axes.items()])

    def cell(self, place_D: np.ndarray) -> str:
        """The name of the cell that a place lies in."""
        index = 0
        for cuts, share in zip(self._cuts, place_D, strict=True):
            index = index * (len(cuts) + 1) + sum(share >= cut for cut in cuts)
        return self._names[int(index)]
