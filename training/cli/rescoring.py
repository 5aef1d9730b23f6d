"""``rescore``: what would a run's stored answers earn from another verifier, or by another rubric?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .options import AsJson, Db, Overrides, place, reading, typed
from .output import console, number, one_line, print_json, table
from .rescore_plan import Plan, Wanted, joined, planned, range_of
from .running import Unsafe
from .stopping import Stop, write

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sparring.storage.rescore_figures import Compared
    from sparring.storage.rescores import Rescore
    from sparring.storage.store import Store

ASKED = "stopping after the turns at hand, so that nothing is lost; once more stops at once"
Again = Literal["invalid", "missing"]


def rescore(
    run: Annotated[str, typer.Argument(help="A run's id such as r1, or latest. Alone: lists its scorings.")],
    verifier: Annotated[
        bool, typer.Option("--verifier", help="The scenario's environment judges the stored answers again.")
    ] = False,
    rubric: Annotated[
        Path | None, typer.Option("--rubric", metavar="FILE", help="Criteria from a file measure the stored answers.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="ROLE|URL#MODEL", help="Who answers criteria that no rule reads.")
    ] = None,
    overrides: Overrides = None,
    role: Annotated[list[str] | None, typer.Option(help="Only turns of this role; repeatable.")] = None,
    steps: Annotated[str | None, typer.Option(metavar="FIRST:LAST", help="Only these steps, both included.")] = None,
    against: Annotated[str | None, typer.Option(metavar="SCORE", help="The stored score to compare with.")] = None,
    join: Annotated[int | None, typer.Option(metavar="N", help="Take part in scoring N, or show it.", min=1)] = None,
    again: Annotated[Again | None, typer.Option(help="Score turns that ended so once more.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin anew although the same one is unfinished.")] = False,
    workers: Annotated[int, typer.Option(help="Answers judged side by side.", min=1, max=256)] = 2,
    limit: Annotated[int, typer.Option(help="Most changed episodes shown.", min=0)] = 5,
    unsafe: Unsafe = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Score a run's stored answers once more, by another verifier or rubric, and compare. Changes nothing stored."""
    if sum((verifier, rubric is not None, join is not None)) > 1:
        raise typer.BadParameter("--verifier, --rubric and --join exclude each other")
    if join is not None and (role or steps or against or judge or new):
        raise typer.BadParameter(f"--join {join}: it has its turns and its judge already; take out what chooses them")
    if rubric is None and judge is not None:
        raise typer.BadParameter("--judge answers the criteria of a --rubric")
    with closing(reading(db)) as store:
        name = place(store, run).run
        if not verifier and rubric is None and join is None:
            _list(store, name, as_json)
            return
        if join is not None:
            plan = joined(store, name, join, overrides or [], again is not None)
        else:
            wanted = Wanted(store, name, tuple(role or ()), range_of(steps), against)
            plan = planned(wanted, rubric, judge, overrides or [], None if new else again or "unfinished")
        if again is not None and plan.one is not None:
            _take_up(store, plan.one, again)
        one, code = _worked(plan, workers, unsafe, as_json)
        _print(store, one, limit, as_json)
    if code:
        raise typer.Exit(code)


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("rescore")(rescore)


def _take_up(store: Store, one: Rescore, again: Again) -> None:
    from sparring.envs.types import Validity
    from sparring.storage.rescores import take_up

    n = take_up(store, one, Validity(again))
    typer.echo(f"{n} turns that ended {again} are scored again", err=True)


def _worked(plan: Plan, workers: int, unsafe: bool, quiet: bool) -> tuple[Rescore, int]:
    """Score what waits; the scoring, and the exit code of a stop that was asked for, else 0."""
    if plan.one is not None and not (one := plan.begun()).waiting:
        return one, 0
    from sparring.training.rescoring import work

    plan = plan.with_room(workers)
    with plan.guarded(unsafe), closing(plan.scorer(workers, unsafe)) as scorer:
        one = plan.begun()
        if one.waiting < one.turns:
            typer.echo(f"scoring {one.number} of {one.run} goes on: {one.waiting} of {one.turns} turns wait", err=True)
        with _progress(one, quiet) as tell, Stop(lambda _: write(ASKED)) as stop:
            done = work(plan.store, one, scorer, stop.asked, tell)
    if done.lost:
        typer.echo(f"{done.lost} turns were scored by another process first; its scores count", err=True)
    return one, stop.exit_code if stop.asked() else 0


