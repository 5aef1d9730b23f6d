"""The command line. Each command is a module here; nothing heavy is imported before a command that needs it runs."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import sparring
from sparring.scenarios.errors import SparringError
from sparring.training.ranks import launched

INTERRUPTED = 130
FAMILIES = {  # module: its commands, in the order of `sparring --help`
    "running": ("run", "resume"),
    "studying": ("train",),
    "serving": ("serve",),
    "static": ("check", "new", "list", "graph"),
    "recipes": ("recipes",),
    "show": ("runs", "show"),
    "why": ("why",),
    "watching": ("watch", "tail"),
    "health": ("health",),
    "inspecting": ("ui",),
    "comparing": ("compare",),
    "differing": ("diff",),
    "replaying": ("replay",),
    "rescoring": ("rescore",),
    "measuring": ("eval",),
    "sql": ("sql",),
    "exporting": ("export", "import"),
    "pruning": ("prune",),
    "verifying": ("verify", "salvage"),
    "indexing": ("index",),
    "doctor": ("doctor",),
    "pretraining": ("pretrain",),
}
HOMES = {name: module for module, names in FAMILIES.items() for name in names}


class Commands(TyperGroup):
    """Commands whose modules are imported when they are asked for, and the border.

    There an error raised on purpose becomes one message and its exit code, an interrupt becomes 130.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command."""
        return list(HOMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name, ``None`` where there is none."""
        if cmd_name not in self.commands and cmd_name in HOMES:
            family = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            importlib.import_module(f".{HOMES[cmd_name]}", __name__).add_to(family)
            self.commands.update(typer.main.get_group(family).commands)
        return super().get_command(ctx, cmd_name)

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
