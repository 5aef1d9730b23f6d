"""The tasks of a run: what was set, by whom, made from what, how often it was tried and how often it was solved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import Session, aliased

from sparring.scenarios.errors import RunNotFound

from .paging import SCANNED, Place, episodes_after, place_of
from .rows import parts
from .store import Store, run_number
from .tables import Episodes, Scores, Steps, Tasks, Turns

VERIFIER = "verifier"  # the score of a finished task, whatever the environment
TRIES = 16  # newest times a task was set that its solve rate in a list is taken over
SEEN = 100  # times a task was set, told on its page; the newest
KIN = 50  # ancestors and children told
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as one line. ``seen``: how many episodes of the run hold it; ``step``: the newest of their steps.

    ``solved`` is the mean verifier score of ``tries`` attempts at it, those of its newest times only; ``None`` where
    none was valued.
    """

    key: str
    summary: str
    environment: str
    origin: str
    operator: str | None
    parent: str | None
    step: int
    episode: str
    seen: int
    tries: int
    solved: float | None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks of a run; ``after`` is what to ask for the next ones with, ``None`` at the end."""

    run: str
    tasks: tuple[TaskRow, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class TimeSet:
    """One episode that holds a task: how often it was tried there, and the mean verifier score."""

    episode: str
    step: int
    ending: str
    reward: float | None
    tries: int
    solved: float | None


@dataclass(frozen=True, slots=True)
class TaskStory:
    """A task with all that is known of it. ``times`` are its newest episodes, oldest first.

    ``ancestors`` begin with its parent; ``children`` were made from it. ``origin_turn`` of ``row.episode`` proposed it.
    """

    run: str
    row: TaskRow
    payload: Mapping[str, Any]
    secret: Mapping[str, Any]
    parameters: Mapping[str, Any]
    skills: tuple[str, ...]
    origin_turn: int | None
    ancestors: tuple[TaskRow, ...]
    children: tuple[TaskRow, ...]
    times: tuple[TimeSet, ...]


def tasks(store: Store, run: str, after: str | None = None, limit: int = 50) -> TaskPage:
    """Tasks of a run, each once where it was set last: newest step first, ``limit`` at a time.

    A page may hold fewer than ``limit`` and still not be the last: ``after`` tells. Raises ``RunNotFound``, also for
    an ``after`` that no page gave.
    """
    store.run(run)
    number, start = run_number(run), None if after is None else place_of(after)
    found: list[Any] = []
    last: Place | None = None
    with store.read() as session:
        episodes = episodes_after(session, number, start)
        for row, held in _each(session, number, episodes):
            found += held
            last = Place(row.step, row.number)
            if len(found) >= limit:
                break
        rows = _rows(session, number, found)
    ended = len(episodes) < SCANNED and (not episodes or last == Place(episodes[-1].step, episodes[-1].number))
    return TaskPage(run, rows, None if ended else str(last))


def task(store: Store, run: str, key: str) -> TaskStory:
    """The task whose key begins with ``key``. Raises ``RunNotFound`` where none does, or several do."""
    store.run(run)
    number = run_number(run)
    with store.read() as session:
        newest = _newest(session, number, _whole_key(session, run, key))
        row = session.get_one(Tasks, newest)
        (told,) = _rows(session, number, [_told(session, newest)])
        return TaskStory(
            run=run,
            row=told,
            payload=row.payload,
            secret=row.secret,
            parameters=row.parameters,
            skills=tuple(row.skills),
            origin_turn=row.origin_turn,
            ancestors=_ancestors(session, number, row),
            children=_children(session, number, row.key),
            times=_times(session, number, row.key),
        )


_COLUMNS: tuple[Any, ...] = (
    Tasks.id, Tasks.key, Tasks.summary, Tasks.environment, Tasks.origin, Tasks.operator, Tasks.parent_key,
    Tasks.episode_id, Tasks.number, Episodes.number.label("episode"), Steps.number.label("step"),
)  # fmt: skip


def _placed() -> Select[Any]:
    found: Select[Any] = select(*_COLUMNS).join(Episodes, Episodes.id == Tasks.episode_id)
    return found.join(Steps, Steps.id == Episodes.step_id)


def _told(session: Session, task_id: int) -> Any:
    return session.execute(_placed().where(Tasks.id == task_id)).one()


def _each(session: Session, number: int, episodes: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """Each episode with those of its tasks that no later episode of the run holds."""
    for part in parts(episodes, _AT_ONCE):
        newest = _newest_in(session, number, [row.id for row in part])
        yield from ((row, newest.get(row.id, [])) for row in part)


def _newest_in(session: Session, number: int, episodes: list[int]) -> dict[int, list[Any]]:
    """By episode: its tasks that no later episode of the run holds."""
    again = aliased(Tasks)
    later = select(func.max(again.id)).where(again.run_id == number, again.key == Tasks.key).scalar_subquery()
    wanted = _placed().where(Tasks.episode_id.in_(episodes), Tasks.id == later).order_by(Tasks.id)
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for row in session.execute(wanted):
        found[row.episode_id].append(row)
    return found


def _newest(session: Session, number: int, key: str) -> int:
    found = session.scalar(select(func.max(Tasks.id)).where(Tasks.run_id == number, Tasks.key == key))
    assert found is not None  # the key was read a moment ago in this transaction
    return found


def _whole_key(session: Session, run: str, key: str) -> str:
    mine: ColumnElement[bool] = Tasks.run_id == run_number(run)
    if session.scalar(select(Tasks.id).where(mine, Tasks.key == key).limit(1)) is not None:
        return key
    begins = and_(mine, Tasks.key >= key, Tasks.key < key + "zz")  # a range has an index; what else it holds is dropped
    near = session.scalars(select(Tasks.key).where(begins).distinct().order_by(Tasks.key).limit(6)) if key else ()
    found = [one for one in near if one.startswith(key)]
    if len(found) == 1:
        return found[0]
    if found:
        raise RunNotFound(f"several tasks of {run} begin with {key!r}: {', '.join(found)}; write more of the key")
    some = list(session.scalars(select(Tasks.key).where(mine).order_by(Tasks.id.desc()).limit(3)))
    there = f"among its tasks are {', '.join(some)}" if some else "it has no task yet"
    raise RunNotFound(f"no task of {run} begins with {key!r}; {there}")


def _rows(session: Session, number: int, found: Sequence[Any]) -> tuple[TaskRow, ...]:
    """The rows ``_placed`` gave, with how often each task was set and solved."""
    seen = _seen(session, number, [row.key for row in found])
    times: dict[str, list[Any]] = {row.key: _held(session, number, row.key, TRIES) for row in found}
    solved = _solved(session, [held.id for held_by in times.values() for held in held_by])
    rows = []
    for row in found:
        tries, total = 0, 0.0
        for held in times[row.key]:
            n, mean = solved.get(held.id, (0, None))
            tries, total = tries + n, total + n * (mean or 0.0)
        rows.append(
            TaskRow(
                key=row.key,
                summary=row.summary,
                environment=row.environment,
                origin=row.origin,
                operator=row.operator,
                parent=row.parent_key,
                step=row.step,
                episode=f"r{number}/{row.step}/{row.episode}",
                seen=seen[row.key],
                tries=tries,
                solved=total / tries if tries else None,
            )
        )
    return tuple(rows)


def _seen(session: Session, number: int, keys: list[str]) -> dict[str, int]:
    counted = select(Tasks.key, func.count()).where(Tasks.run_id == number, Tasks.key.in_(keys)).group_by(Tasks.key)
    return {row[0]: row[1] for row in session.execute(counted)}


def _held(session: Session, number: int, key: str, limit: int) -> list[Any]:
    """The newest times a task was set, newest first."""
    wanted = select(Tasks.id, Tasks.episode_id).where(Tasks.run_id == number, Tasks.key == key)
    return list(session.execute(wanted.order_by(Tasks.id.desc()).limit(limit)).all())


def _solved(session: Session, task_ids: list[int]) -> dict[int, tuple[int, float | None]]:
    """By row of a task: how many valued verifier scores its attempts have in that episode, and their mean."""
    found: dict[int, tuple[int, float | None]] = {}
    judged = select(Tasks.id, func.count(Scores.value), func.avg(Scores.value))
    judged = judged.join(Turns, (Turns.episode_id == Tasks.episode_id) & (Turns.task == Tasks.number))
    judged = judged.join(Scores, (Scores.turn_id == Turns.id) & (Scores.name == VERIFIER)).group_by(Tasks.id)
    for part in parts(task_ids):
        found |= {row: (n, mean) for row, n, mean in session.execute(judged.where(Tasks.id.in_(part)))}
    return found


def _ancestors(session: Session, number: int, row: Tasks) -> tuple[TaskRow, ...]:
    found: list[Any] = []
    above = row.parent_id
    while above is not None and len(found) < KIN:
        parent = session.get_one(Tasks, above)
        found.append(_told(session, parent.id))
        above = parent.parent_id
    return _rows(session, number, found)


def _children(session: Session, number: int, key: str) -> tuple[TaskRow, ...]:
    """Tasks of the run made from any time this one was set, each once, newest first."""
    parent = aliased(Tasks)
    made = _placed().join(parent, parent.id == Tasks.parent_id)
    made = made.where(parent.run_id == number, parent.key == key).order_by(Tasks.id.desc()).limit(8 * KIN)
    newest = {row.key: row for row in reversed(session.execute(made).all())}
    return _rows(session, number, sorted(newest.values(), key=lambda row: -row.id)[:KIN])


def _times(session: Session, number: int, key: str) -> tuple[TimeSet, ...]:
    held = [row.id for row in _held(session, number, key, SEEN)]
    columns = (Tasks.id, Episodes.number, Episodes.ending, Episodes.reward, Steps.number.label("step"))
    wanted = select(*columns).join(Episodes, Episodes.id == Tasks.episode_id).join(Steps, Steps.id == Episodes.step_id)
    solved = _solved(session, held)
    return tuple(
        TimeSet(f"r{number}/{row.step}/{row.number}", row.step, row.ending, row.reward, *solved.get(row.id, (0, None)))
        for row in session.execute(wanted.where(Tasks.id.in_(held)).order_by(Tasks.id))
    )
