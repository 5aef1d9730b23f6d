"""Commands that look and change nothing: ``check``, ``list``, ``graph``. None of them imports a model library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sparring.scenarios.docstrings import Told, told
from sparring.scenarios.errors import SparringError, UnknownPart
from sparring.scenarios.load import load
from sparring.scenarios.mermaid import mermaid
from sparring.scenarios.problems import dotted, unknown
from sparring.scenarios.registry import PARTS
from sparring.scenarios.schema import Scenario

from .options import AsJson
from .output import print_json

SHORT = {"stage": "group_stage"}  # what people say for it
EXPLAINED = ("loss", "advantage", "group_stage", "trainer", "objective")  # each is a formula somebody published

File = Annotated[Path, typer.Argument(help="A scenario file, or the name of one that comes with Sparring.")]
Set = Annotated[
    list[str] | None, typer.Option("-s", "--set", metavar="KEY=VALUE", help="Replace one value; repeatable.")
]


def check(file: File, overrides: Set = None, as_json: AsJson = False) -> None:
    """Check a scenario: keys, types, names, prompts, graph, task files. Creates nothing."""
    scenario = _load(file, overrides)
    if as_json:
        print_json({"digest": scenario.digest, "scenario": scenario.resolved()})
        return
    graph = scenario.graph_spec()
    source = scenario.task_source()
    typer.echo(f"{scenario.name}: no problems found (content {scenario.digest})")
    typer.echo(f"  roles: {', '.join(_told(scenario, name) for name in scenario.roles)}")
    shape = scenario.graph if isinstance(scenario.graph, str) else "its own"
    typer.echo(f"  graph: {shape}, {len(graph.nodes)} nodes; tasks from {source.kind if source else 'the graph'}")
    rollout = scenario.rollout
    typer.echo(f"  {scenario.training.steps} steps of {rollout.episodes} episodes from {rollout.picks} picks")
    _tell_training(scenario)


def list_parts(
    parts: Annotated[list[str] | None, typer.Argument(help="Kinds of parts; none lists the kinds.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the kinds of parts, or the parts of some kinds: a line each, formula and source where they teach."""
    if not (parts or as_json):
        for kind, registry in PARTS.items():
            typer.echo(f"{kind:12} {', '.join(registry.names())}")
        return
    found = _parts(parts or [])
    if as_json:
        print_json({kind: {name: _plain(kind, one) for name, one in of.items()} for kind, of in found.items()})
        return
    for kind, of in found.items():
        if len(found) > 1:
            typer.echo(f"{kind}:")
        for name, one in of.items():
            typer.echo(f"{name:28} {one.summary}".rstrip())
            for label, text in (("formula", one.formula), ("source", one.source)) if kind in EXPLAINED else ():
                typer.echo(f"{'':28} {label:8} {text or '-'}")


def graph(file: File, overrides: Set = None) -> None:
    """Print a scenario's graph as Mermaid text."""
    typer.echo(mermaid(_load(file, overrides).graph_spec()), nl=False)


def add_to(app: typer.Typer) -> None:
    """Put these commands on ``app``."""
    app.command("check")(check)
    app.command("list")(list_parts)
    app.command("graph")(graph)


def _load(file: Path, overrides: list[str] | None) -> Scenario:
    try:
        return load(file, overrides or ())
    except SparringError as error:
        _fail(error)


def _fail(error: SparringError) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(error.exit_code)


def _kind(part: str) -> str:
    kind = SHORT.get(part, part.replace("-", "_"))
    if kind not in PARTS:
        _fail(UnknownPart(unknown("kind of part", part, [*PARTS, *SHORT])))
    return kind


def _parts(parts: list[str]) -> dict[str, dict[str, Told]]:
    """By kind, what its parts' docstrings say; all kinds when none is named."""
    kinds = [_kind(part) for part in parts] or list(PARTS)
    return {kind: {name: _docstring(kind, name) for name in PARTS[kind].names()} for kind in kinds}


def _plain(kind: str, one: Told) -> str | dict[str, str]:
    return one._asdict() if kind in EXPLAINED else one.summary


def _tell_training(scenario: Scenario) -> None:
    training = scenario.training
    stages = f", stages {', '.join(stage.kind for stage in scenario.group.stages)}" if scenario.group.stages else ""
    named = f" (objective {training.objective})" if training.objective else ""
    typer.echo(f"  advantage {training.advantage.kind}, loss {training.loss.kind}{stages}{named}")
    if list(training.trainers) != ["rl"]:
        typer.echo(f"  trainers: {', '.join(training.trainers)}")
    if scenario.scheduled:
        typer.echo(f"  on a schedule: {', '.join(map(dotted, scenario.scheduled))}")


def _told(scenario: Scenario, name: str) -> str:
    return name if scenario.roles[name].trainable else f"{name} (not trained)"


def _docstring(kind: str, name: str) -> Told:
    """What a part says of itself; a part that cannot be imported says so instead of breaking the list."""
    try:
        return told(PARTS[kind].get(name))
    except Exception as error:  # a plug-in's module may raise anything
        return Told(f"(cannot be imported: {type(error).__name__}: {error})".splitlines()[0], "", "")
