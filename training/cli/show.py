"""``runs`` and ``show``: what is in the database, from a table of runs down to one conversation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparring.scenarios.errors import RunNotFound

from . import reading as rows_of
from .options import AsJson, Db, Place, place, reading, typed
from .output import console, duration, number, one_line, print_json, sparkline, table, visible
from .subjects import show_rubrics, show_task, show_tasks

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sparring.storage.queries import Order, StepSummary
    from sparring.storage.records import RunRow
    from sparring.storage.store import Store


def list_runs(as_json: AsJson = False, db: Db = None) -> None:
    """List every run: its status, how far it came, and its held-out accuracy from first to last."""
    from sparring.storage.alarms import alarms_ever, alarms_on
    from sparring.storage.queries import runs

    with closing(reading(db)) as store:
        worked = rows_of.seconds_of(store)
        on, ever = alarms_on(store), alarms_ever(store)
        found = [
            _run_row(store, row, worked.get(row.id, 0.0), (on.get(row.id, 0), ever.get(row.id, 0)))
            for row in runs(store)
        ]
    if as_json:
        print_json(found)
        return
    columns = ("run", "name", "status", "seed", "step", "accuracy", "alarms", "started", "minutes")
    shown = table(*columns, right=("seed", "minutes"))
    for row in found:
        first, last = row["accuracy_first"], row["accuracy_last"]
        change = "-" if first is None else f"{first:.3f} -> {last:.3f}"
        step = "-" if row["last_step"] is None else f"{row['last_step']}/{row['steps']}"
        started = row["started_at"][:16].replace("T", " ")
        cells = (row["id"], row["name"], row["status"], str(row["seed"]), step, change, _alarms(row), started)
        shown.add_row(*cells, f"{row['minutes']:.1f}")
    console().print(shown)


def show(
    what: Annotated[
        str, typer.Argument(help="r1 (a run), r1/12 (a step), r1/12/3 (an episode); without r1 the newest run.")
    ] = "latest",
    best: Annotated[bool, typer.Option("--best", help="The episode with the highest mean reward.")] = False,
    worst: Annotated[bool, typer.Option("--worst", help="The episode with the lowest mean reward.")] = False,
    newest: Annotated[bool, typer.Option("--latest", help="The newest episode.")] = False,
    tasks: Annotated[bool, typer.Option("--tasks", help="The tasks of a run.")] = False,
    task: Annotated[str | None, typer.Option("--task", metavar="KEY", help="One task, by how its key begins.")] = None,
    rubrics: Annotated[bool, typer.Option("--rubrics", help="The rubrics of a run, or of an episode.")] = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Show a run, a step, an episode as a conversation, a task or a rubric."""
    if best + worst + newest + tasks + (task is not None) + rubrics > 1:
        raise typer.BadParameter("--best, --worst, --latest, --tasks, --task and --rubrics exclude each other")
    with closing(reading(db)) as store:
        at = place(store, what)
        if tasks or task is not None:
            show_tasks(store, at.run, as_json) if task is None else show_task(store, at.run, task, as_json)
            return
        if rubrics:
            show_rubrics(store, at, as_json)
            return
        if best or worst or newest:
            at = _chosen(store, at, "best" if best else "worst" if worst else "latest")
        if at.episode is not None:
            _show_episode(store, at, as_json)
        elif at.step is not None:
            _show_step(store, at, as_json)
        else:
            _show_run(store, at.run, as_json)


def add_to(app: typer.Typer) -> None:
    """Put these commands on ``app``."""
    app.command("runs")(list_runs)
    app.command("show")(show)


def _chosen(store: Store, at: Place, order: Order) -> Place:
    from sparring.storage.queries import episode_number, episodes

    found = episodes(store, at.run, order, at.step, limit=1)
    if not found:
        raise RunNotFound(f"{at.run} has no episode yet: `{typed(store, 'runs')}` tells how far each run came")
    _, step, episode = episode_number(found[0].episode)
    return Place(at.run, step, episode)


def _run_row(store: Store, row: RunRow, seconds: float, alarms: tuple[int, int]) -> dict[str, Any]:
    measured = rows_of.curve(store.evaluations(row.id), rows_of.MAIN)
    return {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "seed": row.seed,
        "last_step": row.last_step,
        "steps": rows_of.scenario_of(store, row.id).get("training", {}).get("steps", row.last_step),
        "accuracy_first": measured[0].value if measured else None,
        "accuracy_last": measured[-1].value if measured else None,
        "alarms_on": alarms[0],
        "alarms_ever": alarms[1],
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "minutes": seconds / 60,
    }


def _alarms(row: dict[str, Any]) -> str:
    """How many health alarms are on, or were; nothing for none."""
    on, ever = row["alarms_on"], row["alarms_ever"]
    return f"{on} on" if on else f"{ever} over" if ever else "-"


