"""What commands that compare, replay and watch ask the database, beyond ``storage.queries``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select

from sparring.envs.types import Episode
from sparring.scenarios.errors import RunNotFound

from .rebuild import rebuild
from .rows import parts
from .store import Store, run_number
from .tables import Episodes, Steps, Tasks

AT_ONCE = 256  # episodes held in memory together


@dataclass(frozen=True, slots=True)
class KeptEpisode:
    """A stored episode under its public ``name`` (``r1/12/3``), with the ``hash`` it was saved with."""

    name: str
    step: int
    episode: Episode
    hash: str


def kept_episodes(
    store: Store, run: str, step: int | None = None, number: int | None = None
) -> Iterator[list[KeptEpisode]]:
    """The episodes a run played: all, those of one step, or one; a list for each step, in order.

    Raises ``RunNotFound`` where there is none.
    """
    store.run(run)
    wanted = select(Episodes.id, Episodes.hash, Episodes.number, Steps.number.label("step")).join(Steps)
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
                found.append(KeptEpisode(f"{run}/{row.step}/{row.number}", row.step, episode, row.hash))
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
