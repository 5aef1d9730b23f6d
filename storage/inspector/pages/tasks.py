"""The tasks of a run, and one of them: what it was made from, what was made from it, how often it was solved."""

from __future__ import annotations

from sparring.scenarios.errors import RunNotFound
from sparring.storage.inspector.charts import figure
from sparring.storage.inspector.places import episode_href, task_href
from sparring.storage.inspector.registry import Asked, Link, Model, NotThere, page
from sparring.storage.inspector.shown import visible
from sparring.storage.store import Store
from sparring.storage.tasks import TaskStory, tasks
from sparring.storage.tasks import task as story

PER_PAGE = 40


@page("/runs/{run}/tasks", "tasks.html", "Tasks")
def listed(store: Store, asked: Asked) -> Model:
    """A page of tasks, those set last first; ``?after=12/3`` goes on from there."""
    run = asked.words["run"]
    found = tasks(store, run, asked.query.get("after") or None, PER_PAGE)
    return {
        "run": run,
        "tasks": found.tasks,
        "after": found.after,
        "first": not asked.query.get("after"),
        "live": not asked.query.get("after") and store.run(run).status == "running",
    }


@page("/runs/{run}/tasks/{key}", "task.html", "Task {key}")
def told(store: Store, asked: Asked) -> Model:
    """One task by its key, or by a beginning of it that no other has."""
    run, key = asked.words["run"], asked.words["key"]
    try:
        found = story(store, run, key)
    except RunNotFound as error:
        store.run(run)
        some = tasks(store, run, None, 5).tasks[:5]
        there = [Link(visible(f"{one.key}: {one.summary}"[:90]), task_href(run, one.key)) for one in some]
        raise NotThere(str(error), there) from None
    return {
        "run": run,
        "task": found.row,
        "payload": found.payload,
        "secret": found.secret,
        "parameters": found.parameters,
        "skills": found.skills,
        "origin_turn": found.origin_turn,
        "origin_href": episode_href(found.row.episode, found.origin_turn),
        "ancestors": found.ancestors,
        "children": found.children,
        "times": [{"href": episode_href(one.episode), "time": one} for one in reversed(found.times)],
        "curve": _curve(found),
        "lineage_href": f"/runs/{run}/lineage?task={found.row.key}",
    }


def _curve(found: TaskStory) -> dict[str, object] | None:
    """The solve rate over the steps that set the task, where there are several."""
    by_step: dict[int, list[tuple[int, float]]] = {}
    for one in found.times:
        if one.solved is not None:
            by_step.setdefault(one.step, []).append((one.tries, one.solved))
    if len(by_step) < 2:
        return None
    rates = [sum(n * rate for n, rate in held) / sum(n for n, _ in held) for held in by_step.values()]
    return figure("Solve rate", list(by_step), {"solved": rates}, low=0.0, high=1.0)
