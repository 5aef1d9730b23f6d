"""``export`` and ``import``: a run as JSON lines, Parquet, a data set, a log, or an archive for another machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from sparring.scenarios.errors import EngineError, RunNotFound

from .options import DATABASE, AsJson, Db, place, reading, typed
from .output import print_json

if TYPE_CHECKING:
    from sparring.storage.store import Store


class Form(StrEnum):
    """What a run can become."""

    JSONL = "jsonl"
    PARQUET = "parquet"
    TRL = "trl"
    INSPECT = "inspect"
    ARCHIVE = "archive"


class Taken(StrEnum):
    """Which checkpoints an archive holds."""

    NEWEST = "newest"
    ALL = "all"
    NONE = "none"


class Made(NamedTuple):
    """What an export wrote, by name, and what a person should know."""

    figures: dict[str, Any]
    note: str = ""


ENDINGS = {
    Form.JSONL: ".jsonl",
    Form.PARQUET: "-parquet",
    Form.TRL: "-trl",
    Form.INSPECT: ".eval",
    Form.ARCHIVE: ".tar.gz",
}


def export(
    run: Annotated[str, typer.Argument(help="r1, or latest.")],
    to: Annotated[Form, typer.Option("--to", help="jsonl, parquet, trl, inspect or archive.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where it goes; r1.jsonl, r1-parquet, r1-trl, r1.eval or r1.tar.gz in this folder by default."
        ),
    ] = None,
    checkpoints: Annotated[Taken, typer.Option(help="archive: which checkpoints go along.")] = Taken.NEWEST,
    role: Annotated[str, typer.Option(help="trl: only turns of this role.")] = "",
    least: Annotated[
        list[str] | None,
        typer.Option(metavar="SCORE=VALUE", help="trl: only turns with this score at least so large; repeatable."),
    ] = None,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Write a run for other programs: every word (jsonl), the views (parquet), a data set, a log, an archive."""
    from sparring.storage.exporting.target import size
    from sparring.storage.thinning import dropped_on

    if (role or least) and to is not Form.TRL:
        raise typer.BadParameter("--role and --least choose turns, for --to trl; other forms hold the whole run")
    began = time.perf_counter()
    with closing(reading(db)) as store:
        where = place(store, run)
        if where.step is not None:
            raise RunNotFound(f"{run!r} is a part of a run; a whole run is exported: {where.run}")
        target = out or Path(f"{where.run}{ENDINGS[to]}")
        if to is Form.ARCHIVE:
            made = _archive(store, where.run, target, checkpoints)
        else:
            made = _written(to, role, dict(map(_least, least or ())))(store, where.run, target)
        if (moment := dropped_on(store, where.run)) is not None:
            lost = "their turns are left out" if to is Form.TRL else "they are absent here, words are not"
            lost = f"tokens of some episodes were dropped on {moment[:10]}: {lost}"
            made = made._replace(note=f"{made.note}\n{lost}".strip())
    seconds, weight = time.perf_counter() - began, size(target)
    if as_json:
        print_json({"path": str(target), "bytes": weight, "seconds": round(seconds, 3), **made.figures})
        return
    told = ", ".join(f"{value:,} {name}" for name, value in made.figures.items() if isinstance(value, int))
    typer.echo(f"{target}: {told}, {weight:,} bytes, {seconds:.1f} s")
    if made.note:
        typer.echo(made.note, err=True)


def _written(to: Form, role: str, least: dict[str, float]) -> Callable[[Store, str, Path], Made]:
    if to is Form.JSONL:
        from sparring.storage.exporting.jsonl import write_jsonl

        return lambda store, run, out: Made({"episodes": write_jsonl(store, run, out)})
    if to is Form.INSPECT:
        from sparring.storage.exporting.inspect_log import write_inspect

        return lambda store, run, out: Made({"samples": write_inspect(store, run, out)})
    if to is Form.TRL:
        from sparring.storage.exporting.trl import Wanted, write_trl

        return lambda store, run, out: Made({"turns": write_trl(store, run, out, Wanted(role, least))})
    from sparring.storage.exporting.parquet import write_parquet

    return lambda store, run, out: _tables(write_parquet(store, run, out))


def _least(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise typer.BadParameter(f"--least is written SCORE=VALUE, as in consistency=1; found {text!r}") from None


def _tables(counts: dict[str, int]) -> Made:
    return Made({"tables": len(counts), "rows": sum(counts.values()), "rows_of": counts})


def _archive(store: Store, run: str, out: Path, wanted: Taken) -> Made:
    """Only checkpoints that are whole go along."""
    from sparring.storage.exporting.archive import checkpoints_of, pack
    from sparring.training.checkpoint import verify

    found: dict[int, Path] = {}
    for step, (folder, sha) in {} if wanted is Taken.NONE else checkpoints_of(store, run).items():
        try:
            verify(folder, sha)
        except EngineError:
            continue
        found[step] = folder
        if wanted is Taken.NEWEST:
            break
    archive = pack(store, run, out, found)
    note = "" if found else "no checkpoint went along: the run can be read there, not resumed"
    figures = {"runs": len(archive.runs), "checkpoints": len(found), "hash": archive.runs[run]}
    return Made({**figures, "steps": sorted(found)}, note)


def import_(
    archive: Annotated[Path, typer.Argument(help="A folder or .tar.gz that `sparring export --to archive` wrote.")],
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Take the run of an archive into this database, under a new number, with every hash checked."""
    from sparring.storage.exporting.archive import checkpoints_of, unpack
    from sparring.storage.store import Store

    with closing(Store(db or DATABASE)) as store:
        names = unpack(store, archive)
        run = list(names.values())[-1]
        whole = [step for step, (folder, _) in checkpoints_of(store, run).items() if folder.is_dir()]
        if as_json:
            print_json({"run": run, "runs": names, "checkpoints": sorted(whole)})
            return
        for old, new in names.items():
            typer.echo(f"{new}: {store.run(new).name} ({old} in the archive), every hash is right")
        further = f"resume {run}" if whole else f"show {run}"
        typer.echo(f"next: {typed(store, further)}")


def add_to(app: typer.Typer) -> None:
    """Put these commands on ``app``."""
    app.command("export")(export)
    app.command("import")(import_)
