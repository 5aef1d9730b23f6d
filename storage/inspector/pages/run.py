"""One run: its curves, its curriculum, what its tasks were like, what could not be used, and where to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sparring.scenarios.errors import RunNotFound
from sparring.storage.alarms import alarms
from sparring.storage.inspector import window
from sparring.storage.inspector.charts import figure
from sparring.storage.inspector.curves import curves, health, summaries
from sparring.storage.inspector.history import StepLine, history
from sparring.storage.inspector.registry import Asked, Link, Model, NotThere, page, role_classes
from sparring.storage.records import EvaluationRow, RunRow
from sparring.storage.store import Store, run_number
from sparring.storage.tables import Checkpoints, Runs, Scenarios, Steps, Tasks

from .listing import episode_lines, step_lines
from .runs import planned

STEPS_SHOWN = 10
EPISODES_SHOWN = 12
CHECKPOINTS_SHOWN = 20


def find(store: Store, run: str) -> RunRow:
    """The run of a page. Raises ``NotThere``, which leads to the runs there are."""
    try:
        return store.run(run)
    except RunNotFound as error:
        with store.read() as session:
            known = session.execute(select(Runs.id, Runs.name).order_by(Runs.id.desc()).limit(20)).all()
        raise NotThere(str(error), [Link(f"r{row.id} {row.name}", f"/runs/r{row.id}") for row in known]) from error


@page("/runs/{run}", "run.html", "Run {run}")
def run(store: Store, asked: Asked) -> Model:
    """Everything about one run that a reader asks first."""
    row = find(store, asked.words["run"])
    lines = history(store, row.id)
    measured = store.evaluations(row.id)
    with store.read() as session:
        scenario = scenario_of(session, row.id)
        roles = roles_of(scenario, lines)
        facts = _facts(session, row, lines) | {"tasks": _tasks(session, row.id)}
        answers = _answers(session, lines)
        kept = _checkpoints(session, row.id)
        shown = episode_lines(session, window.newest(lines, 200, "episodes"), limit=EPISODES_SHOWN)
    return {
        "run": row,
        "live": row.status == "running",
        "planned": planned(scenario),
        "roles": role_classes(roles),
        **facts,
        "curves": curves(lines, measured, roles),
        "health": health(lines, roles),
        "alarms": alarms(store, row.id)[::-1],
        **answers,
        "evaluations": _evaluations(measured),
        "steps": step_lines(store, row.id, lines, limit=STEPS_SHOWN),
        "episodes": shown["episodes"],
        "checkpoints": kept,
        "scenario": scenario,
    }


@page("/runs/{run}/figures", "figures.html", "All figures")
def figures(store: Store, asked: Asked) -> Model:
    """Every stored figure in short; ``name`` chooses one to draw."""
    row = find(store, asked.words["run"])
    lines = history(store, row.id)
    listed = summaries(lines)
    name = asked.query.get("name", "")
    if name and name not in {one["name"] for one in listed}:
        here = f"/runs/{row.id}/figures"
        raise NotThere(f"run {row.id} stores no figure {name!r}", [Link("All figures", here)])
    chosen = figure(name, [line.number for line in lines], {name: [line.figures.get(name) for line in lines]})
    return {"run": row, "figures": listed, "chosen": chosen if name else None, "live": row.status == "running"}


def scenario_of(session: Session, run: str) -> Any:
    """The run's scenario as resolved."""
    wanted = select(Scenarios.resolved).join(Runs, Runs.scenario_id == Scenarios.id)
    return session.scalars(wanted.where(Runs.id == run_number(run))).one()


def roles_of(scenario: Any, lines: Sequence[StepLine]) -> list[str]:
    """The run's roles in the order of its scenario; those that its steps reward where it names none."""
    named = scenario.get("roles") if isinstance(scenario, Mapping) else None
    return list(named) if isinstance(named, Mapping) else sorted({role for line in lines for role in line.rewards})


def _facts(session: Session, row: RunRow, lines: Sequence[StepLine]) -> dict[str, Any]:
    def total(name: str) -> float | None:
        known = [value for line in lines if (value := line.figures.get(name)) is not None]
        return sum(known) if known else None  # a run that was recorded or brought in may tell none

    rewards = [line.reward for line in lines if line.reward is not None]
    return {
        "last_at": lines[-1].saved_at if lines else row.started_at,
        "seconds": sum(line.seconds for line in lines),
        "totals": {name: total(name) for name in ("episodes", "turns", "tokens", "broken")},
        "reward": rewards[-1] if rewards else None,
    }


def _tasks(session: Session, run: str) -> dict[str, int]:
    """How many tasks arose, and how many different ones."""
    wanted = select(func.count(), func.count(Tasks.key.distinct())).where(Tasks.run_id == run_number(run))
    total, different = session.execute(wanted).one()
    return {"total": total, "distinct": different, "duplicates": total - different}


def _answers(session: Session, lines: Sequence[StepLine]) -> dict[str, Any]:
    recent = window.newest(lines)
    per_step = window.distinct(session, lines)
    x = sorted(per_step)
    shares = [per_step[step][1] / per_step[step][0] for step in x]
    return {
        "window": recent.told(),
        "heat": window.heat(session, lines),
        "solve_rates": window.solve_rates(session, recent),
        "invalid": window.invalid(session, recent),
        "refusals": window.refusals(session, recent),
        "diversity": figure("Different tasks in a step", x, {"share": shares}, unit="share", low=0, high=1),
    }


def _evaluations(measured: Sequence[EvaluationRow]) -> list[dict[str, Any]]:
    """Held-out figures as a table: one row for each that was measured, the newest step last."""
    rows: dict[tuple[str, str, float], dict[str, Any]] = {}
    for one in measured:
        arm = ", ".join(str(value) for value in one.parameters.values()) or "all"
        row = rows.setdefault(
            (one.name, arm, one.temperature),
            {"name": one.name, "over": arm, "temperature": one.temperature, "tasks": one.n, "steps": [], "values": []},
        )
        row["steps"].append(one.step)
        row["values"].append(one.value)
        row["tasks"] = one.n
    return list(rows.values())


def _checkpoints(session: Session, run: str) -> list[dict[str, Any]]:
    wanted = select(Steps.number, Checkpoints.path, Checkpoints.bytes, Checkpoints.sha).join(Steps)
    wanted = wanted.where(Steps.run_id == run_number(run)).order_by(Steps.number.desc()).limit(CHECKPOINTS_SHOWN)
    return [
        {"step": row.number, "path": row.path, "bytes": row.bytes, "sha": row.sha} for row in session.execute(wanted)
    ]
