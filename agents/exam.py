"""The reward of teaching: how those who were taught do on tasks that were drawn to be like the one taught.

Also what such a score is good for without training: answers weighed by it when they are put to the vote.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sparring.envs.types import SIMILAR, Episode, Score, Turn
from sparring.scenarios.problems import unknown
from sparring.scenarios.registry import rewards

from .conditions import VERIFIER
from .rewards import Context, value_of

NAME = "exam"


@rewards(NAME)
class Exam:
    """How well students do, after this turn, on tasks drawn to be like the one it is about (``do: draw``).

    The mean verifier of each student's answers, then the mean over students. Missing when nobody sat an exam, invalid
    when no answer is valued. Answers below a later turn of the same role are that turn's doing. Source: learning by
    teaching, arXiv 2406.14629.
    """

    class Config(BaseModel):
        """``nodes``: only answers given at these nodes count (none: all). ``weights``: by student's role, 1 where none
        is given; 0 leaves a student out."""

        model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
        nodes: tuple[str, ...] = ()
        weights: dict[str, float] = Field(default_factory=dict)

        @field_validator("weights")
        @classmethod
        def _not_negative(cls, value: dict[str, float]) -> dict[str, float]:
            bad = next((name for name, weight in value.items() if weight < 0), None)
            if bad is not None:
                raise ValueError(f"the weight of {bad!r} is {value[bad]}; 0 leaves a student out, more counts it")
            return value

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, episode: Episode, turn: Turn, context: Context) -> Score:
        """The weighted mean over students of their mean verifier; the note says what each earned, and where."""
        config, marks = self.config, dict[str, list[float]]()
        nobody = next((name for name in config.weights if name not in context.roles), None)
        if nobody is not None:
            return Score.invalid(NAME, NAME, f"weights: {unknown('role', nobody, context.roles)}")
        sat = [one for one in answers_below(episode, turn) if config.weights.get(one.author, 1.0) > 0]
        sat = [one for one in sat if not config.nodes or one.node in config.nodes]
        if not sat:
            return Score.missing(NAME, VERIFIER, "no exam was sat")
        for one in sat:
            value = value_of(episode.score(one.index, VERIFIER))
            if value is not None:
                marks.setdefault(one.author, []).append(value)
        if not marks:
            return Score.invalid(NAME, VERIFIER, f"none of {len(sat)} answers has a valued score")
        weights = {name: config.weights.get(name, 1.0) for name in marks}
        value = math.fsum(weights[name] * fmean(marks[name]) for name in marks) / math.fsum(weights.values())
        told = ", ".join(f"{name} {fmean(marks[name]):.4g} of {len(marks[name])}" for name in marks)
        turns = " ".join(str(one.index) for one in sat)
        return Score.valued(NAME, value, VERIFIER, f"{told}; turns {turns}")


def answers_below(episode: Episode, turn: Turn) -> list[Turn]:
    """Scored turns below ``turn`` about tasks drawn to be like its own, up to the next turn of its author."""
    like = {task.key for task in episode.tasks if task.operator == SIMILAR and task.parent == turn.task}
    reached, found = {turn.index}, []
    for one in episode.turns[turn.index + 1 :]:
        if one.parent not in reached or one.author == turn.author:
            continue
        reached.add(one.index)
        if one.task in like and episode.score(one.index, VERIFIER) is not None:
            found.append(one)
    return found


def vote(answers: Sequence[str], weights: Sequence[float] | None = None) -> str:
    """The answer with the largest sum of weights; of equals the more frequent, then the first.

    >>> vote(["4", "4", "5"]), vote(["4", "4", "5"], [0.1, 0.2, 0.9])
    ('4', '5')
    """
    totals: dict[str, tuple[float, int]] = {}
    for answer, weight in zip(answers, weights or [1.0] * len(answers), strict=True):
        held = totals.get(answer, (0.0, 0))
        totals[answer] = held[0] + weight, held[1] + 1
    return max(totals, key=lambda answer: totals[answer])


def votes(episodes: Iterable[Episode]) -> dict[str, float]:
    """How often the vote among a role's sibling answers is right: ``vote/ROLE`` by number alone, ``vote/ROLE/NAME``
    weighed by the score NAME, for every score that all of the answers were given beside the verifier's.

    Only answers to one task that differ are put to the vote; where no score could weigh them there is no figure.
    """
    found: dict[str, list[float]] = {}
    for episode in episodes:
        for ballot in _ballots(episode):
            answers = [str(turn.parsed.value) for turn in ballot if turn.parsed is not None]
            right = {
                answer: value_of(episode.score(turn.index, VERIFIER)) == 1.0
                for answer, turn in zip(answers, ballot, strict=True)
            }
            weighed = _weights(episode, ballot)
            for name, weights in weighed.items():
                found.setdefault(f"vote/{ballot[0].author}/{name}", []).append(right[vote(answers, weights)])
            if weighed:
                found.setdefault(f"vote/{ballot[0].author}", []).append(right[vote(answers)])
    return {name: fmean(values) for name, values in found.items()}


def _ballots(episode: Episode) -> list[list[Turn]]:
    """Readable, verified answers under one parent at one node, where there are different ones."""
    groups: dict[tuple[str, int | None], list[Turn]] = {}
    for turn in episode.turns:
        said = turn.parsed
        if said is not None and said.ok and said.kind == "answer" and _valued(episode, turn):
            groups.setdefault((turn.node, turn.parent), []).append(turn)
    return [group for group in groups.values() if len({str(turn.parsed and turn.parsed.value) for turn in group}) > 1]


def _valued(episode: Episode, turn: Turn) -> bool:
    return value_of(episode.score(turn.index, VERIFIER)) is not None


def _weights(episode: Episode, ballot: Sequence[Turn]) -> Mapping[str, list[float]]:
    """The scores, by name, that every one of these turns was given."""
    given = [
        {score.name: score.value for score in episode.scores.get(turn.index, ()) if score.value is not None}
        for turn in ballot
    ]
    names = [name for name in given[0] if name not in (VERIFIER, "format") and all(name in one for one in given)]
    return {name: [one[name] for one in given] for name in names}
