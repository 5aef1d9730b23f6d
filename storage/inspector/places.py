"""What several pages share: addresses of episodes, steps, tasks and rubrics, and the colours of a run's roles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from sqlalchemy import func, select

from sparring.storage.inspector.registry import Link, NotThere, role_classes
from sparring.storage.queries import episode_number
from sparring.storage.store import Store, run_number
from sparring.storage.tables import Episodes, Runs, Scenarios, Steps

ENVIRONMENT = "environment"
NEAR = 8  # links to what is there, on a page about what is not


def step_href(run: str, step: int) -> str:
    """The page of a step."""
    return f"/runs/{run}/steps/{step}"


def episode_href(episode: str, turn: int | None = None) -> str:
    """The page of an episode by its public id, at one of its turns."""
    run, step, number = episode_number(episode)
    at = "" if turn is None else f"?turn={turn}#turn-{turn}"
    return f"/runs/r{run}/steps/{step}/episodes/{number}{at}"


def task_href(run: str, key: str) -> str:
    """The page of a task."""
    return f"/runs/{run}/tasks/{quote(key, safe='')}"


def rubric_href(episode: str, turn: int) -> str:
    """The page of the rubric filed under a turn."""
    return f"{episode_href(episode)}/rubrics/{turn}"


def scenario_of(store: Store, run: str) -> Mapping[str, Any]:
    """The resolved scenario of a run. Raises ``RunNotFound``."""
    store.run(run)
    wanted = select(Scenarios.resolved).join(Runs, Runs.scenario_id == Scenarios.id)
    with store.read() as session:
        found = session.scalars(wanted.where(Runs.id == run_number(run))).one()
    return found if isinstance(found, Mapping) else {}


def colours(scenario: Mapping[str, Any], authors: Iterable[str] = ()) -> dict[str, str]:
    """The style class of every role of a scenario, then of ``authors`` it does not name."""
    roles = scenario.get("roles")
    named = [str(name) for name in roles] if isinstance(roles, Mapping) else []
    every = dict.fromkeys([*named, *sorted(set(authors))])
    every.pop(ENVIRONMENT, None)
    return role_classes(list(every)) | {ENVIRONMENT: "role-env"}


def found_step(store: Store, run: str, number: int) -> Steps:
    """The row of a step. Raises ``NotThere`` that leads to steps near it, ``RunNotFound`` without the run."""
    store.run(run)
    mine = Steps.run_id == run_number(run)
    with store.read() as session:
        row = session.scalars(select(Steps).where(mine, Steps.number == number)).one_or_none()
        if row is not None:
            session.expunge(row)
            return row
        last = session.scalar(select(func.max(Steps.number)).where(mine))
        near = select(Steps.number).where(mine).order_by(func.abs(Steps.number - number)).limit(NEAR)
        there = sorted(session.scalars(near)) if last is not None else []
    message = f"run {run} has no step {number}; " + ("it has none yet" if last is None else f"its last is {last}")
    raise NotThere(message, [Link(f"step {one}", step_href(run, one)) for one in there])


def found_episode(store: Store, run: str, step: int, number: int) -> Episodes:
    """The row of an episode. Raises ``NotThere`` that leads to episodes of its step."""
    home = found_step(store, run, step)
    with store.read() as session:
        mine = Episodes.step_id == home.id
        row = session.scalars(select(Episodes).where(mine, Episodes.number == number)).one_or_none()
        if row is not None:
            session.expunge(row)
            return row
        played = session.scalar(select(func.count()).where(mine)) or 0
        there = list(session.scalars(select(Episodes.number).where(mine).order_by(Episodes.number).limit(NEAR)))
    links = [Link(f"{run}/{step}/{one}", f"{step_href(run, step)}/episodes/{one}") for one in there]
    links.append(Link(f"step {step}", step_href(run, step)))
    raise NotThere(f"step {step} of {run} has no episode {number}; it played {played}", links)
