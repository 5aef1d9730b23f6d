"""One played episode becomes rows: its tasks, turns, rubrics, scores and refusals. ``rebuild`` is the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sparring.envs.types import SIMILAR, Episode, Score, Segment, Task, Turn

from .codec import narrowed
from .fields import columns_of
from .hashes import Blobs, blobs_of, episode_hash
from .rows import NewRows
from .tables import Criteria, CriterionScores, Episodes, Refusals, Rubrics, Scores, Tasks, Turns


class Known(NamedTuple):
    """Row ids the episodes of one step share; ``parents`` (task key -> newest task) grows with every task added."""

    run_id: int
    step_id: int
    versions: Mapping[int, int]
    segments: Mapping[Segment, int]
    parents: dict[str, int]


class EpisodeRows:
    """Adds the rows of one episode to ``rows``; ``turn_ids`` then maps its turn indices to row ids."""

    def __init__(self, rows: NewRows, known: Known, episode: Episode, reward: float | None) -> None:
        """``reward`` is the episode's mean combined reward."""
        self.rows, self.known, self.episode = rows, known, episode
        row = columns_of(episode, Episodes, step_id=known.step_id, number=episode.index, ending=str(episode.ending))
        blobs = [blobs_of(turn) for turn in episode.turns]
        self.id = rows.add(Episodes, {**row, "reward": reward, "hash": episode_hash(episode, blobs)})
        self._tasks()
        self.turn_ids = {turn.index: self._turn(turn, blobs[turn.index]) for turn in episode.turns}
        criteria = self._rubrics()
        for index in sorted(episode.scores):
            for number, score in enumerate(episode.scores[index]):
                self._score(self.turn_ids[index], number, score, criteria)
        for index in sorted(episode.refusals):
            refusal = columns_of(episode.refusals[index], Refusals, turn_id=self.turn_ids[index])
            rows.add(Refusals, refusal)

    def _tasks(self) -> None:
        self.numbers: dict[str, int] = {}
        parents = self.known.parents
        for number, task in enumerate(self.episode.tasks):
            self.numbers.setdefault(task.key, number)
            row = columns_of(
                task,
                Tasks,
                run_id=self.known.run_id,
                episode_id=self.id,
                number=number,
                summary=summary(task),
                skills=list(task.skills),
                origin_turn=origin_turn(self.episode, task),
                parent_key=task.parent,
                parent_id=None if task.parent is None else parents.get(task.parent),
            )
            parents[task.key] = self.rows.add(Tasks, row)

    def _turn(self, turn: Turn, blobs: Blobs) -> int:
        parsed, stored = turn.parsed, self.numbers.get(turn.task) if turn.task is not None else None
        segments = self.known.segments
        row = columns_of(
            turn,
            Turns,
            episode_id=self.id,
            number=turn.index,
            n_tokens=len(turn.token_ids),
            token_ids=narrowed(blobs.tokens),
            logprobs=blobs.logprobs,
            seed=int(turn.seed),
            finish=None if turn.finish is None else str(turn.finish),
            parsed_kind=None if parsed is None else parsed.kind,
            parsed_value=None if parsed is None else parsed.value,
            parsed_problem=None if parsed is None else parsed.problem,
            task=stored,
            task_key=turn.task if stored is None else None,
            policy_version_id=self.known.versions[turn.policy_version],
            context_id=None if turn.context is None else segments[turn.context],
            train_context_id=None if turn.train_context is None else segments[turn.train_context],
        )
        return self.rows.add(Turns, row)

    def _rubrics(self) -> dict[tuple[int | None, int], int]:
        """(turn that wrote the rubric, criterion number) -> criterion row id."""
        found: dict[tuple[int | None, int], int] = {}
        for index in sorted(self.episode.rubrics):
            rubric = self.episode.rubrics[index]
            rubric_id = self.rows.add(Rubrics, columns_of(rubric, Rubrics, episode_id=self.id, turn=index))
            for number, item in enumerate(rubric.criteria):
                row = columns_of(item, Criteria, rubric_id=rubric_id, number=number, kind=str(item.kind))
                found[index, number] = new = self.rows.add(Criteria, row)
                found.setdefault((rubric.author, number), new)
        return found

    def _score(self, turn_id: int, number: int, score: Score, criteria: dict[tuple[int | None, int], int]) -> None:
        row = columns_of(score, Scores, turn_id=turn_id, number=number, validity=str(score.validity))
        score_id = self.rows.add(Scores, row)
        for place, item in enumerate(score.criteria):
            row = columns_of(item, CriterionScores, score_id=score_id, number=place, validity=str(item.validity))
            row["criterion_id"] = criteria.get((item.rubric_turn, item.criterion))
            self.rows.add(CriterionScores, row)


def summary(task: Task) -> str:
    """The task in at most 60 characters on one line: the first text in its payload, for people."""
    text = next((value for value in task.payload.values() if isinstance(value, str)), "") or str(dict(task.payload))
    line = "; ".join(part for part in text.split("\n") if part)
    return line if len(line) <= 60 else line[:59] + "…"


def origin_turn(episode: Episode, task: Task) -> int | None:
    """The turn that proposed a task: the first under it, or its parent when the environment spoke; ``None`` if given.

    A task in force from the root on was given to the episode, unless the root's author is the task's ``origin``. One
    that was drawn nobody proposed: it has a parent.
    """
    if task.operator == SIMILAR:
        return None
    first = next((turn for turn in episode.turns if turn.task == task.key), None)
    if first is None or (first.parent is None and task.origin not in (first.author, first.node)):
        return None
    return first.parent if first.author == "environment" and first.parent is not None else first.index
