"""Where a run goes on: the newest usable checkpoint, with every row past it rolled back in the same transaction."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, delete, func, select, update
from sqlalchemy.orm import Session, aliased

from sparring.scenarios.errors import StoreError

from .damage import SALVAGE, wrong_steps
from .records import CheckpointRow, ResumePoint
from .rows import table
from .step_hashes import KEPT_STATES
from .tables import Borrowed, Checkpoints, Episodes, PolicyVersions, Runs, Scenarios, States, Steps

__all__ = ["KEPT_STATES", "roll_back"]


def roll_back(connection: Connection, number: int, usable: Callable[[CheckpointRow], bool]) -> ResumePoint:
    """Delete the steps past the newest usable checkpoint of run ``number`` and say where it stands.

    Episodes these steps borrowed belong to other steps and stay. Steps that lent episodes to another run are not
    deleted: ``StoreError``, with nothing changed. So is a run whose step to go on from changed since it was saved.
    """
    with Session(connection, autoflush=False) as session:
        step, saved = _newest(session, number, usable)
        last = None if step is None else step.number
        if step is not None:
            _refuse_damaged(session, number, step.id)
        past = [Steps.run_id == number] + ([] if last is None else [Steps.number > last])
        _refuse_lent(session, number, past)
        connection.execute(delete(table(Steps)).where(*past))
        runs = table(Runs)
        connection.execute(update(runs).where(runs.c.id == number).values(status="running", finished_at=None))
        run = session.get_one(Runs, number)
        scenario = session.get_one(Scenarios, run.scenario_id)
        state = {} if step is None else _state(session, step.id)
        return ResumePoint(
            run=f"r{number}",
            scenario=scenario.resolved,
            last_step=last,
            checkpoint=saved,
            curriculum_state={} if step is None else step.curriculum_state,
            state=state,
            weights_sha="" if step is None else _weights(session, step),
            policy_version=0 if step is None else step.policy_version,
            seed=run.seed,
        )


def _refuse_damaged(session: Session, number: int, step_id: int) -> None:
    """Raise ``StoreError`` when the step a run would go on from, its episodes or the run's row changed."""
    for finding in wrong_steps(session, [step_id]):
        raise StoreError(
            f"{finding.where}: {finding.what}; run r{number} would go on from damaged rows, so nothing was changed: "
            f"`sparring verify r{number}` tells what else is damaged, {SALVAGE}"
        )


def _refuse_lent(session: Session, number: int, past: list[ColumnElement[bool]]) -> None:
    """Raise ``StoreError`` when another run learnt from episodes of these steps of run ``number``."""
    borrower = aliased(Steps)
    wanted = select(borrower.run_id, func.min(Steps.number), func.max(Steps.number)).select_from(Borrowed)
    wanted = wanted.join(borrower, borrower.id == Borrowed.step_id).where(borrower.run_id != number, *past)
    wanted = wanted.join(Episodes, Episodes.id == Borrowed.episode_id).join(Steps, Steps.id == Episodes.step_id)
    for other, first, final in session.execute(wanted.group_by(borrower.run_id).order_by(borrower.run_id).limit(1)):
        raise StoreError(
            f"run r{number} cannot go back before its step {first}: run r{other} learnt from episodes of its steps "
            f"{first} to {final}, which would be deleted; nothing was changed: go on with r{other}, or start a new run"
        )


def _newest(
    session: Session, number: int, usable: Callable[[CheckpointRow], bool]
) -> tuple[Steps | None, CheckpointRow | None]:
    wanted = select(Checkpoints).join(Steps).where(Steps.run_id == number).order_by(Steps.number.desc())
    tried: list[str] = []
    for row in session.scalars(wanted.limit(KEPT_STATES)).all():
        saved = CheckpointRow(row.path, row.sha, row.bytes)
        if usable(saved):
            return session.get_one(Steps, row.step_id), saved
        tried.append(row.path)
    if tried:
        raise StoreError(
            f"run r{number}: none of its newest {len(tried)} checkpoints can be used ({', '.join(tried)}); "
            "nothing was changed: put the folders back, or start a new run"
        )
    return None, None


def _state(session: Session, step_id: int) -> dict[str, object]:
    return {row.name: row.value for row in session.scalars(select(States).where(States.step_id == step_id))}


def _weights(session: Session, step: Steps) -> str:
    wanted = select(PolicyVersions.weights_sha).where(
        PolicyVersions.run_id == step.run_id, PolicyVersions.number == step.policy_version
    )
    return session.scalars(wanted).one()
