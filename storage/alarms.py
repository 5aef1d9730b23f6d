"""Reading the health alarms of a run: when each began and ended, how bad it was, and which are on now."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import func, select

from .records import AlarmRow
from .store import Store, run_number
from .tables import Alarms, Steps


@dataclass(frozen=True, slots=True)
class AlarmSpan:
    """One alarm from the step it ``began`` in to the first step without it, ``None`` while it is on.

    ``value`` and ``note`` are those of its newest step, ``worst`` is the value farthest from the bound, ``steps`` how
    many steps it was on.
    """

    name: str
    began: int
    ended: int | None
    value: float
    worst: float
    bound: float
    steps: int
    note: str


def alarms(store: Store, run: str) -> list[AlarmSpan]:
    """Every alarm of a run, in the order in which they began. Raises ``RunNotFound``."""
    store.run(run)
    mine = Steps.run_id == run_number(run)
    wanted = select(Steps.number.label("step"), Alarms.name, Alarms.value, Alarms.bound, Alarms.note)
    with store.read() as session:
        rows = session.execute(wanted.join(Steps, Alarms.step_id == Steps.id).where(mine).order_by(Steps.number)).all()
        if not rows:
            return []
        numbers = list(session.scalars(select(Steps.number).where(mine).order_by(Steps.number)))
    after = dict(pairwise(numbers))
    of_name: defaultdict[str, list[tuple[int, AlarmRow]]] = defaultdict(list)
    for row in rows:
        of_name[row.name].append((row.step, AlarmRow(row.name, row.value, row.bound, row.note)))
    spans = [span for on in of_name.values() for span in _spans(on, after)]
    return sorted(spans, key=lambda span: (span.began, span.name))


def _spans(on: list[tuple[int, AlarmRow]], after: dict[int, int]) -> list[AlarmSpan]:
    """Steps in which one alarm is on, cut where a step lies between two of them."""
    spans: list[list[tuple[int, AlarmRow]]] = []
    for step, row in on:
        if spans and after.get(spans[-1][-1][0]) == step:
            spans[-1].append((step, row))
        else:
            spans.append([(step, row)])
    return [
        AlarmSpan(
            name=part[-1][1].name,
            began=part[0][0],
            ended=after.get(part[-1][0]),
            value=part[-1][1].value,
            worst=max((row for _, row in part), key=lambda row: abs(row.value - row.bound)).value,
            bound=part[-1][1].bound,
            steps=len(part),
            note=part[-1][1].note,
        )
        for part in spans
    ]


def alarms_on(store: Store) -> dict[str, int]:
    """By run id: how many alarms are on in its newest step; runs without any are left out."""
    newest = select(Steps.run_id, func.max(Steps.number).label("number")).group_by(Steps.run_id).subquery()
    wanted = (
        select(Steps.run_id, func.count().label("n"))
        .join(Alarms, Alarms.step_id == Steps.id)
        .join(newest, (newest.c.run_id == Steps.run_id) & (newest.c.number == Steps.number))
        .group_by(Steps.run_id)
    )
    with store.read() as session:
        return {f"r{row.run_id}": row.n for row in session.execute(wanted)}


def alarms_ever(store: Store) -> dict[str, int]:
    """By run id: how many different alarms it had in any step."""
    wanted = select(Steps.run_id, func.count(Alarms.name.distinct()).label("n")).join(
        Alarms, Alarms.step_id == Steps.id
    )
    with store.read() as session:
        return {f"r{row.run_id}": row.n for row in session.execute(wanted.group_by(Steps.run_id))}
