"""What scoring stored turns once more found: new scores beside the stored ones, by role, episode and cause. Reads only.

A stored score and a new one of the same turn are compared where both carry a number. From 0.5 on a score means right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from .rescores import Rescore
from .store import Store, run_number
from .tables import Episodes, Rescored, Rescores, Scores, Steps, Turns

RIGHT_AT = 0.5
CAUSES = 5  # causes of invalid scores that are told


@dataclass(frozen=True, slots=True)
class RoleFigures:
    """One role's turns. ``stored`` and ``new`` are means over the ``compared`` ones, ``mean`` is over all valued ones.

    ``agreement`` is the share of compared turns on the same side of 0.5, ``equal`` the share with the same number;
    ``to_right`` and ``to_wrong`` are counts of those that changed sides. Means of nothing are ``None``.
    """

    role: str
    turns: int
    waiting: int
    valued: int
    invalid: int
    missing: int
    mean: float | None
    compared: int
    stored: float | None
    new: float | None
    agreement: float | None
    equal: float | None
    to_right: int
    to_wrong: int


@dataclass(frozen=True, slots=True)
class EpisodeFigures:
    """One episode: means over its compared turns, and the mean distance between stored and new score."""

    episode: str
    compared: int
    stored: float
    new: float
    distance: float
    to_right: int
    to_wrong: int


@dataclass(frozen=True, slots=True)
class Compared:
    """All of it. ``against`` is the stored score the new ones are compared with; ``total`` is over all ``roles``."""

    rescore: Rescore
    against: str
    total: RoleFigures
    roles: tuple[RoleFigures, ...]
    most_changed: tuple[EpisodeFigures, ...]
    invalid: tuple[tuple[str, int], ...]


def compared(store: Store, one: Rescore, limit: int = 5) -> Compared:
    """What a scoring found up to now; the ``limit`` most changed episodes first."""
    against = str(one.options.get("against", "verifier"))
    with store.read() as session:
        pairs = _pairs(one, against)
        roles = tuple(_role(row) for row in session.execute(_sums(pairs, pairs.c.role)))
        total = _role(session.execute(_sums(pairs, None)).one())
        return Compared(one, against, total, roles, tuple(_changed(session, one, pairs, limit)), _causes(session, one))


def _mine(one: Rescore) -> ColumnElement[bool]:
    wanted = select(Rescores.id).where(Rescores.run_id == run_number(one.run), Rescores.number == one.number)
    return Rescored.rescore_id == wanted.scalar_subquery()


def _pairs(one: Rescore, against: str) -> Any:
    """One row per turn: role, episode, validity, new and stored number."""
    first = select(Scores.value).where(Scores.turn_id == Turns.id, Scores.name == against).order_by(Scores.number)
    columns = (
        Turns.author.label("role"),
        Turns.episode_id,
        Rescored.validity,
        Rescored.value.label("new"),
        first.limit(1).scalar_subquery().label("stored"),
    )
    return select(*columns).join(Turns, Turns.id == Rescored.turn_id).where(_mine(one)).subquery()


def _both(pairs: Any, what: Any) -> Any:
    return case((pairs.c.new.is_not(None) & pairs.c.stored.is_not(None), what))


def _sides(pairs: Any) -> tuple[Any, Any]:
    """1 for a turn that became right, and for one that became wrong; 0 for every other compared one."""
    stored, new = pairs.c.stored, pairs.c.new
    return (
        _both(pairs, case(((stored < RIGHT_AT) & (new >= RIGHT_AT), 1), else_=0)),
        _both(pairs, case(((stored >= RIGHT_AT) & (new < RIGHT_AT), 1), else_=0)),
    )


def _sums(pairs: Any, role: Any) -> Any:
    to_right, to_wrong = _sides(pairs)
    validity = pairs.c.validity
    columns = (
        func.count().label("turns"),
        func.sum(case((validity.is_(None), 1), else_=0)).label("waiting"),
        *(func.sum(case((validity == word, 1), else_=0)).label(word) for word in ("valued", "invalid", "missing")),
        func.avg(pairs.c.new).label("mean"),
        func.count(_both(pairs, 1)).label("compared"),
        func.avg(_both(pairs, pairs.c.stored)).label("stored"),
        func.avg(_both(pairs, pairs.c.new)).label("new"),
        func.sum(_both(pairs, case((pairs.c.stored == pairs.c.new, 1), else_=0))).label("equal"),
        func.sum(to_right).label("to_right"),
        func.sum(to_wrong).label("to_wrong"),
    )
    if role is None:
        return select(*columns)
    return select(role.label("role"), *columns).group_by(role).order_by(role)


def _role(row: Any) -> RoleFigures:
    n, flips = row.compared, (row.to_right or 0, row.to_wrong or 0)
    return RoleFigures(
        role=row._mapping.get("role", ""),
        turns=row.turns,
        waiting=row.waiting or 0,
        valued=row.valued or 0,
        invalid=row.invalid or 0,
        missing=row.missing or 0,
        mean=row.mean,
        compared=n,
        stored=row.stored,
        new=row.new,
        agreement=1 - sum(flips) / n if n else None,
        equal=row.equal / n if n else None,
        to_right=flips[0],
        to_wrong=flips[1],
    )


def _changed(session: Session, one: Rescore, pairs: Any, limit: int) -> Sequence[EpisodeFigures]:
    """The episodes whose scores moved furthest, all in all."""
    moved = _both(pairs, func.abs(pairs.c.new - pairs.c.stored))
    to_right, to_wrong = _sides(pairs)
    columns = (
        pairs.c.episode_id,
        func.count(_both(pairs, 1)).label("compared"),
        func.avg(_both(pairs, pairs.c.stored)).label("stored"),
        func.avg(_both(pairs, pairs.c.new)).label("new"),
        func.avg(moved).label("distance"),
        func.sum(moved).label("moved"),
        func.sum(to_right).label("to_right"),
        func.sum(to_wrong).label("to_wrong"),
    )
    most = select(*columns).group_by(pairs.c.episode_id).having(func.sum(moved) > 0)
    top = most.order_by(func.sum(moved).desc(), pairs.c.episode_id).limit(limit).subquery()
    wanted = select(top, Steps.number.label("step"), Episodes.number).join(Episodes, Episodes.id == top.c.episode_id)
    wanted = wanted.join(Steps, Steps.id == Episodes.step_id).order_by(top.c.moved.desc(), top.c.episode_id)
    return [
        EpisodeFigures(f"{one.run}/{row.step}/{row.number}", row.compared, row.stored, row.new, row.distance,
                       row.to_right, row.to_wrong)
        for row in session.execute(wanted)
    ]  # fmt: skip


def _causes(session: Session, one: Rescore) -> tuple[tuple[str, int], ...]:
    """Why turns could not be judged, the commonest first."""
    count = func.count()
    wanted = select(Rescored.note, count).where(_mine(one), Rescored.validity == "invalid").group_by(Rescored.note)
    found = session.execute(wanted.order_by(count.desc(), Rescored.note).limit(CAUSES))
    return tuple((row[0], row[1]) for row in found)
