"""The steps of a run as curves need them, kept in memory: a step that was committed is read once.

A resumed run loses steps at its end and writes them anew; then everything is read again.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sparring.storage.store import Store, run_number
from sparring.storage.tables import Groups, Steps


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step: its ``figures`` as stored, and by role the mean combined reward of the turns it compared."""

    id: int
    number: int
    policy_version: int
    seconds: float
    saved_at: str
    figures: Mapping[str, float | None]
    rewards: Mapping[str, float]

    @property
    def reward(self) -> float | None:
        """The mean over roles."""
        return sum(self.rewards.values()) / len(self.rewards) if self.rewards else None


_KNOWN: WeakKeyDictionary[Store, dict[str, list[StepLine]]] = WeakKeyDictionary()
_ALONE = threading.Lock()


def history(store: Store, run: str) -> Sequence[StepLine]:
    """Every step of a run, in order; empty for a run without one."""
    with _ALONE:
        known = _KNOWN.setdefault(store, {}).get(run, [])
    with store.read() as session:
        if known and not _still(session, known[-1]):
            known = []
        lines = known + _since(session, run_number(run), known[-1].number if known else -1)
    with _ALONE:
        _KNOWN.setdefault(store, {})[run] = lines
    return lines


def _still(session: Session, line: StepLine) -> bool:
    """Whether that step is the one that was read: then so are all before it."""
    row = session.execute(select(Steps.number, Steps.seconds, Steps.saved_at).where(Steps.id == line.id)).first()
    return row is not None and tuple(row) == (line.number, line.seconds, line.saved_at)


def _since(session: Session, run: int, after: int) -> list[StepLine]:
    new = (Steps.run_id == run) & (Steps.number > after)
    total, weight = func.sum(Groups.mean * Groups.size), func.sum(Groups.size)
    compared = select(Groups.step_id, Groups.role, total, weight).join(Steps).where(new, Groups.mean.is_not(None))
    rewards: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for step, role, points, size in session.execute(compared.group_by(Groups.step_id, Groups.role)):
        rewards[step][role] = float(points or 0) / size
    columns = (Steps.id, Steps.number, Steps.policy_version, Steps.seconds, Steps.saved_at, Steps.metrics)
    return [
        StepLine(*row, rewards=rewards.get(row.id, {}))
        for row in session.execute(select(*columns).where(new).order_by(Steps.number))
    ]