@contextmanager
def _progress(one: Rescore, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A line on a terminal that tells how far this process and the others are."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=quiet or not screen.is_terminal) as shown:
        bar = shown.add_task("scoring", total=one.turns, completed=one.turns - one.waiting)

        def tell(done: int, held: int) -> None:
            shown.update(bar, advance=done, description=f"waiting for {held} of others" if held else "scoring")

        yield tell


def _list(store: Store, run: str, as_json: bool) -> None:
    from sparring.storage.rescores import rescores

    found = rescores(store, run)
    if as_json:
        print_json(found)
        return
    if not found:
        begin = typed(store, f"rescore {run} --verifier")
        typer.echo(f"the answers of {run} were not scored once more yet; '{begin}' does, or --rubric FILE")
        return
    counts = ("turns", "waiting", "valued", "invalid", "missing")
    from rich.text import Text

    shown = table("scoring", "by", "name", "begun", *counts, right=("scoring", *counts))
    for one in found:
        numbers = (str(getattr(one, count)) for count in counts)
        shown.add_row(str(one.number), one.kind, Text(one_line(one.name)), one.made_at[:16].replace("T", " "), *numbers)
    console().print(shown)


def _print(store: Store, one: Rescore, limit: int, as_json: bool) -> None:
    from sparring.storage.rescore_figures import compared
    from sparring.storage.rescores import rescore

    found = compared(store, rescore(store, one.run, one.number), limit)
    if as_json:
        print_json(found)
        return
    screen = console()
    title = f"{one.run} scoring {one.number}: {one.kind} {one_line(one.name)}, beside the stored {found.against} score"
    screen.print(title, style="bold", markup=False)
    for part in _parts(store, found):
        screen.print(part, markup=False)


def _parts(store: Store, found: Compared) -> Iterator[RenderableType]:
    yield _figures(found)
    if found.most_changed:
        yield ""
        yield _episodes(found)
        yield f"look at one with: {typed(store, f'show {found.most_changed[0].episode}')}"
    for note, n in found.invalid:
        yield f"{n} could not be judged: {one_line(note, 120)}"
    one = found.rescore
    if one.invalid:
        yield f"try these again with: {typed(store, f'rescore {one.run} --join {one.number} --again invalid')}"
    for left in one.left_out:
        yield f"left out: {left['turns']} turns of {left['role']}: {left['why']}"
    if one.waiting:
        yield f"{one.waiting} turns wait; go on with: {typed(store, f'rescore {one.run} --join {one.number}')}"


def _figures(found: Compared) -> RenderableType:
    counts = ("turns", "stored", "now", "agree", "to right", "to wrong", "invalid", "missing")
    shown = table("role", *counts, right=counts)
    for row in (*found.roles, *([found.total] if len(found.roles) > 1 else [])):
        agree = "-" if row.agreement is None else f"{row.agreement:.1%}"
        new = row.mean if row.new is None else row.new  # nothing stored to compare with: the mean of all
        flips = (str(row.to_right), str(row.to_wrong), str(row.invalid), str(row.missing))
        shown.add_row(row.role or "all", str(row.turns), number(row.stored), number(new), agree, *flips)
    return shown


def _episodes(found: Compared) -> RenderableType:
    counts = ("turns", "stored", "now", "to right", "to wrong")
    shown = table("most changed", *counts, right=counts)
    for row in found.most_changed:
        flips = (str(row.to_right), str(row.to_wrong))
        shown.add_row(row.episode, str(row.compared), number(row.stored), number(row.new), *flips)
    return shown
