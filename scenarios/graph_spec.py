"""A role graph as data: nodes, edges, where it begins. Compiling it is ``sparring.agents.graph``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from .ref import Flag, Number, Spec, Whole

END = "END"
EDGE = re.compile(
    r"\s*(?P<source>[\w-]+)\s*->\s*(?P<targets>[\w-]+(?:\s*,\s*[\w-]+)*)(?:\s+if\s+(?P<condition>[\w-]+))?\s*"
)


class SearchSpec(Spec):
    """How a node with ``do: select`` looks for the turn to expand next in the tree below a task.

    ``simulations`` turns are expanded per task, the task's own expansion included. ``policy``: uct (down the branch
    with the largest Q + ``explore`` sqrt(ln N above / N)), best_first (the largest Q) or breadth (the shallowest). Q is
    the mean of the verifier over the ends below, N their number; unvisited first, so every new branch is followed to an
    end. ``leaf``: a score (or ``verdict``: a judge's word) an unfinished branch is worth until an end below is known.
    """

    simulations: Whole = Field(default=8, ge=1, le=1024)
    policy: Literal["uct", "best_first", "breadth"] = "uct"
    explore: Number = Field(default=1.0, ge=0)
    depth: Whole | None = Field(default=None, ge=1)
    leaf: str | None = None


class NodeSpec(Spec):
    """One node of a graph: a role speaks (``role``), the environment acts, or turns are sent on (``do``)."""

    role: str | None = None
    do: Literal["admit", "step", "select", "draw", "recall"] | None = None
    samples: Whole = Field(default=1, ge=1, le=1024)
    prompt: str | None = None
    pick: Literal["all", "balanced", "wrong", "right", "first", "contrast"] = "all"
    at_most: Whole | None = Field(default=None, ge=1)
    fresh: Flag = False
    train_as: str | None = None
    refuse: tuple[Literal["hidden", "told", "easy"], ...] = ("hidden",)
    search: SearchSpec | None = None

    @model_validator(mode="after")
    def _one_actor(self) -> NodeSpec:
        if (self.role is None) == (self.do is None):
            raise ValueError("a node needs exactly one of role: or do:")
        if self.do is not None and (self.prompt is not None or self.fresh or self.train_as is not None):
            raise ValueError("prompt, fresh and train_as are for nodes with a role")
        if self.do not in (None, "draw") and self.samples != 1:
            raise ValueError("samples is for nodes with a role or do: draw: else the environment acts once per turn")
        if self.do != "admit" and self.refuse != ("hidden",):
            raise ValueError("refuse is for nodes with do: admit, where proposals become tasks")
        if self.search is not None and self.do != "select":
            raise ValueError("search is for nodes with do: select, which send turns on to be expanded")
        if self.do == "select" and (self.pick != "all" or self.at_most is not None):
            raise ValueError("pick and at_most are for nodes that act: do: select chooses by its search")
        return self


class Arrow(NamedTuple):
    """One source, one target, and the condition's name or ``None``."""

    source: str
    target: str
    condition: str | None


class Edge(Spec):
    """One line of ``edges``: ``a -> b, c if condition`` or ``{from: a, to: [b, c], if: condition}``."""

    source: str = Field(alias="from", min_length=1)
    targets: tuple[str, ...] = Field(alias="to", min_length=1)
    condition: str | None = Field(default=None, alias="if")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            targets = value.get("to")
            return {**value, "to": [targets]} if isinstance(targets, str) else value
        found = EDGE.fullmatch(value) if isinstance(value, str) and len(value) < 1000 else None
        if found is None:
            raise ValueError("an edge is written 'a -> b', 'a -> b, c if wrong' or {from: a, to: b, if: wrong}")
        targets = [name.strip() for name in found["targets"].split(",")]
        return {"from": found["source"], "to": targets, "if": found["condition"]}


class GraphSpec(Spec):
    """Who speaks after whom. ``start`` is the first node unless said otherwise; ``END`` may be a target.

    ``seeded``: tasks come from the task source although a role proposes some; a given one is a seed: it goes to the
    start node, and what is proposed is about it.
    """

    nodes: dict[str, NodeSpec] = Field(min_length=1)
    edges: tuple[Edge, ...] = ()
    start: str = ""
    seeded: Flag = False

    @field_validator("nodes", mode="before")
    @classmethod
    def _plain_names(cls, value: Any) -> Any:
        for name in value if isinstance(value, Mapping) else ():
            if name == END or not re.fullmatch(r"[\w-]+", str(name)):
                raise ValueError(f"{name!r} cannot name a node: letters, digits, _ and - are allowed, END is taken")
        return value

    @model_validator(mode="before")
    @classmethod
    def _first(cls, value: Any) -> Any:
        nodes = value.get("nodes") if isinstance(value, Mapping) else None
        if isinstance(nodes, Mapping) and nodes and value.get("start") in (None, ""):
            return {**value, "start": next(iter(nodes))}
        return value

    @model_validator(mode="after")
    def _has_proposals(self) -> GraphSpec:
        if self.seeded and not self.proposes:
            raise ValueError("seeded: true is for graphs in which a role proposes tasks: add a do: admit node")
        return self

    def arrows(self) -> tuple[Arrow, ...]:
        """Every edge with one target each, in the order written; leaving the graph is the target ``END``."""
        return tuple(Arrow(edge.source, target, edge.condition) for edge in self.edges for target in edge.targets)

    def straight(self) -> tuple[Arrow, ...]:
        """The arrows of play without search: past every ``do: select`` node, on while the environment takes actions."""
        found: dict[Arrow, None] = {}
        for arrow in self.arrows():
            if self._selects(arrow.source):
                continue
            ways = [arrow]
            if self._selects(arrow.target):
                on = [way for way in self.arrows() if way.source == arrow.target and not self._selects(way.target)]
                ways = [Arrow(arrow.source, w.target, w.condition or arrow.condition or "unfinished") for w in on]
            found |= dict.fromkeys(ways)
        return tuple(found)

    def _selects(self, name: str) -> bool:
        return name in self.nodes and self.nodes[name].do == "select"

    @property
    def proposes(self) -> bool:
        """Whether tasks arise inside the graph (it has a ``do: admit`` node)."""
        return any(node.do == "admit" for node in self.nodes.values())

    @property
    def given(self) -> bool:
        """Whether every episode begins with a task from the task source."""
        return self.seeded or not self.proposes

    @property
    def searches(self) -> bool:
        """Whether a tree search chooses what is expanded (it has a ``do: select`` node)."""
        return any(node.do == "select" for node in self.nodes.values())

    def roles(self) -> list[str]:
        """The roles that speak, in the order their nodes are written, each once."""
        return list(dict.fromkeys(node.role for node in self.nodes.values() if node.role is not None))
