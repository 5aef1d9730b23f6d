"""A graph as Mermaid text, for README files and terminals that draw it. Reads the ``GraphSpec`` and nothing else."""

from __future__ import annotations

from .schema import END, GraphSpec, NodeSpec


def mermaid(graph: GraphSpec) -> str:
    """A ``flowchart``: role nodes are boxes, the environment's are rounded, conditions label the arrows."""
    ids = {name: f"n{index}" for index, name in enumerate(graph.nodes)}
    lines = ["flowchart TD", f"    begin((start)) --> {ids[graph.start]}"]
    lines += [f"    {ids[name]}{_shape(name, node)}" for name, node in graph.nodes.items()]
    arrows = graph.arrows()
    leaves = [name for name in graph.nodes if all(arrow.source != name for arrow in arrows)]
    if leaves or any(arrow.target == END for arrow in arrows):
        lines.append("    done((end))")
    for arrow in arrows:
        label = f"|{arrow.condition}|" if arrow.condition else ""
        lines.append(f"    {ids[arrow.source]} -->{label} {ids.get(arrow.target, 'done')}")
    lines += [f"    {ids[name]} --> done" for name in leaves]
    return "\n".join(lines) + "\n"


def _shape(name: str, node: NodeSpec) -> str:
    if node.do == "select":
        return f'{{"{name}: select"}}'
    if node.do is not None:
        return f'(["{name}: environment {node.do}"])'
    notes = [f"x{node.samples}"] if node.samples > 1 else []
    if node.pick != "all" or node.at_most is not None:
        notes.append(f"{node.pick} turns" + (f", at most {node.at_most}" if node.at_most is not None else ""))
    text = name if node.role == name else f"{name}: {node.role}"
    told = f" ({'; '.join(notes)})" if notes else ""
    return f'["{text}{told}"]'
