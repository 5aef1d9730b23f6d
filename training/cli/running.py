"""``run`` and ``resume``: learn from a scenario with a view of what happens, to the end or to a whole step."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparring.scenarios.errors import EngineError, StoreError

from .live import Progress, view
from .options import Db, Overrides, place, reading, typed
from .output import duration
from .reading import curve, scenario_of, seconds_of
from .stopping import Stop

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario
    from sparring.storage.records import CheckpointRow
    from sparring.training.session import Session


def run(
    file: Annotated[Path, typer.Argument(help="A scenario file, or the name of one that comes with Sparring.")],
    overrides: Overrides = None,
    db: Db = None,
) -> None:
    """Start a run of a scenario. Every word goes into the database; Ctrl-C stops after a whole step."""
    from sparring.scenarios.load import load
    from sparring.storage.store import Store

    scenario = load(file, overrides or ())
    with sandbox(scenario) as tier, closing(Store(db or scenario.store.url)) as store:
        hush()
        from sparring.training.session import start

        session = start(scenario, store, shlex.join(["sparring", *sys.argv[1:]]))
        _learn(session, tier)


def resume(
    run: Annotated[str, typer.Argument(help="A run's id such as r1, or latest.")],
    db: Db = None,
) -> None:
    """Go on with a stopped, failed or killed run from its newest whole step."""
    from sparring.scenarios.load import from_resolved

    with closing(reading(db)) as store:
        name = place(store, run).run
        status = store.run(name).status
        if status == "done":
            typer.echo(f"{name} is done, nothing is left to do. Look at it with: {typed(store, f'show {name}')}")
            return
        scenario = from_resolved(scenario_of(store, name))
        with sandbox(scenario) as tier:
            hush()
            from sparring.training import session as sessions

            point = store.resume_point(name, usable)
            try:
                session = sessions.resume(scenario, store, point)
            except BaseException:
                store.finish_run(name, "failed" if status == "failed" else "stopped")
                raise
            whole = "its beginning" if point.last_step is None else f"step {point.last_step}"
            typer.echo(f"{name} goes on from {whole}")
            _learn(session, tier)


def add_to(app: typer.Typer) -> None:
    """Put these commands on ``app``."""
    app.command("run")(run)
    app.command("resume")(resume)


def usable(saved: CheckpointRow) -> bool:
    """Whether a checkpoint's files are all there with the hashes they were written with."""
    from sparring.training.checkpoint import verify

    try:
        verify(Path(saved.path), saved.sha)
    except EngineError:
        return False
    return True


def hush() -> None:
    """Keep the model library's progress bars and advice off the screen; errors still show."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def sandbox(scenario: Scenario) -> Iterator[str | None]:
    """The isolation tier of an environment that runs programs, held open for the block; ``None`` for any other.

    Raises ``SandboxUnavailable`` before a run has a row.
    """
    from sparring.scenarios.registry import environments

    config: Any = getattr(environments.get(scenario.environment.kind), "Config", None)
    settings = config.model_validate(scenario.environment.options) if config is not None else None
    tier = getattr(settings, "sandbox", None)
    if tier is None or tier == "none":  # without a sandbox the environment itself asks for the second yes
        yield tier
        return
    from sparring.envs.code.sandbox import borrow, give_back

    held = borrow(tier, getattr(settings, "workers", 2))
    try:
        yield held.tier
    finally:
        give_back(held)


def _learn(session: Session, tier: str | None) -> None:
    """Learn under a view and a stop; always leaves the run with a true status, and with its exit code."""
    from sparring.training.loop import learn

    for line in banner(session, tier):
        typer.echo(line)
    store, name = session.store, session.run
    progress = Progress(
        session.scenario, f"{session.scenario.name} {name}", f"database {store.path}", store.evaluations(name)
    )
    with view(progress) as watch, Stop(watch.say) as stop:
        try:
            status = asyncio.run(learn(session, watch, stop.asked))
        except KeyboardInterrupt:
            status = "stopped"
        except BaseException:
            with contextlib.suppress(StoreError):  # the first error says more; on a full disk this one fails too
                store.finish_run(name, "failed")
            session.close()
            raise
        store.finish_run(name, status)
    for line in ending(session, status):
        typer.echo(line)
    session.close()
    if status == "stopped" and stop.exit_code:
        raise typer.Exit(stop.exit_code)


def banner(session: Session, tier: str | None) -> list[str]:
    """What runs, on what, into what."""
    scenario, model = session.scenario, session.policy.model
    size = sum(weight.numel() for weight in model.parameters())
    device = next(model.parameters()).device
    lines = [
        f"{scenario.name}, run {session.run}: {scenario.training.steps} steps of {scenario.rollout.episodes} episodes",
        f"  model     {scenario.policy.model}, {size:,} parameters, on {device}",
        f"  database  {session.store.path}",
    ]
    return lines if tier is None else [*lines, f"  sandbox   {tier}"]


def ending(session: Session, status: str) -> list[str]:
    """How it went, and what to type next."""
    store, name, last = session.store, session.run, max(0, session.last_step)
    measured = curve(store.evaluations(name))
    lines = [f"{name} is {status} after step {last} of {session.scenario.training.steps}"]
    if measured:
        first, newest = measured[0], measured[-1]
        lines.append(
            f"  held-out {newest.name} {first.value:.3f} -> {newest.value:.3f}"
            f" (steps {first.step} -> {newest.step}, {newest.n} tasks)"
        )
    worked = duration(seconds_of(store).get(name, 0.0))
    lines.append(f"  {worked} of work, weights {session.learner.weights_sha()[:16]}")
    if status == "stopped":
        return [*lines, f"go on with   {typed(store, f'resume {name}')}"]
    return [
        *lines,
        f"its best episode       {typed(store, f'show {name} --best')}",
        f"its worst episode      {typed(store, f'show {name} --worst')}",
        f"why the last step was  {typed(store, f'why {name}/{last}')}",
    ]
