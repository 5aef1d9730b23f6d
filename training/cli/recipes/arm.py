"""One run of a comparison in a process of its own: ``python -m sparring.training.cli.recipes.arm JOB.json``.

The job says what is trained on what; the answer, ``result.json`` beside it, is what that took and what it measured.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import resource
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparring.envs.code.jail.kernel import die_with_parent
from sparring.scenarios.errors import SparringError

from .book import put

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario
    from sparring.storage.store import Store
    from sparring.training.course import Course

NAME, ANSWER = "job.json", "result.json"


@dataclass(frozen=True)
class Job:
    """``changes`` make the run of the scenario in ``file``, ``measures`` the scenario its policy is measured in.

    ``source`` is the database of a run to learn from without playing; no ``measures``: nothing is measured.
    """

    file: str
    changes: Sequence[str]
    measures: Sequence[str]
    metric: str
    source: str = ""


def main(argument: str) -> None:
    """Do the job in this file."""
    place = Path(argument)
    if sys.platform == "linux":
        die_with_parent()  # nobody waits for this run once its measuring is gone, and the next one begins it anew
    job = Job(**json.loads(place.read_text()))
    try:
        answer = done(job, place.parent / "run.db")
    except SparringError as error:
        sys.exit(f"{type(error).__name__}: {error}".replace("\n", " "))
    put(place.parent / ANSWER, json.dumps(answer, indent=1) + "\n")


def done(job: Job, database: Path) -> dict[str, Any]:
    """Train, and measure what was learnt: tokens, whole steps, CPU seconds, the metric and over how many tasks."""
    from sparring.scenarios.load import load
    from sparring.storage.store import Store

    from ..running import hush, sandbox

    hush()
    scenario = load(job.file, job.changes)
    with sandbox(scenario), closing(Store(str(database))) as store:
        course = _course(job, scenario, store)
        status = _trained(job, course)
        store.finish_run(course.run, status)
        answer = {"status": status, "steps": course.last_step, "tokens": course.spent_tokens, "cpu_s": cpu_seconds()}
        if job.measures:
            value, tasks = _measured(job, course, store)
            answer |= {"value": value, "tasks": tasks}
        course.close()
    return answer


def cpu_seconds() -> float:
    """What this process and its children have used of processors so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(sum(one.ru_utime + one.ru_stime for one in used), 1)


def _course(job: Job, scenario: Scenario, store: Store) -> Course:
    from sparring.training import offline, session
    from sparring.training.cli.options import newest

    command = "sparring recipes measure"
    if job.source:
        return offline.start(scenario, store, newest(store), command)
    return session.start(scenario, store, command)


def _trained(job: Job, course: Any) -> str:
    from sparring.training.loop import learn
    from sparring.training.offline import study

    return study(course) if job.source else asyncio.run(learn(course))


def _measured(job: Job, course: Course, store: Store) -> tuple[float, int]:
    """The metric of the trained policy on the held-out tasks of the scenario that ``measures`` makes."""
    from sparring.scenarios.errors import ScenarioError
    from sparring.scenarios.load import load
    from sparring.storage.records import ResumePoint
    from sparring.training import session as sessions

    scenario = load(job.file, job.measures)
    nothing = ResumePoint(course.run, {}, None, None, {}, {}, "", 0, scenario.seed)
    session = sessions.resume(scenario, store, nothing)
    session.policy.model.load_state_dict(course.policy.model.state_dict())
    rows = asyncio.run(_rows(session))
    session.gate.close()
    session.engine.close()
    for row in rows:
        if row.name == job.metric and not row.parameters:
            return row.value, row.n
    raise ScenarioError(f"recipe.metric {job.metric!r} has no value: no held-out task was judged; see evaluation.tasks")


async def _rows(session: Any) -> Any:
    await session.serve(0)
    return await session.evaluation.measure(0)


def written(job: Job) -> str:
    """A job as its file holds it."""
    return json.dumps(dataclasses.asdict(job), indent=1) + "\n"


if __name__ == "__main__":
    main(sys.argv[1])
