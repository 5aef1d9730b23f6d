"""Strands of lineage: one turn that moved one step, with everything that made it and everything it was judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sparring.envs.types import Episode
from sparring.storage.inspector.credits import Credit, credits_of
from sparring.storage.inspector.pulled import GRAIN
from sparring.storage.rebuild import rebuild
from sparring.storage.store import Store
from sparring.storage.tables import Advantages, Episodes, Steps, Tasks, Turns

KIN = 3  # ancestors of a task that are shown


@dataclass(frozen=True, slots=True)
class Kin:
    """A task as the picture needs it."""

    key: str
    summary: str
    origin: str


@dataclass(frozen=True, slots=True)
class Strand:
    """Turn ``turn`` of ``episode`` (``name`` is its public id); ``credit`` is ``None`` where nothing was trained on it.

    ``tasks`` are the task it proposed or worked on, then its ancestors.
    """

    name: str
    episode: Episode
    turn: int
    credit: Credit | None
    tasks: tuple[Kin, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Strands with the hardest pull first, and how many turns more there are."""

    strands: tuple[Strand, ...]
    more: int


def of_step(store: Store, step_id: int, limit: int) -> Found:
    """The turns that moved a step hardest."""
    with store.read() as session:
        mine = Advantages.step_id == step_id
        total = session.scalar(select(func.count(func.distinct(Advantages.turn_id))).where(mine)) or 0
        pulled = select(Advantages.turn_id, func.max(func.abs(Advantages.pull)).label("pull")).where(mine)
        hardest = func.round(func.max(func.abs(Advantages.pull)) * GRAIN).desc()
        pulled = pulled.group_by(Advantages.turn_id).order_by(hardest, Advantages.turn_id).limit(limit)
        turns = list(session.scalars(pulled))
        rows = session.execute(select(Turns.id, Turns.episode_id, Turns.number).where(Turns.id.in_(turns))).all()
        where = {row.id: (row.episode_id, row.number) for row in rows}
    found = _strands(store, [where[turn] for turn in turns], step_id)
    return Found(tuple(found), total - len(found))


def of_episode(store: Store, episode_id: int, turn: int | None, limit: int) -> Found:
    """The turns of an episode that pulled hardest, or the one turn that is asked for."""
    given = credits_of(store, episode_id)
    pulls = {number: max(abs(one.pull) for one in credits) for number, credits in given.items()}
    chosen = sorted(pulls, key=lambda number: (-pulls[number], number))[:limit] if turn is None else [turn]
    found = _strands(store, [(episode_id, number) for number in chosen], None)
    return Found(tuple(found), max(0, len(pulls) - len(found)) if turn is None else 0)


def of_task(store: Store, episode_ids: Sequence[int], key: str, each: int) -> Found:
    """In each of these episodes the turns at a task that pulled hardest."""
    places: list[tuple[int, int]] = []
    more = 0
    for episode_id in episode_ids:
        given = credits_of(store, episode_id)
        with store.read() as session:
            at = _turns_at(session, episode_id, key)
        at.sort(key=lambda number: (-max((abs(one.pull) for one in given.get(number, ())), default=-1.0), number))
        places += [(episode_id, number) for number in at[:each]]
        more += max(0, len(at) - each)
    return Found(tuple(_strands(store, places, None)), more)


def _turns_at(session: Session, episode_id: int, key: str) -> list[int]:
    """Turns of roles that proposed a task or worked on it; the environment's have no tokens."""
    held = select(Tasks.number, Tasks.origin_turn).where(Tasks.episode_id == episode_id, Tasks.key == key)
    rows = session.execute(held).all()
    spoken = select(Turns.number).where(Turns.episode_id == episode_id, Turns.n_tokens > 0)
    worked = spoken.where(Turns.task.in_([row.number for row in rows]))
    proposed = [row.origin_turn for row in rows if row.origin_turn is not None]
    return list(dict.fromkeys([*proposed, *session.scalars(worked.order_by(Turns.number))]))


def _strands(store: Store, places: Sequence[tuple[int, int]], step_id: int | None) -> list[Strand]:
    episode_ids = list(dict.fromkeys(episode for episode, _ in places))
    with store.read() as session:
        whole = dict(zip(episode_ids, rebuild(session, episode_ids), strict=True))
        named = select(Episodes.id, Steps.run_id, Steps.number, Episodes.number.label("index"))
        named = named.join(Steps, Steps.id == Episodes.step_id).where(Episodes.id.in_(episode_ids))
        names = {row.id: f"r{row.run_id}/{row.number}/{row.index}" for row in session.execute(named)}
        step = None if step_id is None else session.get_one(Steps, step_id)
        wanted = None if step is None else (f"r{step.run_id}", step.number)
        kin = {place: _kin(session, whole[place[0]], *place) for place in places}
    given = {episode: credits_of(store, episode) for episode in episode_ids}
    found = []
    for episode, turn in places:
        credits = [one for one in given[episode].get(turn, ()) if wanted is None or (one.run, one.step) == wanted]
        credit = max(credits, key=lambda one: abs(one.pull), default=None)
        found.append(Strand(names[episode], whole[episode], turn, credit, kin[episode, turn]))
    return found


def _kin(session: Session, episode: Episode, episode_id: int, turn: int) -> tuple[Kin, ...]:
    """The task a turn proposed, else the one it worked on, and what that was made from."""
    here = select(Tasks).where(Tasks.episode_id == episode_id)
    row = session.scalars(here.where(Tasks.origin_turn == turn).order_by(Tasks.number).limit(1)).one_or_none()
    if row is None and (key := episode.turns[turn].task) is not None:
        row = session.scalars(here.where(Tasks.key == key).order_by(Tasks.number).limit(1)).one_or_none()
    found: list[Kin] = []
    while row is not None and len(found) <= KIN:
        found.append(Kin(row.key, row.summary, row.origin))
        row = None if row.parent_id is None else session.get_one(Tasks, row.parent_id)
    return tuple(found)
