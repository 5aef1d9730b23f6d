"""Rows become Episodes again, equal to the ones that were saved (a turn with no scores has no key in ``scores``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, Select, select
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

from .fields import record_of
from .rows import parts, table
from .tables import (
    Base,
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

_AT_ONCE = 64  # episodes per round of queries: enough to make their number matter little, few enough to stay small

Columns = Row[Any]


def rebuild(session: Session, ids: Sequence[int]) -> list[Episode]:
    """The episodes with these database ids, in this order. Raises ``LookupError`` when one is not there."""
    found: dict[int, Episode] = {}
    for part in parts(list(ids), _AT_ONCE):
        found.update(_Rows(session, part).episodes())
    return [found[number] for number in ids]


def _all_of(model: type[Base], *others: Any) -> Select[Any]:
    """Every column of a table as plain rows: making ORM objects would take longer than reading them."""
    return select(*table(model).c, *others)


def _by(rows: Iterable[Columns], key: str) -> dict[int, list[Columns]]:
    found: dict[int, list[Columns]] = defaultdict(list)
    for row in rows:
        found[getattr(row, key)].append(row)
    return found


def _bare(segment: Segment | None) -> Segment | None:
    return None if segment is None else Segment(segment.text, ())


class _Rows:
    """The rows of some episodes, found by what holds them."""

    def __init__(self, session: Session, ids: list[int]) -> None:
        inside, judged = Turns.episode_id.in_(ids), (Turns.episode_id.label("episode_id"), Turns.number.label("turn"))

        def rows(wanted: Select[Any]) -> Sequence[Columns]:
            return session.execute(wanted).all()

        self.heads = rows(_all_of(Episodes).where(Episodes.id.in_(ids)))
        turns = rows(_all_of(Turns).where(inside).order_by(Turns.number))
        self.turns = _by(turns, "episode_id")
        self.tasks = _by(rows(_all_of(Tasks).where(Tasks.episode_id.in_(ids)).order_by(Tasks.number)), "episode_id")
        scores = _all_of(Scores, *judged).join(Turns, Turns.id == Scores.turn_id).where(inside)
        self.scores = _by(rows(scores.order_by(Turns.number, Scores.number)), "episode_id")
        shares = _all_of(CriterionScores).join(Scores, Scores.id == CriterionScores.score_id)
        shares = shares.join(Turns, Turns.id == Scores.turn_id).where(inside)
        self.shares = _by(rows(shares.order_by(CriterionScores.number)), "score_id")
        rubrics = _all_of(Rubrics).where(Rubrics.episode_id.in_(ids)).order_by(Rubrics.turn)
        self.rubrics = _by(rows(rubrics), "episode_id")
        criteria = _all_of(Criteria).join(Rubrics, Rubrics.id == Criteria.rubric_id).where(Rubrics.episode_id.in_(ids))
        self.criteria = _by(rows(criteria.order_by(Criteria.number)), "rubric_id")
        refusals = _all_of(Refusals, *judged).join(Turns, Turns.id == Refusals.turn_id).where(inside)
        self.refusals = _by(rows(refusals.order_by(Turns.number)), "episode_id")
        self.segments: dict[int | None, Segment | None] = {None: None}
        contexts = {key for turn in turns for key in (turn.context_id, turn.train_context_id)} - {None}
        for part in parts(sorted(contexts)):
            for row in rows(_all_of(Segments).where(Segments.id.in_(part))):
                self.segments[row.id] = record_of(Segment, Segments, row)
        versions = _all_of(PolicyVersions)
        spoken = {turn.policy_version_id for turn in turns}
        self.versions = {row.id: row.number for row in rows(versions.where(PolicyVersions.id.in_(spoken)))}

    def episodes(self) -> dict[int, Episode]:
        return {head.id: self._episode(head) for head in self.heads}

    def _episode(self, head: Columns) -> Episode:
        tasks = self.tasks[head.id]
        keys = {task.number: task.key for task in tasks}
        scores: dict[int, list[Score]] = defaultdict(list)
        for row in self.scores[head.id]:
            criteria = tuple(
                record_of(CriterionScore, CriterionScores, share, validity=Validity(share.validity))
                for share in self.shares[row.id]
            )
            scores[row.turn].append(record_of(Score, Scores, row, validity=Validity(row.validity), criteria=criteria))
        return record_of(
            Episode,
            Episodes,
            head,
            index=head.number,
            turns=tuple(self._turn(turn, keys, head.thinned is not None) for turn in self.turns[head.id]),
            tasks=tuple(
                record_of(Task, Tasks, task, skills=tuple(task.skills), parent=task.parent_key) for task in tasks
            ),
            scores={turn: tuple(given) for turn, given in scores.items()},
            rubrics={rubric.turn: self._rubric(rubric) for rubric in self.rubrics[head.id]},
            refusals={row.turn: record_of(Refusal, Refusals, row) for row in self.refusals[head.id]},
            ending=Ending(head.ending),
        )

    def _turn(self, row: Columns, keys: dict[int, str], thinned: bool) -> Turn:
        contexts = (self.segments[row.context_id], self.segments[row.train_context_id])
        if thinned:  # other episodes may still need the tokens of a context: this one no longer has them
            contexts = (_bare(contexts[0]), _bare(contexts[1]))
        return record_of(
            Turn,
            Turns,
            row,
            index=row.number,
            context=contexts[0],
            train_context=contexts[1],
            finish=None if row.finish is None else Finish(row.finish),
            policy_version=self.versions[row.policy_version_id],
            parsed=None if row.parsed_kind is None else Parsed(row.parsed_kind, row.parsed_value, row.parsed_problem),
            task=row.task_key if row.task is None else keys[row.task],
        )

    def _rubric(self, row: Columns) -> Rubric:
        criteria = tuple(
            record_of(Criterion, Criteria, item, kind=CriterionKind(item.kind)) for item in self.criteria[row.id]
        )
        return record_of(Rubric, Rubrics, row, criteria=criteria)
