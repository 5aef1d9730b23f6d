"""``run`` and ``resume``: learn from a scenario with a view of what happens, to the end or to a whole step."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sparring.scenarios.errors import EngineError, StoreError

from .live import Progress, view
from .options import Db, Overrides, place, reading, typed
from .output import duration
from .reading import curve, scenario_of, seconds_of
from .stopping import Stop, steady

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario
    from sparring.storage.records import CheckpointRow, ResumePoint
    from sparring.storage.store import Store
    from sparring.training.course import Course, Watch
    from sparring.training.session import Session

    Work = Callable[[Watch, Callable[[], bool]], str]

Built = TypeVar("Built")
ALARMED = 7  # exit code of a run that a health alarm ended

Unsafe = Annotated[
    bool,
    typer.Option(
        "--i-understand-model-code-runs-as-me",
        help="Allow sandbox: none, which runs what a model wrote with your own rights.",
    ),
]


def run(
    file: Annotated[Path, typer.Argument(help="A scenario file, or the name of one that comes with Sparring.")],
    overrides: Overrides = None,
    db: Db = None,
    trust: Annotated[
        bool, typer.Option("--trust-verifier", help="Train although cheap answers fool the verifier.")
    ] = False,
    unsafe: Unsafe = False,
) -> None:
    """Start a run of a scenario. Every word goes into the database; Ctrl-C stops after a whole step."""
    from sparring.scenarios.load import load
    from sparring.storage.store import Store

    scenario = load(file, overrides or ())
    with sandbox(scenario, unsafe) as tier, closing(Store(db or scenario.store.url)) as store:
        hush()
        from sparring.training.session import Allowed, start

        session = start(scenario, store, shlex.join(["sparring", *sys.argv[1:]]), Allowed(unsafe, trust))
        _learn(session, tier)


def resume(
    run: Annotated[str, typer.Argument(help="A run's id such as r1, or latest.")],
    db: Db = None,
    unsafe: Unsafe = False,
) -> None:
    """Go on with a stopped, failed or killed run from its newest whole step."""
    from sparring.scenarios.load import from_resolved

    with closing(reading(db)) as store:
        name = place(store, run).run
        status = store.run(name).status
        if status == "done":
            typer.echo(f"{name} is done, nothing is left to do. Look at it with: {typed(store, f'show {name}')}")
            return
        if store.run(name).info.get("recorded"):
            typer.echo(
                f"{name} was recorded by sparring serve and is whole as it is; learn from it with: "
                f"{typed(store, f'train SCENARIO --offline --from {name}')}"
            )
            return
        scenario = from_resolved(scenario_of(store, name))
        source = store.run(name).info.get("offline")
        if source is not None:
            from . import studying

            studying.go_on(scenario, store, name, str(source))
            return
        with sandbox(scenario, unsafe) as tier:
            hush()
            from sparring.training import session as sessions

            allowed = sessions.Allowed(unsafe)
            session = going_on(store, name, lambda point: sessions.resume(scenario, store, point, allowed))
            _learn(session, tier)


def going_on(store: Store, name: str, build: Callable[[ResumePoint], Built]) -> Built:
    """What ``build`` makes of the newest whole step of a run; the run keeps a true status when it fails."""
    status = store.run(name).status
    point = store.resume_point(name, usable)
    try:
        course = build(point)
    except BaseException:
        store.finish_run(name, "failed" if status == "failed" else "stopped")
        raise
    whole = "its beginning" if point.last_step is None else f"step {point.last_step}"
    typer.echo(f"{name} goes on from {whole}")
    return course


def add_to(app: typer.Typer) -> None:
    """Put these commands on ``app``."""
    app.command("run")(run)
    app.command("resume")(resume)


def usable(saved: CheckpointRow) -> bool:
    """Whether a checkpoint's files are all there with the hashes they were written with; if not, says which is not."""
    from sparring.training.checkpoint import verify

    try:
        verify(Path(saved.path), saved.sha)
    except EngineError as error:
        typer.echo(f"{error}; the checkpoint before it is tried", err=True)
        return False
    return True