def _show_run(store: Store, run: str, as_json: bool) -> None:
    from sparring.storage.alarms import alarms
    from sparring.storage.rescores import rescores

    row = store.run(run)
    spans = alarms(store, run)
    counts = (sum(span.ended is None for span in spans), len({span.name for span in spans}))
    summary = _run_row(store, row, rows_of.seconds_of(store).get(run, 0.0), counts)
    measured, arms = store.evaluations(run), rows_of.curriculum(store, run)
    refused, invalid = rows_of.refused(store, run), rows_of.invalid(store, run)
    if as_json:
        print_json(
            {
                **summary,
                "info": row.info,
                "evaluations": measured,
                "curriculum": arms,
                "refused": refused,
                "invalid": invalid,
                "rescores": rescores(store, run),
            }
        )
        return
    screen = console()
    screen.print(f"{run} {row.name}: {row.status}, seed {row.seed}", style="bold", markup=False)
    screen.print("  " + ", ".join(_facts(row, summary)), markup=False)
    if spans:
        screen.print(f"  health alarms {_alarms(summary)}: {typed(store, f'health {run}')}", style="bold", markup=False)
    if again := rescores(store, run):
        screen.print(f"  scored once more {len(again)} times: {typed(store, f'rescore {run}')}", markup=False)
    for part in _run_tables(store, run, arms, refused, invalid):
        screen.print()
        screen.print(part)


def _facts(row: RunRow, summary: dict[str, Any]) -> list[str]:
    whole = "no whole step yet" if row.last_step is None else f"step {row.last_step} of {summary['steps']}"
    command = row.info.get("command")
    facts = [whole, duration(60 * summary["minutes"]), f"started {row.started_at[:16]}"]
    return [*facts, visible(str(command))] if command else facts


def _run_tables(
    store: Store, run: str, arms: list[Any], refused: list[Any], invalid: list[Any]
) -> Iterator[RenderableType]:
    measured = store.evaluations(run)
    names = list(dict.fromkeys(row.name for row in measured if not row.parameters))
    if names:
        shown = table("held-out", "first", "last", "tasks", "curve", right=("first", "last", "tasks"))
        for name in names:
            points = rows_of.curve(measured, name)
            line = sparkline([row.value for row in points])
            shown.add_row(name, f"{points[0].value:.3f}", f"{points[-1].value:.3f}", str(points[-1].n), line)
        newest = [row for row in measured if row.step == measured[-1].step]
        for arm, value in rows_of.by_arm(newest, names[0]).items():
            shown.add_row(f"  {names[0]} {arm}", "", f"{value:.3f}")
        yield shown
    if arms:
        shown = table("arm", "episodes", "first quarter", "last quarter", "reward", right=("episodes", "reward"))
        for arm in arms:
            counts = (str(arm["episodes"]), str(arm["first"]), str(arm["last"]))
            shown.add_row(str(arm["arm"]), *counts, number(arm["reward"]))
        yield shown
    for title, rows, key in (("refused proposals", refused, "reason"), ("unusable scores", invalid, "cause")):
        if rows:
            shown = table(title, "n", right=("n",))
            for row in rows[:12]:
                shown.add_row(one_line(str(row[key]), 100), str(row["n"]))
            yield shown


def _show_step(store: Store, at: Place, as_json: bool) -> None:
    from sparring.storage.queries import episodes, steps

    found = steps(store, at.run, at.step)
    if not found:
        last = store.run(at.run).last_step
        raise RunNotFound(
            f"run {at.run} has no step {at.step}; its last is {last}: '{typed(store, f'show {at.run}')}' shows the run"
        )
    step, played = found[0], episodes(store, at.run, "best", at.step, limit=10_000)
    measured = [row for row in store.evaluations(at.run) if row.step == at.step]
    if as_json:
        print_json({"step": step, "episodes": played, "evaluations": measured})
        return
    screen = console()
    screen.print(_step_title(step), style="bold", markup=False)
    shown = table("figure", "value", right=("value",))
    for row in measured:
        shown.add_row(" ".join([f"held-out {row.name}", *map(str, row.parameters.values())]), f"{row.value:.3f}")
    for name, value in step.metrics.items():
        shown.add_row(name, number(value))
    screen.print(shown)
    listed = table("episode", "arm", "ending", "reward", "turns", "tokens", "task", right=("reward", "turns", "tokens"))
    for one in played:
        cells = (one.episode, one.arm, one.ending, number(one.reward), str(one.turns), str(one.tokens or 0))
        listed.add_row(*cells, one_line(one.task or one.error, 70))
    screen.print()
    screen.print(listed)


def _step_title(step: StepSummary) -> str:
    kept = f"{step.groups_kept} of {step.groups} groups kept"
    played = f"{step.episodes} episodes, {step.turns} turns, {step.tokens:,} tokens"
    if step.borrowed:
        played = f"{step.borrowed} episodes of an earlier run"
    return f"{step.run}/{step.step}: {played}, {kept}" + (f", trained by {step.trainers}" if step.trainers else "")


def _show_episode(store: Store, at: Place, as_json: bool) -> None:
    from sparring.storage.queries import episode
    from sparring.storage.thinning import dropped_on

    assert at.step is not None and at.episode is not None
    name = f"{at.run}/{at.step}/{at.episode}"
    found = episode(store, at.run, name)
    credits = rows_of.credits_of(store, at.run, at.step, at.episode)
    thinned = dropped_on(store, at.run, at.step, at.episode)
    if as_json:
        print_json({"episode": name, **_fields(found), "advantages": credits, "thinned": thinned})
        return
    from .conversation import conversation

    console().print(conversation(name, found, credits))
    if thinned is not None:
        typer.echo(f"its tokens were dropped on {thinned[:10]}; every word is there")


def _fields(found: Any) -> dict[str, Any]:
    import dataclasses

    return {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
