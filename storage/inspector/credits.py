"""How the turns of an episode were moved: every trainer's advantage in every step that used them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import select

from sparring.storage.store import Store
from sparring.storage.tables import Advantages, Groups, Rescored, Rescores, Steps, Turns


@dataclass(frozen=True, slots=True)
class Credit:
    """One trainer's use of one turn in ``run``'s ``step``; ``tokens`` are empty where all equal ``advantage``."""

    run: str
    step: int
    trainer: str
    reward: float | None
    advantage: float
    weight: float
    pull: float
    n_tokens: int
    entered: str
    group: int
    scope: str
    size: int
    mean: float | None
    std: float | None
    kept: bool
    note: str
    tokens: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Again:
    """What a turn was given when it was scored once more; ``validity`` is ``None`` while it waits."""

    number: int
    kind: str
    name: str
    value: float | None
    validity: str | None
    by: str
    note: str


def credits_of(store: Store, episode_id: int) -> dict[int, list[Credit]]:
    """By turn of the episode with this database id: its credits, the step that played it first."""
    wanted = (
        select(Advantages, Groups, Steps.run_id, Steps.number, Turns.number.label("turn"))
        .join(Turns, Turns.id == Advantages.turn_id)
        .join(Steps, Steps.id == Advantages.step_id)
        .join(Groups, (Groups.step_id == Advantages.step_id) & (Groups.number == Advantages.group))
        .where(Turns.episode_id == episode_id)
        .order_by(Advantages.step_id, Advantages.id)
    )
    found: defaultdict[int, list[Credit]] = defaultdict(list)
    with store.read() as session:
        for row, group, run, step, turn in session.execute(wanted):
            found[turn].append(
                Credit(
                    run=f"r{run}",
                    step=step,
                    trainer=row.trainer,
                    reward=row.reward,
                    advantage=row.value,
                    weight=row.weight,
                    pull=row.pull,
                    n_tokens=row.n_tokens,
                    entered=row.note,
                    group=group.number,
                    scope=group.scope,
                    size=group.size,
                    mean=group.mean,
                    std=group.std,
                    kept=group.kept,
                    note=group.note,
                    tokens=row.tokens,
                )
            )
    return dict(found)


def scored_again(store: Store, episode_id: int) -> dict[int, list[Again]]:
    """By turn: what it was given since, in the order it was asked for."""
    wanted = (
        select(Rescored, Rescores.number, Rescores.kind, Rescores.name, Turns.number.label("turn"))
        .join(Turns, Turns.id == Rescored.turn_id)
        .join(Rescores, Rescores.id == Rescored.rescore_id)
        .where(Turns.episode_id == episode_id)
        .order_by(Rescores.number)
    )
    found: defaultdict[int, list[Again]] = defaultdict(list)
    with store.read() as session:
        for row, number, kind, name, turn in session.execute(wanted):
            found[turn].append(Again(number, kind, name, row.value, row.validity, row.by, row.note))
    return dict(found)