def hush() -> None:
    """Keep the model library's progress bars and advice off the screen; errors still show."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def sandbox(scenario: Scenario, unsafe: bool = False) -> Iterator[str | None]:
    """The isolation tier of an environment that runs programs, held open for the block; ``None`` for any other.

    ``none`` needs the second yes, ``unsafe``. Raises ``SandboxUnavailable`` before a run has a row.
    """
    from sparring.scenarios.registry import environments, parted

    part = environments.get(scenario.environment.kind)
    config: Any = getattr(part, "Config", None)
    settings = config.model_validate(parted(part, scenario.environment.options)[0]) if config is not None else None
    tier = getattr(settings, "sandbox", None)
    if tier is None:
        yield None
        return
    from sparring.envs.code.sandbox import borrow, give_back

    held = borrow(tier, getattr(settings, "workers", 2), allow_unsafe=unsafe)
    try:
        yield held.tier
    finally:
        give_back(held)


def _learn(session: Session, tier: str | None) -> None:
    """Play and train, under a view."""
    from sparring.training.loop import learn

    told = f"{session.scenario.rollout.episodes} episodes"
    watched(session, banner(session, told, tier), lambda watch, stop: asyncio.run(learn(session, watch, stop)))


def watched(course: Course, lines: list[str], work: Work) -> None:
    """Do the work of a run under a view and a stop; always leaves it with a true status, and with its exit code."""
    with Stop() as stop, steady(stop.unheard):
        for line in lines:
            typer.echo(line)
        status = _worked(course, work, stop)
        for line in ending(course, status):
            typer.echo(line)
    course.close()
    if status == "stopped" and (stop.exit_code or course.health.stops):
        raise typer.Exit(stop.exit_code or ALARMED)


def _worked(course: Course, work: Work, stop: Stop) -> str:
    """Do the work under a view: ``done`` or ``stopped``, which the run's row then says too."""
    store, name = course.store, course.run
    title = f"{course.scenario.name} {name}"
    progress = Progress(course.scenario, title, f"database {store.name}", store.evaluations(name))
    with view(progress) as watch:
        stop.tell = store.readers.tell = watch.say
        try:
            status = work(watch, stop.asked)
        except KeyboardInterrupt:
            status = "stopped"
        except BaseException:
            with contextlib.suppress(StoreError):  # the first error says more; on a full disk this one fails too
                store.finish_run(name, "failed")
            course.close()
            raise
        store.finish_run(name, status)
    return status


def banner(course: Course, step: str, tier: str | None = None) -> list[str]:
    """What runs, on what, into what; ``step`` says what one step takes in."""
    scenario, model = course.scenario, course.policy.model
    size = sum(weight.numel() for weight in model.parameters())
    device = next(model.parameters()).device
    lines = [
        f"{scenario.name}, run {course.run}: {scenario.training.steps} steps of {step}",
        f"  model     {scenario.policy.model}, {size:,} parameters, on {device}",
        f"  database  {course.store.name}",
    ]
    notes = course.learner.model.notes()
    if engine := getattr(getattr(course, "engine", None), "note", ""):
        notes.append(engine)
    lines.append(f"  numbers   {'; '.join(notes)}")
    return lines if tier is None else [*lines, f"  sandbox   {tier}"]


def ending(course: Course, status: str) -> list[str]:
    """How it went, and what to type next."""
    store, name, last = course.store, course.run, max(0, course.last_step)
    measured = curve(store.evaluations(name))
    lines = [f"{name} is {status} after step {last} of {course.scenario.training.steps}"]
    if measured:
        first, newest = measured[0], measured[-1]
        lines.append(
            f"  held-out {newest.name} {first.value:.3f} -> {newest.value:.3f}"
            f" (steps {first.step} -> {newest.step}, {newest.n} tasks)"
        )
    worked = duration(seconds_of(store).get(name, 0.0))
    lines.append(f"  {worked} of work, weights {course.learner.weights_sha()[:16]}")
    if course.health.watch.alarms:
        lines.append(f"  health: {len(course.health.watch.alarms)} alarms are on: {typed(store, f'health {name}')}")
    if status == "stopped" and course.health.stops:
        lines.append("  stopped by an alarm that began (health.on_alarm: stop); resuming goes on beyond it")
    if status == "stopped":
        return [*lines, f"go on with   {typed(store, f'resume {name}')}"]
    return [
        *lines,
        f"its best episode       {typed(store, f'show {name} --best')}",
        f"its worst episode      {typed(store, f'show {name} --worst')}",
        f"why the last step was  {typed(store, f'why {name}/{last}')}",
    ]
