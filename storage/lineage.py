"""Why a step moved the policy: from its largest pulls down to criteria, rubrics, tasks and curriculum decisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, aliased

from sparring.scenarios.errors import RunNotFound

from .fields import record_of
from .records import GroupRow
from .store import Store, run_number
from .tables import (
    Advantages,
    Criteria,
    CriterionScores,
    CurriculumEvents,
    Episodes,
    Groups,
    PolicyVersions,
    Rubrics,
    Scores,
    Steps,
    Tasks,
    Turns,
)


@dataclass(frozen=True, slots=True)
class CriterionWhy:
    """What one criterion gave; ``written_by`` is the rubric's author, ``None`` when it came with the task."""

    text: str | None
    points: float | None
    share: float | None
    validity: str
    by: str
    quote: str
    rubric_turn: int | None
    written_by: str | None


@dataclass(frozen=True, slots=True)
class ScoreWhy:
    """One reward component with the criteria behind it."""

    name: str
    value: float | None
    validity: str
    by: str
    note: str
    criteria: tuple[CriterionWhy, ...]


@dataclass(frozen=True, slots=True)
class TaskWhy:
    """The task a turn worked on (or proposed), who proposed it, and what it was made from."""

    key: str
    summary: str
    environment: str
    origin: str
    origin_turn: int | None
    operator: str | None
    parent: str | None
    parent_summary: str | None


@dataclass(frozen=True, slots=True)
class TurnWhy:
    """One turn's part in the update. ``episode`` is its public id; ``pull`` the signed share of the role's gradient.

    ``episode`` is of another step, or of another run, when the step borrowed it; ``sampled_by_version`` counts in that
    run. ``trainer``, ``token_advantages`` and ``entered`` are ``records.AdvantageRow``'s trainer, tokens and note.
    """

    episode: str
    turn: int
    node: str
    sample: int
    said: str
    pull: float
    advantage: float
    reward: float | None
    weight: float
    n_tokens: int
    group: GroupRow
    scores: tuple[ScoreWhy, ...]
    task: TaskWhy | None
    arm: str
    parameters: Mapping[str, Any]
    sampled_by_version: int
    trainer: str = "rl"
    token_advantages: tuple[float, ...] = ()
    entered: str = ""


@dataclass(frozen=True, slots=True)
class RoleWhy:
    """A role's turns with the largest pull, of ``n_turns`` in the update; ``pull`` is the net, ``pull_abs`` the sum.

    There is one for each role and ``trainer``.
    """

    role: str
    n_turns: int
    pull: float
    pull_abs: float
    turns: tuple[TurnWhy, ...]
    trainer: str = "rl"


@dataclass(frozen=True, slots=True)
class LineageReport:
    """What one step was made of, role by role and trainer by trainer; all of it, or the part of one episode.

    ``share`` is the episode's part of the sum of all pulls of the step, in [0, 1]; ``None`` where nothing pulled.
    """

    run: str
    step: int
    made_version: int
    weights_sha: str
    metrics: Mapping[str, float | None]
    roles: tuple[RoleWhy, ...]
    episode: str | None = None
    share: float | None = 1.0


def why(store: Store, run: str, step: int, limit: int = 5, episode: int | None = None) -> LineageReport:
    """The ``limit`` turns of each role and trainer that pulled hardest in a step, or in one episode it played.

    Raises ``RunNotFound``.
    """
    store.run(run)
    number = run_number(run)
    with store.read() as session:
        row = session.scalars(select(Steps).where(Steps.run_id == number, Steps.number == step)).one_or_none()
        if row is None:
            last = session.scalar(select(func.max(Steps.number)).where(Steps.run_id == number))
            raise RunNotFound(f"run {run} has no step {step}; its last is {last}: 'sparring show {run}' lists them")
        made = select(PolicyVersions.weights_sha).where(
            PolicyVersions.run_id == number, PolicyVersions.number == row.policy_version
        )
        weights = session.scalars(made).one()
        asked = Advantages.step_id == row.id
        if episode is not None:
            asked &= Advantages.turn_id.in_(select(Turns.id).where(Turns.episode_id == _played(session, row, episode)))
        pulled = select(Advantages.role, Advantages.trainer).where(asked).distinct()
        pairs = session.execute(pulled.order_by(Advantages.role, Advantages.trainer)).all()
        reasons = tuple(_role(session, row, asked, role, trainer, limit) for role, trainer in pairs)
        report = LineageReport(run, step, row.policy_version, weights, row.metrics, reasons)
        if episode is None:
            return report
        whole = session.scalar(select(func.sum(func.abs(Advantages.pull))).where(Advantages.step_id == row.id))
        share = sum(role.pull_abs for role in reasons) / whole if whole else None
        return replace(report, episode=f"{run}/{step}/{episode}", share=share)


