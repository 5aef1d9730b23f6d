"""Rows become an Episode again, equal to the one that was saved (a turn with no scores has no key in ``scores``)."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import select
from sqlalchemy.orm import Session

from sparring.envs.types import (
    Criterion,
    CriterionKind,
    CriterionScore,
    Ending,
    Episode,
    Finish,
    Parsed,
    Refusal,
    Rubric,
    Score,
    Segment,
    Task,
    Turn,
    Validity,
)

from .tables import (
    Criteria,
    CriterionScores,
    Episodes,
    PolicyVersions,
    Refusals,
    Rubrics,
    Scores,
    Segments,
    Tasks,
    Turns,
)


def rebuild(session: Session, row: Episodes) -> Episode:
    """The episode of this row."""
    turn_rows = session.scalars(select(Turns).where(Turns.episode_id == row.id).order_by(Turns.number)).all()
    task_rows = session.scalars(select(Tasks).where(Tasks.episode_id == row.id).order_by(Tasks.number)).all()
    tasks = tuple(_task(task) for task in task_rows)
    keys = {task.number: task.key for task in task_rows}
    numbers = {turn.id: turn.number for turn in turn_rows}
    segments, versions = _segments(session, row), _versions(session, row)
    refusals = session.scalars(select(Refusals).join(Turns).where(Turns.episode_id == row.id)).all()
    return Episode(
        index=row.number,
        pick=row.pick,
        parameters=row.parameters,
        turns=tuple(_turn(turn, segments, versions, keys) for turn in turn_rows),
        tasks=tasks,
        scores=_scores(session, row, numbers),
        rubrics=_rubrics(session, row),
        refusals={numbers[item.turn_id]: Refusal(item.reason, item.detail) for item in refusals},
        ending=Ending(row.ending),
        error=row.error,
        seconds=row.seconds,
    )


def _segments(session: Session, row: Episodes) -> dict[int | None, Segment | None]:
    ids = select(Turns.context_id).where(Turns.episode_id == row.id)
    train_ids = select(Turns.train_context_id).where(Turns.episode_id == row.id, Turns.train_context_id.is_not(None))
    rows = session.scalars(select(Segments).where(Segments.id.in_(ids.union(train_ids)))).all()
    return {None: None, **{item.id: Segment(item.text, item.token_ids) for item in rows}}


def _versions(session: Session, row: Episodes) -> dict[int, int]:
    ids = select(Turns.policy_version_id).where(Turns.episode_id == row.id)
    found = session.execute(select(PolicyVersions.id, PolicyVersions.number).where(PolicyVersions.id.in_(ids)))
    return {item.id: item.number for item in found}


def _turn(
    row: Turns, segments: dict[int | None, Segment | None], versions: dict[int, int], keys: dict[int, str]
) -> Turn:
    return Turn(
        index=row.number,
        parent=row.parent,
        node=row.node,
        author=row.author,
        said=row.said,
        sample=row.sample,
        follows=row.follows,
        context=segments[row.context_id],
        train_context=segments[row.train_context_id],
        token_ids=row.token_ids,
        logprobs=row.logprobs,
        finish=None if row.finish is None else Finish(row.finish),
        policy_version=versions[row.policy_version_id],
        engine=row.engine,
        parsed=None if row.parsed_kind is None else Parsed(row.parsed_kind, row.parsed_value, row.parsed_problem),
        task=row.task_key if row.task is None else keys[row.task],
        seed=row.seed,
    )


def _task(row: Tasks) -> Task:
    return Task(
        environment=row.environment,
        payload=row.payload,
        secret=row.secret,
        parameters=row.parameters,
        skills=tuple(row.skills),
        origin=row.origin,
        parent=row.parent_key,
        operator=row.operator,
        key=row.key,
    )


def _scores(session: Session, row: Episodes, numbers: dict[int, int]) -> dict[int, tuple[Score, ...]]:
    in_episode = Turns.episode_id == row.id
    parts: dict[int, list[CriterionScore]] = defaultdict(list)
    judged = select(CriterionScores).join(Scores).join(Turns).where(in_episode).order_by(CriterionScores.number)
    for item in session.scalars(judged):
        verdict = Validity(item.validity)
        parts[item.score_id].append(
            CriterionScore(item.rubric_turn, item.criterion, item.share, verdict, item.by, item.quote)
        )
    found: dict[int, list[Score]] = defaultdict(list)
    for score in session.scalars(select(Scores).join(Turns).where(in_episode).order_by(Turns.number, Scores.number)):
        criteria = tuple(parts[score.id])
        made = Score(score.name, score.value, Validity(score.validity), score.by, score.note, criteria)
        found[numbers[score.turn_id]].append(made)
    return {turn: tuple(scores) for turn, scores in found.items()}


def _rubrics(session: Session, row: Episodes) -> dict[int, Rubric]:
    criteria: dict[int, list[Criterion]] = defaultdict(list)
    written = select(Criteria).join(Rubrics).where(Rubrics.episode_id == row.id).order_by(Criteria.number)
    for item in session.scalars(written):
        kind = CriterionKind(item.kind)
        criteria[item.rubric_id].append(Criterion(item.text, item.points, kind, item.checker))
    rubrics = session.scalars(select(Rubrics).where(Rubrics.episode_id == row.id).order_by(Rubrics.turn))
    return {r.turn: Rubric(tuple(criteria[r.id]), r.author, r.version, r.provenance) for r in rubrics}
