"""Graph presets by name; each is a YAML file in ``graphs/`` that a scenario could hold inline just as well."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

from sparring.scenarios.registry import graphs
from sparring.scenarios.schema import GraphSpec

FOLDER = Path(__file__).parent / "graphs"


@cache
def read_graph(path: Path) -> GraphSpec:
    """The graph in a YAML file of the shape ``{nodes: ..., edges: [...]}``."""
    return GraphSpec.model_validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))


@graphs("solve")
def solve() -> GraphSpec:
    """Solvers try a given task; the environment verifies."""
    return read_graph(FOLDER / "solve.yaml")


@graphs("solve-critique-revise")
def solve_critique_revise() -> GraphSpec:
    """Solvers try a given task, critics judge some attempts, solvers revise them."""
    return read_graph(FOLDER / "solve-critique-revise.yaml")


@graphs("propose-solve-critique-revise")
def propose_solve_critique_revise() -> GraphSpec:
    """A teacher proposes, the environment admits, rubrics are written, attempts are judged and revised."""
    return read_graph(FOLDER / "propose-solve-critique-revise.yaml")


@graphs("two-seats")
def two_seats() -> GraphSpec:
    """Roles ``first`` and ``second`` move in turn, each by what the environment tells it, until a game is over."""
    return read_graph(FOLDER / "two-seats.yaml")
