"""Charts as inline SVG, drawn by pygal and stripped to shapes: colours come from the stylesheet, light or dark.

A figure is plain data that the twin holds too: ``{"title", "unit", "x_name", "x", "series": [{"name", "values",
"low", "high"}]}``. ``None`` is a gap. The words and the table that tell the same are made by the template.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from sparring.scenarios.errors import MissingExtra

from .shown import number

if TYPE_CHECKING:
    from pygal.graph.graph import Graph

MOST_POINTS = 400  # what a twin holds of a curve
DRAWN_POINTS = 160  # what a card of a few hundred pixels shows
WIDE, HIGH = 360, 176
ALONE = 14  # curves of so few points show each of them
PLACES = {"d", "cx", "cy", "x", "y", "width", "height"}
Values = Sequence[float | None]


def figure(
    title: str,
    x: Sequence[float],
    series: Mapping[str, Values],
    *,
    unit: str = "",
    x_name: str = "step",
    bands: Mapping[str, tuple[Values, Values]] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> dict[str, Any] | None:
    """A figure of these curves, thinned to ``MOST_POINTS``; ``None`` where no curve has a number.

    ``bands``: lower and upper values by the name of the curve they belong to. ``low`` and ``high`` hold the axis to
    what the values can be at all, such as 0 and 1.
    """
    drawn: list[dict[str, Any]] = []
    thin_x: list[float] = list(x)
    for name, values in series.items():
        if not any(_finite(value) for value in values):
            continue
        bottom, top = (bands or {}).get(name, (None, None))
        thin_x, means, lows, highs = thinned(x, values, MOST_POINTS, bottom, top)
        drawn.append({"name": name, "values": means, "low": lows, "high": highs, "hue": len(drawn)})
    if not drawn:
        return None
    return {
        "title": title, "unit": unit, "x_name": x_name, "x": thin_x, "series": drawn, "from": low, "to": high,
    }  # fmt: skip


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def thinned(
    x: Sequence[float], values: Values, most: int, low: Values | None = None, high: Values | None = None
) -> tuple[list[float], list[float | None], list[float | None] | None, list[float | None] | None]:
    """Neighbours drawn together until ``most`` points are left: their mean, their lowest, their highest.

    >>> thinned([0, 1, 2, 3], [1.0, 3.0, None, 4.0], 2)
    ([0, 2], [2.0, 4.0], [1.0, 4.0], [3.0, 4.0])
    """
    by = math.ceil(len(x) / most)
    kept = [value if _finite(value) else None for value in values]
    bottoms, tops = list(low or kept), list(high or kept)
    if by <= 1:
        return list(x), kept, list(low) if low else None, list(high) if high else None
    parts = [slice(start, start + by) for start in range(0, len(x), by)]
    return (
        [x[part][0] for part in parts],
        [_over(kept[part], lambda found: sum(found) / len(found)) for part in parts],
        [_over(bottoms[part], min) for part in parts],
        [_over(tops[part], max) for part in parts],
    )


def _over(values: Values, of: Any) -> float | None:
    found = [value for value in values if value is not None and math.isfinite(value)]
    return of(found) if found else None


def ticks(low: float, high: float, about: int = 4, whole: bool = False) -> list[float]:
    """Round numbers that span ``low`` to ``high``.

    >>> ticks(0, 12, whole=True), ticks(0.31, 0.92)
    ([0, 5, 10], [0.4, 0.6, 0.8])
    """
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * 0.999)
    step = max(1.0, round(step)) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    found = [round(index * step, 12) for index in range(first, last + 1)]
    return [int(value) for value in found] if whole else found


def lines(one: Mapping[str, Any]) -> Markup:
    """Curves of a figure, with bands behind them where it has any."""
    drawn = [_drawn(one["x"], serie) for serie in one["series"]]
    every = [v for x, *curves in drawn for curve in curves if curve for v in curve if v is not None]
    low, high = _span(every, one["from"], one["to"])
    chart = _xy((min(one["x"]), max(one["x"])), (low, high), whole=one["x_name"] == "step")
    classes = []
    hues = [serie["hue"] % 8 for serie in one["series"]]
    for hue, (x, _, bottom, top) in zip(hues, drawn, strict=True):
        if bottom and top:
            chart.add("", _outline(x, bottom, top), fill=True, show_dots=False)
            classes.append(f"band hue-{hue}")
    for hue, (x, values, *_) in zip(hues, drawn, strict=True):
        few = sum(value is not None for value in values) <= ALONE
        chart.add("", list(zip(x, values, strict=True)), show_dots=few, dots_size=2.6, allow_interruptions=True)
        classes.append(f"line hue-{hue}")
        if not few and (alone := _alone(x, values)):  # a line needs two points
            chart.add("", alone, stroke=False, dots_size=2.2)
            classes.append(f"line hue-{hue}")
    return _svg(chart, classes, "chart")


def _drawn(x: Sequence[float], serie: Mapping[str, Any]) -> tuple[Any, ...]:
    return thinned(x, serie["values"], DRAWN_POINTS, serie["low"], serie["high"])


def _alone(x: Sequence[float], values: Values) -> list[tuple[float, float]]:
    """The points between two gaps."""
    around = [None, *values, None]
    return [
        (x[at], value)
        for at, value in enumerate(values)
        if value is not None and around[at] is None and around[at + 2] is None
    ]


def _outline(x: Sequence[float], low: Values, high: Values) -> list[tuple[float, float]]:
    """The border of a band: along its bottom, back along its top."""
    there = [(at, a, b) for at, a, b in zip(x, low, high, strict=True) if a is not None and b is not None]
    return [(at, a) for at, a, _ in there] + [(at, b) for at, _, b in reversed(there)]


def _span(values: Sequence[float], low: float | None, high: float | None) -> tuple[float, float]:
    """The axis: the values with some air, or the fixed ends."""
    bottom, top = min(values), max(values)
    air = (top - bottom) * 0.06 or abs(top) * 0.1 or 1.0
    under = max(bottom - air, 0.0) if bottom >= 0 else bottom - air  # no axis goes below 0 for what does not
    return (under if low is None else min(low, bottom)), (top + air if high is None else max(high, top))


def _pygal() -> Any:
    try:
        import pygal
    except ImportError as error:
        raise MissingExtra("the page draws with pygal: pip install 'sparring[ui]'") from error
    # pygal finds plugins by an importer of a kind that Python no longer has, which warns at every import after it
    sys.meta_path[:] = [one for one in sys.meta_path if not type(one).__module__.startswith("pygal")]
    return pygal


def _options(**more: Any) -> dict[str, Any]:
    style = _pygal().style.Style(label_font_size=11, major_label_font_size=11, font_family="sans-serif")
    return {
        "style": style, "width": WIDE, "height": HIGH, "js": [], "css": [], "show_legend": False, "margin": 6,
        "no_data_text": "", "truncate_label": -1, "pretty_print": False, **more,
    }  # fmt: skip


def _xy(x: tuple[float, float], y: tuple[float, float], whole: bool) -> Graph:
    x_ends = x if x[0] < x[1] else (x[0] - 1, x[1] + 1)
    chart = _pygal().XY(**_options(xrange=x_ends, range=y, show_x_guides=False, show_y_guides=True))
    chart.x_labels = [{"label": number(at), "value": at} for at in ticks(*x, about=6, whole=whole)]
    chart.y_labels = [{"label": number(at), "value": at} for at in ticks(*y)]
    return chart


def sparkline(values: Values) -> Markup:
    """A curve without axes, a word high."""
    found = [(at, value) for at, value in enumerate(values) if _finite(value)]
    if len(found) < 2:
        return Markup("")
    x, means, *_ = thinned([at for at, _ in found], [value for _, value in found], 60)
    low, high = min(v for v in means if v is not None), max(v for v in means if v is not None)
    wide, tall = 120, 28
    scale_x, scale_y = (wide - 6) / max(x[-1] - x[0], 1), (tall - 6) / ((high - low) or 1)
    base = tall - 3 if high > low else tall / 2
    points = [(3 + (at - x[0]) * scale_x, base - ((v or 0) - low) * scale_y) for at, v in zip(x, means, strict=True)]
    root = ElementTree.Element("svg", {"class": "spark", "viewBox": f"0 0 {wide} {tall}", "aria-hidden": "true"})
    ElementTree.SubElement(root, "polyline", {"points": " ".join(f"{a:.1f},{b:.1f}" for a, b in points)})
    ElementTree.SubElement(root, "circle", {"cx": f"{points[-1][0]:.1f}", "cy": f"{points[-1][1]:.1f}", "r": "2.4"})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def bars(one: Mapping[str, Any]) -> Markup:
    """A histogram: ``x`` the left edge of each bar, the values of its one series their heights."""
    serie = one["series"][0]
    chart = _pygal().Bar(**_options(range=(0, max(serie["values"]) or 1), show_y_guides=True, spacing=4))
    chart.x_labels = [number(at) for at in one["x"]]
    chart.y_labels = [{"label": number(at), "value": at} for at in ticks(0, max(serie["values"]) or 1, whole=True)]
    chart.add("", serie["values"])
    return _svg(chart, ["bar hue-0"], "chart bars")


def _svg(chart: Graph, classes: Sequence[str], kind: str) -> Markup:
    """The drawing alone: pygal's own styles, scripts, tooltips and comments stay behind."""
    root = chart.render_tree()
    for parent in list(root.iter()):
        for child in list(parent):
            unwanted = child.get("class") in ("tooltip", "title", "tooltip-box") if isinstance(child.tag, str) else True
            if unwanted or child.tag in ("defs", "desc", "title", "style", "script"):
                parent.remove(child)
    for element in root.iter():
        name = element.get("class", "")
        if name.startswith("series "):
            index = int(name.split()[1].removeprefix("serie-"))
            element.set("class", f"series {classes[index]}")
        for shape in PLACES.intersection(element.keys()):  # a hundredth of a pixel is enough, and a third of the bytes
            element.set(shape, re.sub(r"(\.\d\d)\d+", r"\1", element.get(shape, "")))
    left, wide = _place(root)
    root.attrib = {
        "class": kind, "viewBox": f"0 0 {WIDE} {HIGH}", "aria-hidden": "true", "focusable": "false",
        "data-plot": f"{left:.1f} {wide:.1f}", "data-wide": str(WIDE),
    }  # fmt: skip
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _place(root: Any) -> tuple[float, float]:
    """Where the plot begins and how wide it is, in the drawing's own units."""
    plot = next(element for element in root.iter() if str(element.get("class", "")).split()[:1] == ["plot"])
    left = float(plot.get("transform").removeprefix("translate(").split(",")[0])
    back = next(element for element in plot if element.get("class") == "background")
    return left, float(back.get("width"))


def told(one: Mapping[str, Any]) -> str:
    """A figure in words: every curve's last value and its range."""
    unit = f" {one['unit']}" if one["unit"] else ""
    parts = []
    for serie in one["series"]:
        found = [value for value in serie["values"] if value is not None]
        parts.append(
            f"{serie['name']}: last {number(found[-1])}, from {number(min(found))} to {number(max(found))}{unit}"
        )
    ends = f"{one['x_name']} {number(one['x'][0])} to {number(one['x'][-1])}"
    return f"{one['title']}, {ends}. " + "; ".join(parts)


def drawn(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a figure's table: what is drawn, in words, and where it is drawn, from 0 to 1."""
    xs = thinned(one["x"], one["series"][0]["values"], DRAWN_POINTS)[0]
    curves = [thinned(one["x"], serie["values"], DRAWN_POINTS)[1] for serie in one["series"]]
    wide = (one["x"][-1] - one["x"][0]) or 1
    return [
        {"x": number(at), "at": f"{(at - one['x'][0]) / wide:.4f}", "cells": [number(curve[i]) for curve in curves]}
        for i, at in enumerate(xs)
    ]
