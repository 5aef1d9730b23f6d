"""The command line. Each command is a module here; nothing heavy is imported before a command that needs it runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import sparring
from sparring.scenarios.errors import SparringError
from sparring.training.ranks import launched

from . import (
    comparing,
    differing,
    doctor,
    exporting,
    health,
    indexing,
    inspecting,
    measuring,
    pretraining,
    pruning,
    replaying,
    rescoring,
    running,
    serving,
    show,
    sql,
    static,
    studying,
    verifying,
    watching,
    why,
)

INTERRUPTED = 130


class Commands(TyperGroup):
    """The border: an error raised on purpose becomes one message and its exit code, an interrupt becomes 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SparringError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train one language model by letting it play teacher, solver, critic and rubric-writer against itself.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sparring {sparring.__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options before any command."""


FAMILIES = (
    running,
    studying,
    serving,
    static,
    show,
    why,
    watching,
    health,
    inspecting,
    comparing,
    differing,
    replaying,
    rescoring,
    measuring,
    sql,
    exporting,
    pruning,
    verifying,
    indexing,
    doctor,
)
for family in (*FAMILIES, pretraining):
    family.add_to(app)


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a sign must not end a run
            stream.reconfigure(errors="replace")
    if launched():
        from .several import take_part

        take_part(app)
    else:
        app()
