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


@graphs("solve-retry")
def solve_retry() -> GraphSpec:
    """Solvers try a given task twice; nobody tells them whether the first attempt was right."""
    return read_graph(FOLDER / "solve-retry.yaml")


@graphs("propose-solve-critique-revise")
def propose_solve_critique_revise() -> GraphSpec:
    """A teacher proposes, the environment admits, rubrics are written, attempts are judged and revised."""
    return read_graph(FOLDER / "propose-solve-critique-revise.yaml")


@graphs("two-seats")
def two_seats() -> GraphSpec:
    """Roles ``first`` and ``second`` move in turn, each by what the environment tells it, until a game is over."""
    return read_graph(FOLDER / "two-seats.yaml")


@graphs("dialogue-ask")
def dialogue_ask() -> GraphSpec:
    """An ``asker`` questions a scripted partner until it answers; eight conversations about a task."""
    return read_graph(FOLDER / "dialogue-ask.yaml")


@graphs("dialogue-ask-roles")
def dialogue_ask_roles() -> GraphSpec:
    """Roles ``asker`` and ``partner`` talk until the asker answers; eight conversations about a task."""
    return read_graph(FOLDER / "dialogue-ask-roles.yaml")


@graphs("dialogue-tutor")
def dialogue_tutor() -> GraphSpec:
    """A ``tutor`` teaches a scripted student until the exam; eight lessons on a task."""
    return read_graph(FOLDER / "dialogue-tutor.yaml")


@graphs("dialogue-tutor-roles")
def dialogue_tutor_roles() -> GraphSpec:
    """A role ``student`` sits an exam, is taught by a ``tutor``, sits it again; eight lessons on a task."""
    return read_graph(FOLDER / "dialogue-tutor-roles.yaml")


@graphs("dialogue-negotiate")
def dialogue_negotiate() -> GraphSpec:
    """Role ``first`` bargains with a scripted second party; eight conversations about a task."""
    return read_graph(FOLDER / "dialogue-negotiate.yaml")


@graphs("dialogue-negotiate-roles")
def dialogue_negotiate_roles() -> GraphSpec:
    """Roles ``first`` and ``second`` bargain until there is a deal or none; eight conversations about a task."""
    return read_graph(FOLDER / "dialogue-negotiate-roles.yaml")


@graphs("dialogue-consult")
def dialogue_consult() -> GraphSpec:
    """An ``advisor`` questions a scripted client and advises; eight consultations about a task."""
    return read_graph(FOLDER / "dialogue-consult.yaml")


@graphs("dialogue-consult-roles")
def dialogue_consult_roles() -> GraphSpec:
    """Roles ``advisor`` and ``client`` talk until the advice, which a ``judge`` reads; eight about a task."""
    return read_graph(FOLDER / "dialogue-consult-roles.yaml")
