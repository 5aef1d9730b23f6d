"""A step: what it was made of, why it moved the policy as it did, and what it decided."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from sparring.storage.inspector.places import colours, episode_href, found_step, scenario_of, step_href, task_href
from sparring.storage.inspector.pulled import (
    GRAIN,
    changed,
    counted,
    criteria_of,
    episodes_by_pull,
    groups_of,
    picks_of,
    settled,
)
from sparring.storage.inspector.registry import Asked, Model, page
from sparring.storage.lineage import TurnWhy, why
from sparring.storage.store import Store
from sparring.storage.tables import Alarms, Checkpoints, Evaluations, PolicyVersions, Steps

EPISODES, GROUPS, CHANGES, SAID = 20, 20, 12, 600
TURNS = 3  # told of each role, and at most MOST_TURNS
MOST_TURNS = 25


@page("/runs/{run}/steps/{step}", "step.html", "Step {step}")
def step(store: Store, asked: Asked) -> Model:
    """``?turns=10`` of each role are told; ``?episodes=30`` and ``?groups=40`` go on past so many."""
    run, number = asked.words["run"], asked.number("step")
    turns = min(max(1, asked.count("turns", TURNS)), MOST_TURNS)
    row = found_step(store, run, number)
    with store.read() as session:
        mine = Steps.run_id == row.run_id
        before = session.scalars(
            select(Steps).where(mine, Steps.number < number).order_by(Steps.number.desc()).limit(1)
        ).one_or_none()
        after = session.scalar(select(func.min(Steps.number)).where(mine, Steps.number > number))
        figures = {} if before is None else dict(before.metrics)
        state = None if before is None else before.curriculum_state
        counts = counted(session, row.id)
        skip, skip_groups = asked.count("episodes", 0), asked.count("groups", 0)
        model: dict[str, Any] = {
            "counts": counts,
            "episodes": episodes_by_pull(session, row.id, EPISODES, skip),
            "episodes_from": skip,
            "episodes_next": _next(skip, EPISODES, counts["episodes"] + counts["borrowed"]),
            "groups": groups_of(session, row.id, GROUPS, skip_groups),
            "groups_from": skip_groups,
            "groups_next": _next(skip_groups, GROUPS, counts["groups"]),
            "criteria": criteria_of(session, row.id),
            "picks": picks_of(session, row.id),
            "evaluations": _evaluations(session, row),
            "alarms": session.execute(
                select(Alarms.name, Alarms.value, Alarms.bound, Alarms.note)
                .where(Alarms.step_id == row.id)
                .order_by(Alarms.number)
            )
            .mappings()
            .all(),
            "checkpoint": session.scalar(select(Checkpoints.path).where(Checkpoints.step_id == row.id)),
            "weights_sha": session.scalar(
                select(PolicyVersions.weights_sha).where(
                    PolicyVersions.run_id == row.run_id, PolicyVersions.number == row.policy_version
                )
            ),
        }
    for one in model["episodes"]:
        one["href"] = episode_href(one["episode"])
    model["changes"], model["changes_more"] = changed(state, row.curriculum_state, CHANGES)
    return model | _head(run, row, before, after, figures) | _why(store, run, number, turns)


def _next(skip: int, size: int, of: int) -> int | None:
    return skip + size if skip + size < of else None


def _head(run: str, row: Steps, before: Steps | None, after: int | None, figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": run,
        "step": row.number,
        "policy_version": row.policy_version,
        "seconds": row.seconds,
        "saved_at": row.saved_at,
        "before": None if before is None else step_href(run, before.number),
        "after": None if after is None else step_href(run, after),
        "state": row.curriculum_state,
        "figures": [
            {"name": name, "value": value, "before": figures.get(name)} for name, value in sorted(row.metrics.items())
        ],
        "lineage_href": f"/runs/{run}/lineage?step={row.number}",
    }


def _evaluations(session: Any, row: Steps) -> list[dict[str, Any]]:
    """What was measured with the step, each beside what the same measurement gave before."""
    wanted = select(Evaluations).where(Evaluations.step_id == row.id).order_by(Evaluations.number)
    earlier = select(Steps.id).join(Evaluations, Evaluations.step_id == Steps.id)
    earlier = earlier.where(Steps.run_id == row.run_id, Steps.number < row.number)
    last = session.scalar(earlier.order_by(Steps.number.desc()).limit(1))
    past = session.scalars(select(Evaluations).where(Evaluations.step_id == last)).all() if last is not None else []
    known = {(one.name, str(one.parameters)): one.value for one in past}
    names = ("name", "value", "n", "at_step", "parameters", "temperature")
    return [
        {name: getattr(one, name) for name in names} | {"before": known.get((one.name, str(one.parameters)))}
        for one in session.scalars(wanted)
    ]


def _why(store: Store, run: str, number: int, turns: int) -> dict[str, Any]:
    """The turns that pulled hardest, role by role."""
    report = why(store, run, number, turns)
    total = sum(role.pull_abs for role in report.roles)
    return {
        "roles": colours(scenario_of(store, run), {role.role for role in report.roles}),
        "why": [
            {
                "role": role.role,
                "trainer": role.trainer,
                "n_turns": role.n_turns,
                "pull": settled(role.pull),
                "share": settled(role.pull_abs / total) if total else None,
                "turns": [_turn(run, turn, role.pull_abs) for turn in role.turns],
            }
            for role in sorted(report.roles, key=lambda role: (-round(role.pull_abs * GRAIN), role.role, role.trainer))
        ],
        "turns_told": turns,
        "turns_next": min(4 * turns, MOST_TURNS) if any(role.n_turns > turns for role in report.roles) else None,
    }


def _turn(run: str, turn: TurnWhy, pull_abs: float) -> dict[str, Any]:
    task = turn.task
    return {
        "href": episode_href(turn.episode, turn.turn),
        "lineage_href": f"/runs/{run}/lineage?episode={turn.episode.split('/', 1)[1]}&turn={turn.turn}",
        "task_href": None if task is None else task_href(turn.episode.split("/")[0], task.key),
        "share": settled(abs(turn.pull) / pull_abs) if pull_abs else None,
        "said": turn.said[:SAID],
        "cut": len(turn.said) > SAID,
        **{
            name: getattr(turn, name)
            for name in (
                "episode", "turn", "node", "sample", "pull", "advantage", "reward", "weight", "n_tokens", "group",
                "scores", "task", "arm", "sampled_by_version", "entered",
            )
        },
    }  # fmt: skip
