"""Commands that look and change nothing: ``list``, ``graph``, and ``check``. None of them imports a model library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sparring.scenarios.docstrings import Told, told
from sparring.scenarios.errors import SparringError, UnknownPart
from sparring.scenarios.load import load
from sparring.scenarios.mermaid import mermaid
from sparring.scenarios.problems import unknown
from sparring.scenarios.registry import PARTS
from sparring.scenarios.schema import Scenario

from . import checking, scaffold
from .options import AsJson
from .output import print_json

SHORT = {"stage": "group_stage"}  # what people say for it
EXPLAINED = ("loss", "advantage", "group_stage", "trainer", "objective")  # each is a formula somebody published

File = Annotated[Path, typer.Argument(help="A scenario file, or the name of one that comes with Sparring.")]
Set = Annotated[
    list[str] | None, typer.Option("-s", "--set", metavar="KEY=VALUE", help="Replace one value; repeatable.")
]


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
    checking.add_to(app)
    scaffold.add_to(app)
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


def _docstring(kind: str, name: str) -> Told:
    """What a part says of itself; a part that cannot be imported says so instead of breaking the list."""
    try:
        return told(PARTS[kind].get(name))
    except Exception as error:  # a plug-in's module may raise anything
        return Told(f"(cannot be imported: {type(error).__name__}: {error})".splitlines()[0], "", "")
