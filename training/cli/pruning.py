"""``prune``: let old runs, or only their tokens, go by rule; without ``--yes`` it only tells."""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, Db, reading, typed
from .output import console, print_json, table

if TYPE_CHECKING:
    from sparring.storage.store import Store

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def prune(
    keep: Annotated[int | None, typer.Option(help="How many of the newest runs stay as they are.", min=0)] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only what is older, such as 30d, 12h or 8w.")
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Drop only token ids, log-probs and per-token advantages; words stay.")
    ] = False,
    keep_tokens: Annotated[
        int | None,
        typer.Option(metavar="STEPS", help="--tokens: so many newest steps of a run keep theirs.", min=0),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this nothing is deleted.")] = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Delete old runs with their rows and checkpoints, or only tokens; tells what would go unless --yes is given."""
    if keep_tokens is not None and not tokens:
        raise typer.BadParameter("--keep-tokens goes with --tokens")
    if keep is None and older_than is None and keep_tokens is None:
        raise typer.BadParameter("give a rule: --keep N, --older-than 30d, or --tokens with --keep-tokens STEPS")
    before = "" if older_than is None else moment(older_than)
    rule = [f"--keep {keep}"] * (keep is not None) + [f"--older-than {older_than}"] * (older_than is not None)
    with closing(reading(db)) as store:
        if tokens:
            rule += ["--tokens"] + [f"--keep-tokens {keep_tokens}"] * (keep_tokens is not None)
            _tokens(store, keep or 0, keep_tokens or 0, before, yes, as_json, " ".join(rule))
        else:
            _runs(store, keep or 0, before, yes, as_json, " ".join(rule))


def moment(age: str) -> str:
    """The time stamp of so long ago. Raises ``typer.BadParameter``.

    >>> len(moment("30d"))
    20
    """
    found = re.fullmatch(r"([0-9]{1,5})([hdw])", age)
    if found is None:
        raise typer.BadParameter(f"--older-than {age!r}: write a number and h, d or w, such as 30d")
    then = datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
    return then.strftime("%Y-%m-%dT%H:%M:%SZ")


def _runs(store: Store, keep: int, before: str, yes: bool, as_json: bool, rule: str) -> None:
    from sparring.storage.pruning import judge, let_go

    verdicts = judge(store, keep, before)
    gone = [verdict.run.id for verdict in verdicts if not verdict.kept]
    folders = [folder for folder in (store.checkpoints / run for run in gone) if folder.is_dir()]
    freed = let_go(store, gone) if yes and gone else 0
    if yes:
        for folder in folders:
            shutil.rmtree(folder)
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
        typer.echo(f"nothing was deleted; this does it: {typed(store, f'prune {rule} --yes')}")


def _tokens(store: Store, keep: int, keep_steps: int, before: str, yes: bool, as_json: bool, rule: str) -> None:
    from sparring.storage.thinning import thin, weigh

    found = weigh(store, keep, keep_steps, before)
    chosen = [one for one in found if not one.kept]
    freed = thin(store, chosen) if yes and chosen else 0
    if as_json:
        thinned = {
            one.run.id: {"steps": len(one.steps), "episodes": one.episodes, "bytes": one.bytes} for one in chosen
        }
        kept = {one.run.id: one.kept for one in found if one.kept}
        print_json({"thinned": thinned, "kept": kept, "done": yes, "bytes": freed})
        return
    shown = table("run", "name", "steps", "episodes", "bytes", "", right=("steps", "episodes", "bytes"))
    for one in found:
        fate = f"keeps its tokens: {one.kept}" if one.kept else "tokens dropped" if yes else "would lose its tokens"
        numbers = (str(len(one.steps)), f"{one.episodes:,}", f"{one.bytes:,}")
        shown.add_row(one.run.id, one.run.name, *numbers, fate)
    console().print(shown, markup=False)
    episodes = sum(one.episodes for one in chosen)
    if chosen and yes:
        typer.echo(
            f"the tokens of {episodes:,} episodes are gone, {freed:,} bytes of the database; every word is there"
        )
    elif chosen:
        typer.echo("replay and offline training need the tokens; what is read, searched and shown does not")
        typer.echo(f"nothing was deleted; this does it: {typed(store, f'prune {rule} --yes')}")


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("prune")(prune)
