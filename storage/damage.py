"""Which steps and episodes no longer give the hashes they were saved with, whatever their rows have become.

Nothing a damaged row raises gets out of here: it becomes a finding with a place and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from sparring.scenarios.errors import StoreError

from .hashes import episode_hash
from .rebuild import rebuild
from .rows import parts
from .step_hashes import KEPT_STATES, differing, of_stored_rows
from .tables import Checkpoints, Episodes, Steps

# What damaged bytes raise on their way back to records; SQLAlchemyError: pages and text the driver cannot read.
DAMAGE = (SQLAlchemyError, StoreError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError)
SALVAGE = "`sparring salvage` copies what is whole into a new database"
_CHANGED = {
    "rows": "its figures, groups, advantages or other rows changed since it was saved",
    "gap": "the step before it is gone",
    "run": "the row of its run or scenario changed since it was saved",
    "state": "the trainer state after it changed since it was saved",
}
_AT_ONCE = 64  # episodes rebuilt together


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was saved. ``where`` is an id such as ``r1/12/3``, or ``file``.

    ``part`` of a step or episode: ``rows``, ``gap`` (the step before is gone), ``run``, ``state``, ``episode``.
    """

    where: str
    what: str
    advice: str = SALVAGE
    part: str = ""


@dataclass(slots=True)
class Verified:
    """What was looked at and what was found; ``uncovered`` are steps that an older Sparring saved without a hash."""

    name: str = ""
    runs: int = 0
    steps: int = 0
    episodes: int = 0
    thinned: int = 0
    uncovered: int = 0
    checkpoints: int = 0
    findings: list[Finding] = field(default_factory=list)


def wrong_steps(session: Session, ids: Sequence[int], found: Verified | None = None) -> Iterator[Finding]:
    """What is wrong with these steps (database ids) and their episodes; counted in ``found``."""
    counted = found or Verified()
    rows: list[tuple[str, int, str, str | None]] = []
    for step_id in ids:
        try:
            place, saved = _place(session, step_id)
        except DAMAGE as error:
            yield Finding(f"step with the id {step_id}", f"its row cannot be read: {said(error)}", part="rows")
            continue
        if not place:
            continue  # rolled back since
        counted.steps += 1
        counted.uncovered += saved is None
        yield from _own(session, step_id, place, saved)
        try:
            wanted = select(Episodes.id, Episodes.number, Episodes.hash, Episodes.thinned)
            mine = session.execute(wanted.where(Episodes.step_id == step_id).order_by(Episodes.number)).all()
            rows += [(f"{place}/{row.number}", row.id, row.hash, row.thinned) for row in mine]
        except DAMAGE as error:
            yield Finding(place, f"its episodes cannot be listed: {said(error)}", part="rows")
    counted.episodes += len(rows)
    counted.thinned += sum(row[3] is not None for row in rows)
    for part in parts(rows, _AT_ONCE):
        yield from _episodes(session, part)


def _place(session: Session, step_id: int) -> tuple[str, str | None]:
    """The public name of a step and its hash; an empty name where it is gone."""
    row = session.execute(select(Steps.run_id, Steps.number, Steps.hash).where(Steps.id == step_id)).one_or_none()
    return ("", None) if row is None else (f"r{row.run_id}/{row.number}", row.hash)


def _own(session: Session, step_id: int, place: str, saved: str | None) -> Iterator[Finding]:
    """The step's own rows. Trainer state must be there while a resume may ask for it."""
    if saved is None:
        return
    try:
        wrong = differing(saved, of_stored_rows(session, step_id), not _resumable(session, step_id))
        if "rows" in wrong and "rows" not in differing(saved, of_stored_rows(session, step_id, gap=True)):
            wrong[0] = "gap"
    except DAMAGE as error:
        yield Finding(place, f"its rows cannot be read: {said(error)}", part="rows")
        return
    for part in wrong:
        yield Finding(place, _CHANGED[part], part=part)


def _resumable(session: Session, step_id: int) -> bool:
    """Whether a step is at or after the oldest checkpoint of those whose trainer state is kept."""
    of = select(Steps.run_id).where(Steps.id == step_id).scalar_subquery()
    kept = select(Steps.id).join(Checkpoints).where(Steps.run_id == of).order_by(Steps.number.desc())
    newest = session.scalars(kept.limit(KEPT_STATES)).all()
    return step_id in newest


def _episodes(session: Session, rows: Sequence[tuple[str, int, str, str | None]]) -> Iterator[Finding]:
    """Rebuilt together; one by one where that fails, to name the one that fails."""
    try:
        episodes = rebuild(session, [row[1] for row in rows])
        wrong = [row for row, episode in zip(rows, episodes, strict=True) if episode_hash(episode) != row[2]]
    except DAMAGE as error:
        if len(rows) == 1:
            yield Finding(rows[0][0], f"it cannot be read: {said(error)}", part="episode")
            return
        for row in rows:
            yield from _episodes(session, [row])
        return
    for row in wrong:
        yield Finding(row[0], "its rows do not give the hash it was saved with", part="episode")


def said(error: BaseException) -> str:
    """An error in one line."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).splitlines() or [""])[0][:200] or type(cause).__name__
