"""Curves as characters: a few lines over a shared x axis, each with a mark and a colour of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from .output import number

if TYPE_CHECKING:
    from rich.text import Text

MARKS = "●◆▲■○◇△□"
STYLES = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_cyan", "bright_magenta")
BAND = "·"
Point = tuple[float, float]
Span = tuple[float, float, float]


@dataclass(frozen=True)
class Line:
    """A curve: ``points`` as (x, y) by rising x, ``bands`` as (x, low, high) where its interval is known."""

    label: str
    points: Sequence[Point]
    bands: Sequence[Span] = ()


def mark(index: int) -> tuple[str, str]:
    """The sign and the style of the line with this number."""
    return MARKS[index % len(MARKS)], STYLES[index % len(STYLES)]


def plot(lines: Sequence[Line], width: int, height: int = 13) -> Iterator[Text]:
    """The lines in ``height`` rows of at most ``width`` columns, with both axes; nothing when no line has a point.

    Between two points a line goes straight. Edges of bands are dots, where no line runs.
    """
    from rich.text import Text

    xs = [x for line in lines for x, _ in line.points]
    if not xs:
        return
    ys = [y for line in lines for _, y in line.points] + [y for line in lines for band in line.bands for y in band[1:]]
    low, high = min(ys), max(ys)
    if low == high:
        low, high = low - 0.5, high + 0.5
    left, right = min(xs), max(xs)
    labels = [number(low + (high - low) * row / (height - 1)) for row in range(height)]
    margin = max(map(len, labels))
    columns = max(8, width - margin - 3)
    cells = _cells(lines, (left, right), (low, high), columns, height)
    for row in reversed(range(height)):
        told = labels[row] if row % 4 == 0 else ""
        line = Text(f"{told:>{margin}} │", style="dim")
        for column in range(columns):
            sign, style = cells.get((column, row), (" ", ""))
            line.append(sign, style=f"not dim {style}".strip())
        yield line
    yield Text(f"{'':>{margin}} └{'─' * columns}", style="dim")
    first, last = f"{left:g}", f"{right:g}"
    yield Text(f"{'':>{margin}}  {first}{last:>{columns - len(first)}}", style="dim")


def _cells(
    lines: Sequence[Line], across: tuple[float, float], up: tuple[float, float], columns: int, height: int
) -> Mapping[tuple[int, int], tuple[str, str]]:
    """What stands in which (column, row); row 0 is the lowest."""
    found: dict[tuple[int, int], tuple[str, str]] = {}

    def at(y: float) -> int:
        return round((y - up[0]) / (up[1] - up[0]) * (height - 1))

    for number_of, line in enumerate(lines):
        style = mark(number_of)[1]
        for edge in (1, 2):
            edges = [(band[0], band[edge]) for band in line.bands]
            for column, y in _drawn(edges, across, columns):
                found.setdefault((column, at(y)), (BAND, f"dim {style}"))
    for number_of, line in enumerate(lines):
        for column, y in _drawn(line.points, across, columns):
            found[column, at(y)] = mark(number_of)
    return found


def _drawn(points: Sequence[Point], across: tuple[float, float], columns: int) -> Iterator[tuple[int, float]]:
    """A height for every column between the first and the last point."""
    left, right = across
    scale = (columns - 1) / (right - left) if right > left else 0.0
    placed = [(round((x - left) * scale), y) for x, y in points]
    yield from placed[:1]
    for (start, y), (stop, z) in pairwise(placed):
        for column in range(start + 1, stop + 1):
            yield column, y + (z - y) * (column - start) / (stop - start)
