"""``verify``: whether a database still holds what was saved. ``salvage``: what is whole of a damaged one, elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparring.scenarios.errors import EngineError

from .options import DATABASE, AsJson, Db
from .output import console, print_json, table, visible

if TYPE_CHECKING:
    from sparring.storage.damage import Verified
    from sparring.storage.records import CheckpointRow
    from sparring.storage.salvaging import SavedRun

DAMAGED = 1
_SHOWN = 200  # findings on the screen; --json has all


def verify(
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="r1 or latest; every run by default.")] = "",
    checkpoints: Annotated[bool, typer.Option(help="Hash the checkpoints' files too.")] = True,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Compare every episode and step with its hash, and check the file and the checkpoints; exit code 1 on damage."""
    from sparring.storage.verifying import verify_at

    found = verify_at(db or DATABASE, run, _wrong if checkpoints else None, _progress)
    _progress("", 0, 0)
    if as_json:
        print_json({"ok": not found.findings, **_counts(found), "findings": found.findings})
    else:
        _tell(found)
    if found.findings:
        raise typer.Exit(DAMAGED)


def salvage(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="The damaged database; it is only read.")],
    to: Annotated[Path, typer.Option("--to", metavar="NEW.db", help="A new database.")],
    as_json: AsJson = False,
) -> None:
    """Copy every run, step and episode that is still what was saved from a damaged database into a new one."""
    from sparring.storage.salvaging import salvage as copy_whole

    runs = copy_whole(source, to, lambda done, total: _progress("salvage", done, total))
    _progress("", 0, 0)
    if as_json:
        print_json({"database": str(to), "runs": runs})
        return
    for run in runs:
        typer.echo(_kept(run))
        for finding in run.lost[:_SHOWN]:
            typer.echo(f"  lost: {visible(finding.where)}: {visible(finding.what)}")
        if len(run.lost) > _SHOWN:
            typer.echo(f"  and {len(run.lost) - _SHOWN} more; --json lists all")
    typer.echo(f"{to} holds what is whole; scores given once more by `sparring rescore` are not copied")


def _kept(run: SavedRun) -> str:
    """What became of a run, in a sentence or two."""
    words = f"{run.run} {visible(run.name)}: {run.steps} steps with {run.episodes} episodes"
    if run.cut is not None:
        words += f", up to its first damaged step {run.cut}"
        if run.rest:
            words += f"; {run.rest} holds {run.rest_episodes} whole episodes from there on, for reading"
    if run.resumable is not None:
        return f"{words}; its newest checkpoint is of step {run.resumable}"
    return f"{words}; no checkpoint of it can be resumed from"


def _wrong(saved: CheckpointRow) -> str:
    """What is wrong with a checkpoint's files; nothing: an empty text."""
    from sparring.training.checkpoint import verify as check

    try:
        check(Path(saved.path), saved.sha)
    except EngineError as error:
        return str(error)
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"checkpoint {saved.path} cannot be read: {error}"
    return ""


def _progress(run: str, done: int, total: int) -> None:
    """One line on a terminal's standard error, wiped at the end."""
    if sys.stderr.isatty():
        words = f"{run}: {done} of {total} steps" if run else ""
        print(f"\r{words:<40}\r", end="", file=sys.stderr, flush=True)


def _counts(found: Verified) -> dict[str, int]:
    return {
        "runs": found.runs,
        "steps": found.steps,
        "episodes": found.episodes,
        "checkpoints": found.checkpoints,
        "without_hash": found.uncovered,
        "thinned": found.thinned,
    }


def _tell(found: Verified) -> None:
    counts = _counts(found)
    if found.findings:
        shown = table("where", "what", "what to do")
        last = ""
        for finding in found.findings[:_SHOWN]:
            advice, last = ("" if finding.advice == last else finding.advice), finding.advice
            shown.add_row(visible(finding.where), visible(finding.what), visible(advice))
        console().print(shown, markup=False)
        if len(found.findings) > _SHOWN:
            typer.echo(f"and {len(found.findings) - _SHOWN} more; --json lists all")
    state = "damaged" if found.findings else "whole"
    typer.echo(
        f"{found.name} is {state}: {counts['runs']} runs, {counts['steps']} steps, {counts['episodes']} episodes and "
        f"{counts['checkpoints']} checkpoints looked at, {len(found.findings)} findings"
    )
    if found.uncovered:
        typer.echo(f"not covered: {found.uncovered} steps that an older Sparring saved without a hash (episodes are)")
    if found.thinned:
        typer.echo(f"{found.thinned} episodes had their tokens dropped; what stayed of them was looked at")


def add_to(app: typer.Typer) -> None:
    """Put these commands on ``app``."""
    app.command("verify")(verify)
    app.command("salvage")(salvage)
