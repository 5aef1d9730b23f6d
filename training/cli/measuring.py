"""``eval``: held-out figures of a run's newest checkpoint, and fresh episodes of its whole graph. Stores nothing."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AsJson, Db, place, reading
from .output import console, number, print_json, table
from .reading import newest_point, scenario_of

if TYPE_CHECKING:
    from sparring.envs.types import Pick
    from sparring.scenarios.schema import Scenario
    from sparring.storage.records import EvaluationRow
    from sparring.training.session import Session


def evaluate(
    run: Annotated[str, typer.Argument(help="A run's id such as r1, or latest.")],
    temperature: Annotated[
        list[float] | None,
        typer.Option("--temperature", help="Measure at this temperature, 0 being greedy; repeatable.", min=0, max=10),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Attempts per task, for pass@k.", min=1)] = None,
    tasks: Annotated[int | None, typer.Option(help="How many held-out tasks.", min=1)] = None,
    play: Annotated[int, typer.Option(help="Also play this many fresh episodes of the whole graph.", min=0)] = 0,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Measure a run's newest checkpoint on held-out tasks. The run's rows stay as they are."""
    from .running import hush

    with closing(reading(db)) as store:
        name = place(store, run).run
        scenario = _asked(scenario_of(store, name), samples, tasks)
        point = newest_point(store, name)
        hush()
        from sparring.training.session import resume

        session = resume(scenario, store, point)
        heats = temperature or [scenario.evaluation.temperature]
        try:
            rows, played = asyncio.run(_measured(session, heats, play))
        finally:
            session.close()
    if as_json:
        print_json({"run": name, "step": point.last_step, "evaluations": rows, "played": played})
    else:
        _print(f"{name} after step {point.last_step}, weights {point.weights_sha[:16]}", rows, played)


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("eval")(evaluate)


def uniform(arms: dict[str, dict[str, Any]], episodes: int) -> list[Pick]:
    """``episodes`` shared out over the arms as evenly as can be."""
    from sparring.envs.types import Pick

    shares = [(name, episodes // len(arms) + (at < episodes % len(arms))) for at, name in enumerate(arms)]
    return [Pick(name, arms[name], count) for name, count in shares if count]


def _asked(resolved: dict[str, Any], samples: int | None, tasks: int | None) -> Scenario:
    """The run's scenario with what is measured replaced."""
    from sparring.scenarios.load import from_resolved

    settings = {**resolved["evaluation"], "every": resolved["evaluation"]["every"] or 1}
    if samples is not None:
        settings["metrics"] = ["accuracy", *([f"pass@{samples}"] if samples > 1 else [])]
    if tasks is not None:
        settings["tasks"] = tasks
    return from_resolved({**resolved, "evaluation": settings})


async def _measured(
    session: Session, heats: list[float], play: int
) -> tuple[list[EvaluationRow], dict[str, float | None]]:
    """All of it in one event loop: the session's gate belongs to the loop it first ran in."""
    assert session.evaluation is not None  # the scenario asks for one
    rows = [row for heat in heats for row in await session.evaluation.measure(session.last_step, heat)]
    return rows, await _played(session, play) if play else {}


async def _played(session: Session, episodes: int) -> dict[str, float | None]:
    """Figures of fresh episodes, numbered as a step that no run reaches, so their seeds are their own."""
    from sparring.training.curriculum.grid import spread
    from sparring.training.summary import summarise

    cells = spread(session.scenario.curriculum.options)
    beyond = session.scenario.training.steps + 1
    return summarise(await session.rollout.play(uniform(cells, episodes), beyond))


def _print(title: str, rows: list[EvaluationRow], played: dict[str, float | None]) -> None:
    screen = console()
    screen.print(title, style="bold", markup=False)
    shown = table("held-out", "arm", "temperature", "value", "tasks", right=("temperature", "value", "tasks"))
    for row in rows:
        arm = str(row.parameters.get("arm", "all"))
        shown.add_row(row.name, arm, str(row.temperature), f"{row.value:.3f}", str(row.n))
    screen.print(shown)
    if played:
        figures = table("fresh episodes", "value", right=("value",))
        for name, value in played.items():
            figures.add_row(name, number(value))
        screen.print()
        screen.print(figures)
