"""A layered picture: nodes in columns, edges from left to right. Numbers and words only; a template draws them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

WIDE, TALL = 152, 44  # a node
GAP_X, GAP_Y, EDGE = 38, 14, 10
HEAD = 26  # room for the columns' names
SWEEPS = 4


@dataclass(frozen=True, slots=True)
class Node:
    """Something in column ``layer``; ``words`` say all of it, ``title`` and ``text`` what fits. ``tone`` is a class."""

    id: str
    layer: int
    kind: str
    title: str
    text: str
    words: str
    href: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """From one node to another; ``weight`` 0 to 4 is how thick it is drawn, ``tone`` a class."""

    tail: str
    head: str
    weight: int = 0
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A node and its upper left corner."""

    node: Node
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Curve:
    """An edge as the path of an SVG."""

    d: str
    weight: int
    tone: str


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn, in pixels. ``columns`` are the middle and the name of each layer that is there."""

    width: float
    height: float
    nodes: tuple[Placed, ...]
    curves: tuple[Curve, ...]
    columns: tuple[tuple[float, str], ...]


def picture(nodes: Sequence[Node], edges: Sequence[Edge], names: Sequence[str]) -> Picture:
    """Nodes laid out in columns so that neighbours stand beside each other; empty columns take no room.

    Each column is put in the order of what its nodes are joined to, forth and back a few times (Sugiyama's
    barycentres), then nodes are drawn to the middle of their neighbours as far as there is room.
    """
    layers: defaultdict[int, list[Node]] = defaultdict(list)
    for node in nodes:
        layers[node.layer].append(node)
    order = sorted(layers)
    known = {node.id for node in nodes}
    joined: defaultdict[str, list[str]] = defaultdict(list)
    for edge in edges:
        if edge.tail in known and edge.head in known:
            joined[edge.tail].append(edge.head)
            joined[edge.head].append(edge.tail)
    y = {node.id: float(at * (TALL + GAP_Y)) for held in layers.values() for at, node in enumerate(held)}
    for sweep in range(SWEEPS):
        for layer in order if sweep % 2 == 0 else reversed(order):
            _settle(layers[layer], joined, y)
    top = min(y.values(), default=0.0)
    x = {layer: EDGE + at * (WIDE + GAP_X) for at, layer in enumerate(order)}
    placed = {node.id: Placed(node, x[node.layer], y[node.id] - top + HEAD) for node in nodes}
    return Picture(
        width=2 * EDGE + len(order) * (WIDE + GAP_X) - GAP_X,
        height=max((one.y for one in placed.values()), default=0.0) + TALL + EDGE,
        nodes=tuple(placed.values()),
        curves=tuple(_curve(placed[e.tail], placed[e.head], e) for e in edges if e.tail in known and e.head in known),
        columns=tuple((x[layer] + WIDE / 2, names[layer]) for layer in order),
    )


def _settle(column: list[Node], joined: dict[str, list[str]], y: dict[str, float]) -> None:
    """Draw each node to the middle of those it is joined to, in that order, none upon another."""
    wish = {node.id: fmean(y[other] for other in joined[node.id]) if joined[node.id] else y[node.id] for node in column}
    column.sort(key=lambda node: (wish[node.id], y[node.id]))
    step = TALL + GAP_Y
    below = -1e9
    for node in column:
        y[node.id] = below = max(wish[node.id], below + step)
    shift = fmean(wish[node.id] - y[node.id] for node in column)  # what was pushed down goes half-way up again
    for node in column:
        y[node.id] += shift


def _curve(tail: Placed, head: Placed, edge: Edge) -> Curve:
    x1, y1 = tail.x + WIDE, tail.y + TALL / 2
    x2, y2 = head.x, head.y + TALL / 2
    bend = max(GAP_X / 2, (x2 - x1) / 2)
    d = f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    return Curve(d, edge.weight, edge.tone)
