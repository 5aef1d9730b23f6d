"""``prune``: let old runs go by rule, with their rows and checkpoints; without ``--yes`` it only tells."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import Annotated

import typer

from .options import AsJson, Db, reading, typed
from .output import console, print_json, table


def prune(
    keep: Annotated[int, typer.Option(help="How many of the newest runs stay.", min=0)],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this nothing is deleted.")] = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Delete all runs but the newest, their rows and checkpoints; tells what would go unless --yes is given."""
    from sparring.storage.pruning import judge, let_go

    with closing(reading(db)) as store:
        verdicts = judge(store, keep)
        gone = [verdict.run.id for verdict in verdicts if not verdict.kept]
        folders = [folder for folder in (store.checkpoints / run for run in gone) if folder.is_dir()]
        freed = let_go(store, gone) if yes and gone else 0
        if yes:
            for folder in folders:
                shutil.rmtree(folder)
        hint = typed(store, f"prune --keep {keep} --yes")
    if as_json:
        print_json({"gone": gone, "kept": {v.run.id: v.kept for v in verdicts if v.kept}, "done": yes, "bytes": freed})
        return
    shown = table("run", "name", "started", "steps", "", right=("steps",))
    for verdict in verdicts:
        fate = f"stays: {verdict.kept}" if verdict.kept else "deleted" if yes else "would go"
        shown.add_row(verdict.run.id, verdict.run.name, verdict.run.started_at, str(verdict.steps), fate)
    console().print(shown, markup=False)
    if gone and yes:
        typer.echo(f"{len(gone)} runs, {len(folders)} checkpoint folders and {freed:,} bytes of the database are gone")
    elif gone:
        typer.echo(f"nothing was deleted; this does it: {hint}")


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("prune")(prune)
