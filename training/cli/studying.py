"""``train``: learn from the episodes a run stored, without an engine."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparring.scenarios.errors import RunNotFound

from .options import Db, Overrides, place, reading
from .reading import scenario_of
from .running import banner, going_on, hush, watched

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario
    from sparring.storage.store import Store
    from sparring.training.offline import Study


def train(
    file: Annotated[
        Path | None, typer.Argument(help="A scenario that says how to train; the stored run's own by default.")
    ] = None,
    source: Annotated[
        str, typer.Option("--from", metavar="RUN", help="The run whose episodes are learnt from: r1, or latest.")
    ] = "",
    offline: Annotated[bool, typer.Option("--offline", help="Train from the database; nothing is played.")] = False,
    overrides: Overrides = None,
    db: Db = None,
) -> None:
    """Train on what another run played, under any trainers and losses. Makes a run of its own."""
    from sparring.scenarios.load import from_resolved, load

    if not offline or not source:
        raise RunNotFound("say what to learn from: sparring train --offline --from r1; to play and train: sparring run")
    with closing(reading(db)) as store:
        name = place(store, source).run
        wanted = overrides or ()
        scenario = load(file, wanted) if file else from_resolved(scenario_of(store, name), overrides=wanted)
        hush()
        from sparring.training.offline import start

        _study(start(scenario, store, name, shlex.join(["sparring", *sys.argv[1:]])))


def go_on(scenario: Scenario, store: Store, name: str, source: str) -> None:
    """Resume such a run."""
    hush()
    from sparring.training.offline import resume

    _study(going_on(store, name, lambda point: resume(scenario, store, point, source)))


def _study(course: Study) -> None:
    from sparring.training.offline import study

    told = f"stored episodes of {course.source} ({len(course.stored)} steps hold some)"
    watched(course, banner(course, told), lambda watch, stop: study(course, watch, stop))


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("train")(train)
