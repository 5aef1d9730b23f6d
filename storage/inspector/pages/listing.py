"""All steps and all episodes of a run, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from sparring.storage.inspector.history import StepLine, history
from sparring.storage.inspector.registry import Asked, Link, Model, NotThere, page
from sparring.storage.inspector.window import Window, newest
from sparring.storage.store import Store
from sparring.storage.tables import Alarms, CurriculumEvents, Episodes, Scores, Steps, Tasks, Turns

PER_PAGE = 50
LOOKED_AT = 20_000  # episodes that are filtered or put in order for one page
ENDINGS = ("done", "refused", "broke")
ORDERS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "latest": (Steps.number.desc(), Episodes.number.asc()),
    "best": (Episodes.reward.desc().nulls_last(), Steps.number.desc(), Episodes.number.asc()),
    "worst": (Episodes.reward.asc().nulls_last(), Steps.number.desc(), Episodes.number.asc()),
}


def step_lines(
    store: Store, run: str, lines: Sequence[StepLine], limit: int = PER_PAGE, below: int | None = None
) -> list[dict[str, Any]]:
    """The newest steps of a run with what a list tells of each; ``below`` goes on under a step's number."""
    chosen = [line for line in reversed(lines) if below is None or line.number < below][:limit]
    ids = [line.id for line in chosen]
    alarmed = select(Alarms.step_id, func.count()).where(Alarms.step_id.in_(ids)).group_by(Alarms.step_id)
    with store.read() as session:
        alarms = {row[0]: row[1] for row in session.execute(alarmed)}
    return [
        {
            "step": line.number,
            "reward": line.reward,
            **{name: line.figures.get(name) for name in ("episodes", "turns", "tokens", "broken")},
            "loss": line.figures.get("train/loss"),
            "alarms": alarms.get(line.id, 0),
            "policy_version": line.policy_version,
            "seconds": line.seconds,
            "saved_at": line.saved_at,
        }
        for line in chosen
    ]


def episode_lines(
    session: Session,
    window: Window,
    order: str = "latest",
    ending: str = "",
    arm: str | None = None,
    limit: int = PER_PAGE,
    skip: int = 0,
) -> dict[str, Any]:
    """Episodes of a window's steps: ``episodes``, and whether there are ``more`` of them."""
    c = CurriculumEvents
    wanted = select(
        Episodes.id, Steps.number, Episodes.number, c.arm, Episodes.ending, Episodes.reward, Episodes.seconds
    )
    wanted = (
        wanted.select_from(Episodes).join(Steps).join(c, (c.step_id == Episodes.step_id) & (c.number == Episodes.pick))
    )
    wanted = wanted.where(Episodes.step_id.in_(window.ids))
    if ending:
        wanted = wanted.where(Episodes.ending == ending)
    if arm is not None:
        wanted = wanted.where(c.arm == arm)
    rows = session.execute(wanted.order_by(*ORDERS[order]).offset(skip).limit(limit + 1)).all()
    ids = [row[0] for row in rows[:limit]]
    task = select(Tasks.episode_id, Tasks.summary).where(Tasks.episode_id.in_(ids)).order_by(Tasks.number.desc())
    tasks = {row.episode_id: row.summary for row in session.execute(task)}  # the first task is set last
    said = select(Turns.episode_id, func.count(), func.sum(Turns.n_tokens)).where(Turns.episode_id.in_(ids))
    turns = {row[0]: (row[1], row[2]) for row in session.execute(said.group_by(Turns.episode_id))}
    broken = select(Turns.episode_id, func.count()).join(Scores, Scores.turn_id == Turns.id)
    broken = broken.where(Turns.episode_id.in_(ids), Scores.validity == "invalid").group_by(Turns.episode_id)
    invalid = {row[0]: row[1] for row in session.execute(broken)}
    names = ("step", "number", "arm", "ending", "reward", "seconds")
    found = [
        dict(zip(names, row[1:], strict=True))
        | {"task": tasks.get(row[0]), "invalid": invalid.get(row[0], 0)}
        | dict(zip(("turns", "tokens"), turns.get(row[0], (0, 0)), strict=True))
        for row in rows[:limit]
    ]
    return {"episodes": found, "more": len(rows) > limit}


@page("/runs/{run}/steps", "steps.html", "Steps")
def steps(store: Store, asked: Asked) -> Model:
    """The steps of a run, the newest first; ``before`` goes on under a step's number."""
    from .run import find  # that page shows the beginning of this list

    row = find(store, asked.words["run"])
    lines = history(store, row.id)
    below = asked.count("before", 10**9)
    listed = step_lines(store, row.id, lines, below=below)
    older = bool(listed) and listed[-1]["step"] > lines[0].number
    return {
        "run": row, "steps": listed, "of": len(lines), "next": listed[-1]["step"] if older else None,
        "live": row.status == "running" and "before" not in asked.query,
    }  # fmt: skip


@page("/runs/{run}/episodes", "episodes.html", "Episodes")
def episodes(store: Store, asked: Asked) -> Model:
    """The episodes of a run: ``order``, ``ending`` and ``arm`` choose, ``before`` a step and ``skip`` go on."""
    from .run import find

    row = find(store, asked.words["run"])
    order, ending = asked.query.get("order", "latest"), asked.query.get("ending", "")
    for word, known in ((order, ORDERS), (ending or "done", ENDINGS)):
        if word not in known:
            here = [Link(one, f"/runs/{row.id}/episodes") for one in ("All episodes",)]
            raise NotThere(f"{word!r} is none of {', '.join(known)}", here)
    below, skip = asked.count("before", 10**9), asked.count("skip", 0)
    older = [line for line in history(store, row.id) if line.number < below]
    window = newest(older, LOOKED_AT, "episodes")
    arm = asked.query.get("arm") or None
    with store.read() as session:
        found = episode_lines(session, window, order, ending, arm, skip=skip)
        in_window = select(CurriculumEvents.arm).where(CurriculumEvents.step_id.in_(window.ids)).distinct()
        arms = sorted(session.scalars(in_window.order_by(CurriculumEvents.arm)))
    return {
        "run": row,
        "episodes": found["episodes"],
        "chosen": {"order": order, "ending": ending, "arm": arm, "skip": skip},
        "orders": list(ORDERS),
        "endings": ENDINGS,
        "arms": arms,
        "window": window.told(),
        "next": skip + PER_PAGE if found["more"] else None,
        "before": window.lines[0].number if window.lines and len(window.lines) < len(older) else None,
        "live": row.status == "running" and order == "latest" and not skip and "before" not in asked.query,
    }
