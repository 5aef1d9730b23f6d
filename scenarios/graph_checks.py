"""What can be wrong with a graph before anything is played: names, dead ends, loops nobody leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .problems import Problems, unknown
from .registry import conditions
from .schema import END, GraphSpec


def check_graph(graph: GraphSpec, roles: Iterable[str], problems: Problems) -> None:
    """Note every unknown name, double edge, unreachable node and loop without an exit."""
    names = list(roles)
    for name, node in graph.nodes.items():
        if node.role is not None and node.role not in names:
            problems.add(("graph", "nodes", name, "role"), unknown("role", node.role, names))
        if node.train_as is not None:
            _check_stand_in(graph, name, node.train_as, problems)
    if graph.start not in graph.nodes:
        problems.add(("graph", "start"), unknown("node", graph.start, graph.nodes))
    elif graph.nodes[graph.start].do is not None:
        problems.add(
            ("graph", "start"), f"{graph.start!r} is the environment's; nobody has spoken yet, start with a role"
        )
    if _edges_name_nodes(graph, names, problems) and graph.start in graph.nodes:
        _check_paths(graph, problems)


def _check_stand_in(graph: GraphSpec, name: str, other: str, problems: Problems) -> None:
    """``train_as`` names a node where the same role speaks before."""
    path, role = ("graph", "nodes", name, "train_as"), graph.nodes[name].role
    if other not in graph.nodes:
        problems.add(path, unknown("node", other, graph.nodes))
    elif graph.nodes[other].role != role:
        mine = [node for node, spec in graph.nodes.items() if spec.role == role and node != name]
        there = f"name one of its own: {', '.join(mine)}" if mine else "it speaks nowhere else; remove train_as"
        problems.add(path, f"{other!r} is no node of role {role!r}, so nothing is said there to train like; {there}")
    else:
        ways = {node: [target for target in _next(graph, node) if target in graph.nodes] for node in graph.nodes}
        if not any(name in _reachable(after, ways) for after in ways[other]):
            problems.add(path, f"no path leads from {other!r} to here, so nothing was said there yet; name one above")


def _edges_name_nodes(graph: GraphSpec, roles: list[str], problems: Problems) -> bool:
    sound = True
    seen: set[object] = set()
    for index, edge in enumerate(graph.edges):
        path = ("graph", "edges", index)
        for name in (edge.source, *edge.targets):
            if name in graph.nodes or (name == END and name != edge.source):
                continue
            sound = False
            also = f"; {name!r} is a role, edges name nodes" if name in roles else ""
            problems.add(path, f"{unknown('node', name, [*graph.nodes, END])} (in an edge){also}")
        if edge.condition is not None and edge.condition not in conditions.names():
            problems.add(path, f"{unknown('condition', edge.condition, conditions.names())} (in an edge)")
        for target in edge.targets:
            if (edge.source, target, edge.condition) in seen:
                problems.add(path, f"the edge {edge.source} -> {target} is there twice; every turn would go twice")
            seen.add((edge.source, target, edge.condition))
    return sound


def _check_paths(graph: GraphSpec, problems: Problems) -> None:
    reached = _reachable(graph.start, {name: list(_next(graph, name)) for name in graph.nodes})
    for name in graph.nodes:
        if name not in reached:
            problems.add(("graph", "nodes", name), f"no path leads here from {graph.start!r}; add an edge or remove it")
    always = {name: list(_next(graph, name, conditional=False)) for name in graph.nodes}
    loops = [name for name in graph.nodes if any(name in _reachable(after, always) for after in always[name])]
    if loops:
        index = next(
            i
            for i, edge in enumerate(graph.edges)
            if edge.condition is None and edge.source in loops and any(target in loops for target in edge.targets)
        )
        problems.add(
            ("graph", "edges", index),
            f"the loop through {', '.join(loops)} has no exit: give one edge a condition, as in 'a -> b if wrong'",
        )


def _next(graph: GraphSpec, name: str, conditional: bool = True) -> Iterator[str]:
    for arrow in graph.arrows():
        bounded = arrow.condition is not None or graph.nodes[name].do == "select"  # a search ends with its budget
        if arrow.source == name and arrow.target != END and (conditional or not bounded):
            yield arrow.target


def _reachable(start: str, after: Mapping[str, list[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        for name in after[waiting.pop()]:
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found
