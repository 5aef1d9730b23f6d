"""What the commands that replay, watch and follow a run ask the database, beyond ``storage.queries``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from sparring.envs.types import Episode
from sparring.scenarios.errors import RunNotFound

from .rebuild import rebuild
from .records import EvaluationRow
from .rows import parts
from .store import Store, run_number
from .tables import Episodes, Evaluations, Steps, Tasks

AT_ONCE = 256  # episodes held in memory together


@dataclass(frozen=True, slots=True)
class KeptEpisode:
    """A stored episode under its public ``name`` (``r1/12/3``), with the ``hash`` it was saved with, and the mean
    ``reward`` of its turns in the step that played it."""

    name: str
    step: int
    episode: Episode
    hash: str
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class WholeStep:
    """A committed step as a watcher needs it: its figures, what was measured with it, and the curriculum's state."""

    step: int
    metrics: Mapping[str, float | None]
    evaluations: tuple[EvaluationRow, ...]
    curriculum_state: Mapping[str, Any]
    seconds: float


def steps_after(store: Store, run: str, step: int) -> list[WholeStep]:
    """The steps of a run beyond ``step`` (-1: all), in order, without counting their turns."""
    mine = (Steps.run_id == run_number(run)) & (Steps.number > step)
    columns = (Steps.id, Steps.number, Steps.metrics, Steps.curriculum_state, Steps.seconds)
    with store.read() as session:
        rows = session.execute(select(*columns).where(mine).order_by(Steps.number)).all()
        measured: defaultdict[int, list[EvaluationRow]] = defaultdict(list)
        found = select(Evaluations).join(Steps).where(mine).order_by(Evaluations.step_id, Evaluations.number)
        for one in session.scalars(found):
            figures = EvaluationRow(one.at_step, one.name, one.value, one.n, one.parameters, one.temperature)
            measured[one.step_id].append(figures)
    return [
        WholeStep(row.number, row.metrics, tuple(measured[row.id]), row.curriculum_state, row.seconds) for row in rows
    ]


def kept_episodes(
    store: Store, run: str, step: int | None = None, number: int | None = None
) -> Iterator[list[KeptEpisode]]:
    """The episodes a run played: all, those of one step, or one; a list for each step, in order.

    Raises ``RunNotFound`` where there is none.
    """
    store.run(run)
    columns = (Episodes.id, Episodes.hash, Episodes.number, Episodes.reward)
    wanted = select(*columns, Steps.number.label("step")).join(Steps)
    wanted = wanted.where(Steps.run_id == run_number(run)).order_by(Steps.number, Episodes.number)
    if step is not None:
        wanted = wanted.where(Steps.number == step)
    if number is not None:
        wanted = wanted.where(Episodes.number == number)
    with store.read() as session:
        rows = session.execute(wanted).all()
    if not rows:
        place = "/".join(str(part) for part in (run, step, number) if part is not None)
        kind = "episode" if number is not None else "episode in step" if step is not None else "episode in run"
        raise RunNotFound(f"no {kind} {place}: 'sparring show {run}' tells how far the run came")
    of_step: defaultdict[int, list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        of_step[row.step].append(at)
    for places in of_step.values():
        found: list[KeptEpisode] = []
        for part in parts(places, AT_ONCE):
            with store.read() as session:
                episodes = rebuild(session, [rows[at].id for at in part])
            for at, episode in zip(part, episodes, strict=True):
                row = rows[at]
                found.append(KeptEpisode(f"{run}/{row.step}/{row.number}", row.step, episode, row.hash, row.reward))
        yield found


def task_homes(store: Store, run: str, last: int | None = None) -> dict[str, list[str]]:
    """By task key: the public names of the episodes of a run, up to step ``last``, that hold the task."""
    wanted = select(Tasks.key, Steps.number.label("step"), Episodes.number)
    wanted = wanted.join(Episodes, Episodes.id == Tasks.episode_id).join(Steps, Steps.id == Episodes.step_id)
    wanted = wanted.where(Tasks.run_id == run_number(run))
    if last is not None:
        wanted = wanted.where(Steps.number <= last)
    found: defaultdict[str, list[str]] = defaultdict(list)
    with store.read() as session:
        for row in session.execute(wanted):
            found[row.key].append(f"{run}/{row.step}/{row.number}")
    return dict(found)


def number_of_episodes(store: Store, run: str, step: int) -> int:
    """How many episodes a step played; 0 for a step that is not there."""
    wanted = select(func.count()).select_from(Episodes).join(Steps)
    with store.read() as session:
        found = session.scalar(wanted.where(Steps.run_id == run_number(run), Steps.number == step))
    return found or 0
