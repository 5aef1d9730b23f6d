"""Every run of the database, the newest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sparring.storage.alarms import alarms_ever, alarms_on
from sparring.storage.inspector.history import history
from sparring.storage.inspector.registry import Asked, Model, page
from sparring.storage.records import RunRow
from sparring.storage.store import Store, describe
from sparring.storage.tables import Evaluations, Runs, Scenarios, Steps

PER_PAGE = 25
SPARK = 60  # points of a sparkline


@page("/runs", "runs.html", "Runs")
def runs(store: Store, asked: Asked) -> Model:
    """The newest runs; ``after`` goes on below a run's number."""
    below = asked.count("after", 0)
    with store.read() as session:
        wanted = select(Runs).order_by(Runs.id.desc()).limit(PER_PAGE + 1)
        rows = session.scalars(wanted.where(Runs.id < below) if below else wanted).all()
        total = session.scalar(select(func.count()).select_from(Runs))
        shown = [describe(session, row, store.is_held) for row in rows[:PER_PAGE]]
        facts = {row.id: _facts(session, int(row.id[1:])) for row in shown}
    now, ever_on = alarms_on(store), alarms_ever(store)
    alarms = {row.id: {"alarms_on": now.get(row.id, 0), "alarms": ever_on.get(row.id, 0)} for row in shown}
    listed = [_line(store, row, facts[row.id] | alarms[row.id]) for row in shown]
    return {
        "runs": listed,
        "total": total,
        "next": int(shown[-1].id[1:]) if len(rows) > PER_PAGE else None,
        "live": any(row.status == "running" for row in shown),
        "database": store.name,
    }


def _facts(session: Session, run: int) -> dict[str, Any]:
    """What the database tells of a run beside its steps."""
    accuracy = (
        select(Evaluations.at_step, Evaluations.value, Evaluations.parameters)
        .join(Steps)
        .where(Steps.run_id == run, Evaluations.name == "accuracy")
        .order_by(Evaluations.at_step)
    )
    resolved = select(Scenarios.resolved).join(Runs, Runs.scenario_id == Scenarios.id).where(Runs.id == run)
    return {
        "accuracy": [row.value for row in session.execute(accuracy) if not row.parameters],
        "planned": planned(session.scalars(resolved).one()),
    }


def planned(scenario: Any) -> int | None:
    """How many steps a resolved scenario asks for."""
    training = scenario.get("training") if isinstance(scenario, Mapping) else None
    steps = training.get("steps") if isinstance(training, Mapping) else None
    return steps if isinstance(steps, int) else None


def _line(store: Store, row: RunRow, facts: Mapping[str, Any]) -> dict[str, Any]:
    lines = history(store, row.id)
    rewards = [line.reward for line in lines if line.reward is not None]
    tokens = [value for line in lines if (value := line.figures.get("tokens")) is not None]
    by = -(-len(rewards) // SPARK) or 1
    return {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "seed": row.seed,
        "started_at": row.started_at,
        "last_at": lines[-1].saved_at if lines else row.started_at,
        "steps": len(lines),
        "last_step": row.last_step,
        "tokens": sum(tokens) if tokens else None,
        "seconds": sum(line.seconds for line in lines),
        "reward": rewards[::by],
        "reward_last": rewards[-1] if rewards else None,
        **facts,
    }
