"""One StepRecord becomes rows: ids are allocated inside the transaction, each table is inserted in one go."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, update

from sparring.envs.types import CriterionScore, Episode, Score, Segment, Task, Turn
from sparring.scenarios.errors import StoreError

from .hashes import episode_hash
from .records import StepRecord
from .tables import (
    Advantages,
    Base,
    Checkpoints,
    Criteria,
    CriterionScores,
    CurriculumEvents,
    Episodes,
    Evaluations,
    Groups,
    PolicyVersions,
    Refusals,
    Rubrics,
    Scores,
    Segments,
    States,
    Steps,
    Tasks,
    Turns,
)

# Parents before children; foreign keys that point back are checked at commit.
_ORDER: tuple[type[Base], ...] = (
    Steps, PolicyVersions, Checkpoints, CurriculumEvents, States, Segments, Episodes, Tasks, Turns, Refusals,
    Rubrics, Criteria, Scores, CriterionScores, Groups, Advantages, Evaluations,
)  # fmt: skip


def now() -> str:
    """UTC time stamp, ISO 8601 with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def table(model: type[Base]) -> Table:
    """The Core table of a model."""
    found = model.__table__
    assert isinstance(found, Table)
    return found


class StepWriter:
    """Collects the rows of one step and inserts them; lives within one write transaction."""

    def __init__(self, connection: Connection, run_id: int, record: StepRecord) -> None:
        """``run_id`` is the run's integer id; nothing is written before ``write``."""
        self.connection = connection
        self.run_id = run_id
        self.record = record
        self.rows: dict[type[Base], list[dict[str, Any]]] = defaultdict(list)
        self.ids: dict[type[Base], Iterator[int]] = {}
        self.turn_ids: dict[tuple[int, int], int] = {}

    def write(self) -> None:
        """Insert everything."""
        self.step_id = self._new_id(Steps)
        self._step()
        self.versions = self._policy_versions()
        self.segments = self._segments()
        parents = self._parent_tasks()
        for episode in self.record.episodes:
            self._episode(episode, parents)
        self._learning()
        for model in _ORDER:
            if self.rows[model]:
                self.connection.execute(insert(table(model)), self.rows[model])

    def _new_id(self, model: type[Base]) -> int:
        if model not in self.ids:
            top = self.connection.execute(select(func.max(table(model).c.id))).scalar()
            self.ids[model] = itertools.count((top or 0) + 1)
        return next(self.ids[model])

    def _add(self, model: type[Base], **columns: Any) -> int:
        """A row with a new id, which is returned."""
        new = self._new_id(model)
        columns["id"] = new
        self.rows[model].append(columns)
        return new

    def _step(self) -> None:
        record, step_id = self.record, self.step_id
        self.rows[Steps].append(
            {
                "id": step_id,
                "run_id": self.run_id,
                "number": record.step,
                "policy_version": record.policy_version,
                "metrics": record.metrics,
                "curriculum_state": record.curriculum_state,
                "seconds": float(record.seconds),
                "saved_at": now(),
            }
        )
        if record.checkpoint is not None:
            saved = record.checkpoint
            self._add(Checkpoints, step_id=step_id, path=saved.path, sha=saved.sha, bytes=int(saved.bytes))
        for number, pick in enumerate(record.picks):
            self._add(
                CurriculumEvents,
                step_id=step_id,
                number=number,
                arm=pick.arm,
                parameters=pick.parameters,
                count=pick.count,
            )
        for name in sorted(record.state):
            self._add(States, step_id=step_id, name=name, value=record.state[name])

    def _policy_versions(self) -> dict[int, int]:
        """Version number -> row id, adding versions not met before. Behaviour versions may come without a hash."""
        record, versions = self.record, PolicyVersions
        needed = {turn.policy_version for episode in record.episodes for turn in episode.turns} | {
            record.policy_version
        }
        rows = self.connection.execute(
            select(versions.id, versions.number, versions.weights_sha).where(
                versions.run_id == self.run_id, versions.number.in_(needed)
            )
        ).all()
        found = {row.number: row.id for row in rows}
        known = {row.number: row.weights_sha for row in rows}.get(record.policy_version)
        if known == "":
            named = update(versions).where(versions.id == found[record.policy_version])
            self.connection.execute(named.values(weights_sha=record.weights_sha))
        elif known is not None and known != record.weights_sha:
            raise StoreError(
                f"step {record.step}: policy version {record.policy_version} has weights {record.weights_sha!r}, "
                f"but the run holds it with {known!r}; count the version up whenever the weights change"
            )
        for number in sorted(needed - found.keys()):
            weights = record.weights_sha if number == record.policy_version else ""
            columns = {"run_id": self.run_id, "number": number, "weights_sha": weights, "step_id": self.step_id}
            found[number] = self._add(versions, **columns)
        return found

    def _segments(self) -> dict[Segment, int]:
        """Segment -> row id, adding those this run has not met before."""
        turns = [turn for episode in self.record.episodes for turn in episode.turns]
        wanted: dict[Segment, tuple[str, bytes]] = {}
        for segment in itertools.chain.from_iterable((turn.context, turn.train_context) for turn in turns):
            if segment is not None and segment not in wanted:
                text = segment.text.encode("utf-8", "surrogatepass")
                wanted[segment] = (segment.key, hashlib.blake2b(text, digest_size=8).digest())
        known = self._known_segments(sorted({key for key, _ in wanted.values()}))
        found: dict[Segment, int] = {}
        for segment, natural in wanted.items():
            if natural not in known:
                known[natural] = self._add(
                    Segments,
                    run_id=self.run_id,
                    step_id=self.step_id,
                    key=natural[0],
                    text_hash=natural[1],
                    text=segment.text,
                    token_ids=segment.token_ids,
                    n_tokens=len(segment.token_ids),
                )
            found[segment] = known[natural]
        return found

    def _known_segments(self, keys: list[str]) -> dict[tuple[str, bytes], int]:
        found: dict[tuple[str, bytes], int] = {}
        columns = select(Segments.key, Segments.text_hash, Segments.id).where(Segments.run_id == self.run_id)
        for part in _parts(keys, 500):
            rows = self.connection.execute(columns.where(Segments.key.in_(part)))
            found.update({(row.key, bytes(row.text_hash)): row.id for row in rows})
        return found

    def _parent_tasks(self) -> dict[str, int]:
        """Key -> row id of the newest earlier task, for the parents that tasks of this step name."""
        keys = {task.parent for episode in self.record.episodes for task in episode.tasks if task.parent is not None}
        found: dict[str, int] = {}
        for part in _parts(sorted(keys), 500):
            rows = self.connection.execute(
                select(Tasks.key, func.max(Tasks.id).label("id"))
                .where(Tasks.run_id == self.run_id, Tasks.key.in_(part))
                .group_by(Tasks.key)
            )
            found.update({row.key: row.id for row in rows})
        return found

    def _episode(self, episode: Episode, parents: dict[str, int]) -> None:
        rewards = [r.reward for r in self.record.advantages if r.episode == episode.index and r.reward is not None]
        episode_id = self._add(
            Episodes,
            step_id=self.step_id,
            number=episode.index,
            pick=episode.pick,
            parameters=episode.parameters,
            ending=str(episode.ending),
            error=episode.error,
            seconds=float(episode.seconds),
            reward=sum(rewards) / len(rewards) if rewards else None,
            hash=episode_hash(episode),
        )
        numbers: dict[str, int] = {}
        for number, task in enumerate(episode.tasks):
            numbers.setdefault(task.key, number)
            self._task(episode, episode_id, number, task, parents)
        for turn in episode.turns:
            self._turn(episode, episode_id, turn, numbers)
        criteria = self._rubrics(episode, episode_id)
        for index in sorted(episode.scores):
            for number, score in enumerate(episode.scores[index]):
                self._score(self.turn_ids[episode.index, index], number, score, criteria)
        for index in sorted(episode.refusals):
            refusal, turn_id = episode.refusals[index], self.turn_ids[episode.index, index]
            self._add(Refusals, turn_id=turn_id, reason=refusal.reason, detail=refusal.detail)

    def _task(self, episode: Episode, episode_id: int, number: int, task: Task, parents: dict[str, int]) -> None:
        task_id = self._add(
            Tasks,
            run_id=self.run_id,
            episode_id=episode_id,
            number=number,
            key=task.key,
            environment=task.environment,
            summary=summary(task),
            payload=task.payload,
            secret=task.secret,
            parameters=task.parameters,
            skills=list(task.skills),
            origin=task.origin,
            operator=task.operator,
            origin_turn=origin_turn(episode, task),
            parent_key=task.parent,
            parent_id=None if task.parent is None else parents.get(task.parent),
        )
        parents[task.key] = task_id

    def _turn(self, episode: Episode, episode_id: int, turn: Turn, tasks: dict[str, int]) -> None:
        parsed, stored = turn.parsed, tasks.get(turn.task) if turn.task is not None else None
        self.turn_ids[episode.index, turn.index] = self._add(
            Turns,
            episode_id=episode_id,
            number=turn.index,
            parent=turn.parent,
            follows=turn.follows,
            node=turn.node,
            author=turn.author,
            sample=turn.sample,
            said=turn.said,
            n_tokens=len(turn.token_ids),
            token_ids=turn.token_ids,
            logprobs=turn.logprobs,
            engine=turn.engine,
            seed=int(turn.seed),
            finish=None if turn.finish is None else str(turn.finish),
            parsed_kind=None if parsed is None else parsed.kind,
            parsed_value=None if parsed is None else parsed.value,
            parsed_problem=None if parsed is None else parsed.problem,
            task=stored,
            task_key=turn.task if stored is None else None,
            policy_version_id=self.versions[turn.policy_version],
            context_id=None if turn.context is None else self.segments[turn.context],
            train_context_id=None if turn.train_context is None else self.segments[turn.train_context],
        )

    def _rubrics(self, episode: Episode, episode_id: int) -> dict[tuple[int | None, int], int]:
        """(turn that wrote the rubric, criterion number) -> criterion row id."""
        found: dict[tuple[int | None, int], int] = {}
        for index in sorted(episode.rubrics):
            rubric = episode.rubrics[index]
            rubric_id = self._add(
                Rubrics,
                episode_id=episode_id,
                turn=index,
                author=rubric.author,
                version=rubric.version,
                provenance=rubric.provenance,
            )
            for number, item in enumerate(rubric.criteria):
                new = self._add(
                    Criteria,
                    rubric_id=rubric_id,
                    number=number,
                    text=item.text,
                    points=float(item.points),
                    kind=str(item.kind),
                    checker=item.checker,
                )
                found[index, number] = new
                found.setdefault((rubric.author, number), new)
        return found

    def _score(self, turn_id: int, number: int, score: Score, criteria: dict[tuple[int | None, int], int]) -> None:
        score_id = self._add(
            Scores,
            turn_id=turn_id,
            number=number,
            name=score.name,
            value=_float(score.value),
            validity=str(score.validity),
            by=score.by,
            note=score.note,
        )
        for place, item in enumerate(score.criteria):
            self._criterion_score(score_id, place, item, criteria.get((item.rubric_turn, item.criterion)))

    def _criterion_score(self, score_id: int, place: int, item: CriterionScore, criterion_id: int | None) -> None:
        self._add(
            CriterionScores,
            score_id=score_id,
            number=place,
            criterion_id=criterion_id,
            rubric_turn=item.rubric_turn,
            criterion=item.criterion,
            share=_float(item.share),
            validity=str(item.validity),
            by=item.by,
            quote=item.quote,
        )

    def _learning(self) -> None:
        """Groups, advantages and evaluations."""
        for group in self.record.groups:
            self._add(
                Groups,
                step_id=self.step_id,
                number=group.index,
                role=group.role,
                node=group.node,
                scope=group.scope,
                size=group.size,
                mean=_float(group.mean),
                std=_float(group.std),
                kept=bool(group.kept),
                note=group.note,
            )
        for row in self.record.advantages:
            self._add(
                Advantages,
                step_id=self.step_id,
                turn_id=self.turn_ids[row.episode, row.turn],
                group=row.group,
                role=row.role,
                reward=_float(row.reward),
                value=float(row.value),
                weight=float(row.weight),
                n_tokens=int(row.n_tokens),
                pull=float(row.pull),
            )
        for number, item in enumerate(self.record.evaluations):
            self._add(
                Evaluations,
                step_id=self.step_id,
                number=number,
                at_step=item.step,
                name=item.name,
                n=int(item.n),
                value=float(item.value),
                parameters=item.parameters,
                temperature=float(item.temperature),
            )


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _parts(items: list[str], size: int) -> Iterable[list[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def summary(task: Task) -> str:
    """The task in at most 60 characters on one line: the first text in its payload, for people."""
    text = next((value for value in task.payload.values() if isinstance(value, str)), "") or str(dict(task.payload))
    line = "; ".join(part for part in text.split("\n") if part)
    return line if len(line) <= 60 else line[:59] + "…"


def origin_turn(episode: Episode, task: Task) -> int | None:
    """The turn that proposed a task: the first under it, or its parent when the environment spoke; ``None`` if given.

    A task in force from the root on was given to the episode, unless the root's author is the task's ``origin``.
    """
    first = next((turn for turn in episode.turns if turn.task == task.key), None)
    if first is None or (first.parent is None and task.origin not in (first.author, first.node)):
        return None
    return first.parent if first.author == "environment" and first.parent is not None else first.index
