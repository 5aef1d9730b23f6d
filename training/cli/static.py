"""Commands that look and change nothing: ``check``, ``list``, ``graph``. None of them imports a model library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sparring.scenarios.errors import SparringError, UnknownPart
from sparring.scenarios.load import load
from sparring.scenarios.mermaid import mermaid
from sparring.scenarios.problems import unknown
from sparring.scenarios.registry import PARTS
from sparring.scenarios.schema import Scenario

from .options import AsJson
from .output import print_json

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


def list_parts(
    part: Annotated[str | None, typer.Argument(help="A kind of part; none lists the kinds.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the kinds of parts, or the parts of one kind with a line each."""
    if as_json:
        print_json(_parts(part))
        return
    if part is None:
        for kind, registry in PARTS.items():
            typer.echo(f"{kind:12} {', '.join(registry.names())}")
        return
    for name, summary in _parts(part)[_kind(part)].items():
        typer.echo(f"{name:28} {summary}".rstrip())


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
    kind = part.replace("-", "_")
    if kind not in PARTS:
        _fail(UnknownPart(unknown("kind of part", part, PARTS)))
    return kind


def _parts(part: str | None) -> dict[str, dict[str, str]]:
    """By kind: each part's name and summary."""
    kinds = list(PARTS) if part is None else [_kind(part)]
    return {kind: {name: _summary(kind, name) for name in PARTS[kind].names()} for kind in kinds}


def _told(scenario: Scenario, name: str) -> str:
    return name if scenario.roles[name].trainable else f"{name} (not trained)"


def _summary(kind: str, name: str) -> str:
    """A part's first docstring line; a part that cannot be imported says so instead of breaking the list."""
    try:
        return PARTS[kind].summary(name)
    except Exception as error:  # a plug-in's module may raise anything
        return f"(cannot be imported: {type(error).__name__}: {error})".splitlines()[0]
