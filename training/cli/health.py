"""``health``: how a run is, figure by figure, which alarms it had, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AsJson, Db, place, reading, typed
from .output import console, number, print_json, sparkline, table
from .reading import scenario_of

if TYPE_CHECKING:
    from sparring.scenarios.health_spec import HealthSpec, LimitSpec
    from sparring.storage.alarms import AlarmSpan
    from sparring.storage.answers import WholeStep
    from sparring.storage.store import Store

Run = Annotated[str, typer.Argument(help="A run: r1; without it the newest.")]


@dataclass(frozen=True)
class Vital:
    """One figure of a run over its steps; ``alarm`` is the one that is on now."""

    name: str
    family: str
    says: str
    steps: list[int]
    values: list[float]
    below: float | None
    above: float | None
    alarm: AlarmSpan | None


@dataclass(frozen=True)
class Watched:
    """A figure that the run's recipe watches, over the run's steps; nothing in ``values``: no step has it."""

    name: str
    says: str
    first: float | None
    last: float | None
    least: float | None
    most: float | None
    values: list[float]
    alarm: AlarmSpan | None


def health(run: Run = "latest", as_json: AsJson = False, db: Db = None) -> None:
    """Tell how a run is: figures with their limits and history, alarms with what to look at next."""
    from sparring.storage.alarms import alarms
    from sparring.storage.answers import steps_after

    with closing(reading(db)) as store:
        name = place(store, run).run
        spans = alarms(store, name)
        steps = steps_after(store, name, -1)
        vitals = _vitals(steps, spans, _spec(store, name))
        mechanism = _watched(steps, spans, scenario_of(store, name).get("recipe"))
        if as_json:
            on = sum(span.ended is None for span in spans)
            print_json({"run": name, "on": on, "alarms": spans, "figures": vitals, "mechanism": mechanism})
            return
        _print(store, name, vitals, spans)
        _print_mechanism(mechanism)


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("health")(health)


def _spec(store: Store, run: str) -> HealthSpec:
    from sparring.scenarios.health_spec import HealthSpec

    return HealthSpec.model_validate(scenario_of(store, run).get("health") or {})


def _vitals(steps: Sequence[WholeStep], spans: Sequence[AlarmSpan], spec: HealthSpec) -> list[Vital]:
    """Every figure any step has, by family and name."""
    from sparring.training.health.figures import PREFIX
    from sparring.training.health.meanings import MEANINGS, meaning

    points: dict[str, list[tuple[int, float]]] = {}
    for step in steps:
        for key, value in step.metrics.items():
            if key.startswith(PREFIX) and value is not None:
                points.setdefault(key.removeprefix(PREFIX), []).append((step.step, value))
    on = {span.name: span for span in spans if span.ended is None}
    order = list(MEANINGS)
    found = []
    for name in sorted(points, key=lambda name: (order.index(name.partition("/")[0]), name)):
        limit: LimitSpec | None = spec.limit(name)
        found.append(
            Vital(
                name, meaning(name).family, meaning(name).says,
                [step for step, _ in points[name]], [value for _, value in points[name]],
                limit.below if limit else None, limit.above if limit else None, on.get(name),
            )
        )  # fmt: skip
    return found


def _watched(steps: Sequence[WholeStep], spans: Sequence[AlarmSpan], recipe: Mapping[str, Any] | None) -> list[Watched]:
    """What the scenario's recipe says is to be watched, each with what it was."""
    from sparring.scenarios.health_spec import STEP

    on = {span.name: span for span in spans if span.ended is None}
    found = []
    for name, says in ((recipe or {}).get("watch") or {}).items():
        values = [value for step in steps if (value := step.metrics.get(name)) is not None]
        first, last = (values[0], values[-1]) if values else (None, None)
        alarm = on.get(f"{STEP}{name}")
        found.append(
            Watched(name, says, first, last, min(values, default=None), max(values, default=None), values, alarm)
        )
    return found


def _print_mechanism(mechanism: Sequence[Watched]) -> None:
    if not mechanism:
        return
    columns = ("first", "last", "min", "max")
    shown = table("mechanism", *columns, "history", "what it tells", right=columns)
    for one in mechanism:
        cells = [number(value) for value in (one.first, one.last, one.least, one.most)]
        shown.add_row(f"  {one.name}", *cells, sparkline(one.values), one.says, style="red" if one.alarm else "")
    screen = console()
    screen.print()
    screen.print(shown)


def _print(store: Store, run: str, vitals: Sequence[Vital], spans: Sequence[AlarmSpan]) -> None:
    from rich.text import Text

    screen = console()
    if not vitals:
        screen.print(f"{run} holds no health figures: no step that learnt is stored, or health.enabled is false")
        return
    on = [span for span in spans if span.ended is None]
    for span in on:
        since = Text(f"ALARM {span.name} since step {span.began}: ", style="bold red").append(
            span.note, style="default"
        )
        screen.print(since)
    over = [span for span in spans if span.ended is not None]
    for span in over:
        told = f"over: {span.name}, steps {span.began} to {span.ended}, at worst {number(span.worst)}"
        screen.print(f"{told} (limit {number(span.bound)})", style="dim")
    if not spans:
        screen.print("no alarm so far")
    screen.print()
    shown = table("figure", "first", "last", "limit", "history", "what it is", right=("first", "last"))
    family = ""
    for vital in vitals:
        if vital.family != family:
            family = vital.family
            shown.add_row(Text(family, style="bold"), "", "", "", "", "")
        style = "red" if vital.alarm is not None else ""
        cells = (f"  {vital.name}", number(vital.values[0]), number(vital.values[-1]), _limits(vital))
        shown.add_row(*cells, sparkline(vital.values), vital.says, style=style)
    screen.print(shown)
    if on:
        screen.print(f"\nthe newest step, turn by turn: {typed(store, f'why {run}')}")


def _limits(vital: Vital) -> str:
    sides: Mapping[str, Any] = {"<": vital.below, ">": vital.above}
    return " ".join(f"{sign} {bound:g}" for sign, bound in sides.items() if bound is not None) or "-"