def _played(session: Session, step: Steps, episode: int) -> int:
    """The id of an episode of a step. Raises ``RunNotFound``."""
    found = session.scalar(select(Episodes.id).where(Episodes.step_id == step.id, Episodes.number == episode))
    if found is None:
        name = f"r{step.run_id}/{step.number}"
        raise RunNotFound(f"no episode {name}/{episode}; 'sparring why {name}' tells of the whole step")
    return found


def _role(session: Session, step: Steps, asked: ColumnElement[bool], role: str, trainer: str, limit: int) -> RoleWhy:
    mine = asked & (Advantages.role == role) & (Advantages.trainer == trainer)
    totals = select(func.count(), func.sum(Advantages.pull), func.sum(func.abs(Advantages.pull))).where(mine)
    n_turns, pull, pull_abs = session.execute(totals).one()
    wanted = select(Advantages).where(mine).order_by(func.abs(Advantages.pull).desc(), Advantages.id).limit(limit)
    turns = tuple(_turn(session, step, row) for row in session.scalars(wanted).all())
    return RoleWhy(role, n_turns, pull, pull_abs, turns, trainer)


def _turn(session: Session, step: Steps, row: Advantages) -> TurnWhy:
    turn = session.get_one(Turns, row.turn_id)
    episode = session.get_one(Episodes, turn.episode_id)
    played = session.get_one(Steps, episode.step_id)  # another step than this one when the episode was borrowed
    group = session.scalars(select(Groups).where(Groups.step_id == step.id, Groups.number == row.group)).one()
    pick = session.scalars(
        select(CurriculumEvents).where(CurriculumEvents.step_id == played.id, CurriculumEvents.number == episode.pick)
    ).one()
    return TurnWhy(
        episode=f"r{played.run_id}/{played.number}/{episode.number}",
        turn=turn.number,
        node=turn.node,
        sample=turn.sample,
        said=turn.said,
        pull=row.pull,
        advantage=row.value,
        reward=row.reward,
        weight=row.weight,
        n_tokens=row.n_tokens,
        group=_group(group),
        scores=_scores(session, turn),
        task=_task(session, turn),
        arm=pick.arm,
        parameters=pick.parameters,
        sampled_by_version=session.get_one(PolicyVersions, turn.policy_version_id).number,
        trainer=row.trainer,
        token_advantages=row.tokens,
        entered=row.note,
    )


def _group(row: Groups) -> GroupRow:
    return record_of(GroupRow, Groups, row, index=row.number)


def _scores(session: Session, turn: Turns) -> tuple[ScoreWhy, ...]:
    author = aliased(Turns)
    judged = (
        select(CriterionScores, Criteria, author.author)
        .join(Scores, Scores.id == CriterionScores.score_id)
        .outerjoin(Criteria, Criteria.id == CriterionScores.criterion_id)
        .outerjoin(Rubrics, Rubrics.id == Criteria.rubric_id)
        .outerjoin(author, (author.episode_id == Rubrics.episode_id) & (author.number == Rubrics.author))
        .where(Scores.turn_id == turn.id)
        .order_by(CriterionScores.number)
    )
    parts: dict[int, list[CriterionWhy]] = defaultdict(list)
    for row in session.execute(judged).all():
        item: CriterionScores = row[0]
        criterion: Criteria | None = row[1]
        parts[item.score_id].append(
            CriterionWhy(
                text=None if criterion is None else criterion.text,
                points=None if criterion is None else criterion.points,
                share=item.share,
                validity=item.validity,
                by=item.by,
                quote=item.quote,
                rubric_turn=item.rubric_turn,
                written_by=row[2],
            )
        )
    scores = session.scalars(select(Scores).where(Scores.turn_id == turn.id).order_by(Scores.number))
    return tuple(ScoreWhy(s.name, s.value, s.validity, s.by, s.note, tuple(parts[s.id])) for s in scores)


def _task(session: Session, turn: Turns) -> TaskWhy | None:
    """The task the turn proposed, else the one in force."""
    here = select(Tasks).where(Tasks.episode_id == turn.episode_id).order_by(Tasks.number).limit(1)
    task = session.scalars(here.where(Tasks.origin_turn == turn.number)).one_or_none()
    if task is None:
        task = session.scalars(here.where(Tasks.number == turn.task)).one_or_none()
    if task is None:
        return None
    parent = None if task.parent_id is None else session.get_one(Tasks, task.parent_id)
    return TaskWhy(
        key=task.key,
        summary=task.summary,
        environment=task.environment,
        origin=task.origin,
        origin_turn=task.origin_turn,
        operator=task.operator,
        parent=task.parent_key,
        parent_summary=None if parent is None else parent.summary,
    )
