"""The rubrics of a run: what they ask for, how often that was met, whether the verifier agrees, what others said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sqlalchemy import Select, case, func, select
from sqlalchemy.orm import Session, aliased

from sparring.envs.types import Episode, Score
from sparring.scenarios.errors import RunNotFound

from .paging import SCANNED, Place, episodes_after, place_of
from .queries import episode_number
from .rebuild import rebuild
from .rows import parts
from .store import Store, run_number
from .tables import Criteria, CriterionScores, Episodes, Rubrics, Steps, Tasks, Turns
from .tasks import VERIFIER

RIGHT = 0.5  # a verifier's score above this calls an answer right
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class RubricRow:
    """A rubric as one line. ``met`` is the mean share its criteria gave, ``judged`` times in all."""

    episode: str
    step: int
    turn: int
    written_by: str
    version: int
    provenance: str
    task_key: str | None
    task: str | None
    criteria: int
    points: float
    judged: int
    met: float | None


@dataclass(frozen=True, slots=True)
class RubricPage:
    """Some rubrics of a run; ``after`` is what to ask for the next ones with, ``None`` at the end."""

    run: str
    rubrics: tuple[RubricRow, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class CriterionTold:
    """A criterion: how often it was put to an answer and the mean share, among answers the verifier called right, among
    those it called wrong; ``None`` where there were none."""

    number: int
    text: str
    points: float
    kind: str
    checker: str
    judged: int
    met: float | None
    invalid: int
    met_right: float | None
    met_wrong: float | None


@dataclass(frozen=True, slots=True)
class Word:
    """What another role said about an answer: a critique, a verdict."""

    turn: int
    author: str
    said: str


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer the rubric was put to. ``share``: of the rubric's points; ``shares``: by number of the criterion."""

    turn: int
    author: str
    said: str
    share: float | None
    shares: tuple[float | None, ...]
    verifier: float | None
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class RubricStory:
    """A rubric with its record. ``agreement``: the share of ``pairs`` of a right and a wrong answer in which the rubric
    gives the right one more (a tie counts half); ``None`` without such a pair."""

    run: str
    row: RubricRow
    author: int | None
    criteria: tuple[CriterionTold, ...]
    answers: tuple[Judged, ...]
    agreement: float | None
    pairs: int


def rubrics(store: Store, run: str, after: str | None = None, limit: int = 50) -> RubricPage:
    """Rubrics of a run, newest step first, those of about ``limit`` at a time by whole episodes.

    A page may hold fewer and still not be the last: ``after`` tells. Raises ``RunNotFound``, also for an ``after``
    that no page gave.
    """
    store.run(run)
    number, start = run_number(run), None if after is None else place_of(after)
    found: list[RubricRow] = []
    last: Place | None = None
    with store.read() as session:
        episodes = episodes_after(session, number, start)
        for part in parts(episodes, _AT_ONCE):
            held = _rows(session, [row.id for row in part])
            for row in part:
                found += held.get(row.id, [])
                last = Place(row.step, row.number)
                if len(found) >= limit:
                    break
            if len(found) >= limit:
                break
    ended = len(episodes) < SCANNED and (not episodes or last == Place(episodes[-1].step, episodes[-1].number))
    return RubricPage(run, tuple(found), None if ended else str(last))


def rubric(store: Store, episode: str, turn: int) -> RubricStory:
    """The rubric filed under a turn of an episode (``r1/12/3``). Raises ``RunNotFound`` that tells which there are."""
    number, step, index = episode_number(episode)
    run = f"r{number}"
    store.run(run)
    wanted = select(Episodes.id).join(Steps, Steps.id == Episodes.step_id)
    wanted = wanted.where(Steps.run_id == number, Steps.number == step, Episodes.number == index)
    with store.read() as session:
        stored = session.scalars(wanted).one_or_none()
        if stored is None:
            raise RunNotFound(f"no episode {episode}: 'sparring show {run}' tells how far the run came")
        rows = _rows(session, [stored]).get(stored, [])
        row = next((one for one in rows if one.turn == turn), None)
        if row is None:
            there = f"it has rubrics at {', '.join(f'#{one.turn}' for one in rows)}" if rows else "it has none"
            raise RunNotFound(f"no rubric is filed under turn {turn} of {episode}; {there}")
        whole = rebuild(session, [stored])[0]
    answers = _answers(whole, turn)
    agreement, pairs = _agreement(answers)
    held = whole.rubrics[turn]
    criteria = tuple(_criterion(whole, answers, turn, at) for at in range(len(held.criteria)))
    return RubricStory(run, row, held.author, criteria, answers, agreement, pairs)


def _rows(session: Session, episodes: list[int]) -> dict[int, list[RubricRow]]:
    """By episode: its rubrics, by the turn they are filed under."""
    found: defaultdict[int, list[RubricRow]] = defaultdict(list)
    for row in session.execute(_told().where(Rubrics.episode_id.in_(episodes)).order_by(Rubrics.id)):
        place = f"r{row.run_id}/{row.step}/{row.episode}"
        written = row.written_by or "task"
        about = (row.version, row.provenance, row.key, row.summary, row.criteria, row.points or 0.0)
        found[row.episode_id].append(RubricRow(place, row.step, row.turn, written, *about, row.judged, row.met))
    return {key: sorted(rows, key=lambda one: one.turn) for key, rows in found.items()}


def _told() -> Select[Any]:
    home, writer = aliased(Turns), aliased(Turns)
    asked = select(CriterionScores.share).join(Criteria, Criteria.id == CriterionScores.criterion_id)
    asked = asked.where(Criteria.rubric_id == Rubrics.id).correlate(Rubrics)
    mine = Criteria.rubric_id == Rubrics.id
    columns: tuple[Any, ...] = (
        Rubrics.id,
        Rubrics.episode_id,
        Rubrics.turn,
        Rubrics.version,
        Rubrics.provenance,
        Steps.run_id,
        Steps.number.label("step"),
        Episodes.number.label("episode"),
        writer.author.label("written_by"),
        Tasks.key,
        Tasks.summary,
        select(func.count()).where(mine).correlate(Rubrics).scalar_subquery().label("criteria"),
        select(func.sum(_worth())).where(mine).correlate(Rubrics).scalar_subquery().label("points"),
        asked.with_only_columns(func.count(CriterionScores.share)).scalar_subquery().label("judged"),
        asked.with_only_columns(func.avg(CriterionScores.share)).scalar_subquery().label("met"),
    )
    wanted = select(*columns).join(Episodes, Episodes.id == Rubrics.episode_id)
    wanted = wanted.join(Steps, Steps.id == Episodes.step_id)
    wanted = wanted.join(home, (home.episode_id == Rubrics.episode_id) & (home.number == Rubrics.turn))
    wanted = wanted.outerjoin(writer, (writer.episode_id == Rubrics.episode_id) & (writer.number == Rubrics.author))
    return wanted.outerjoin(Tasks, (Tasks.episode_id == Rubrics.episode_id) & (Tasks.number == home.task))


def _worth() -> Any:
    """Points that can be earned: those below zero are a penalty."""
    return case((Criteria.points > 0, Criteria.points), else_=0.0)


def _answers(episode: Episode, rubric_turn: int) -> tuple[Judged, ...]:
    """Every turn the rubric was put to, in order."""
    criteria = episode.rubrics[rubric_turn].criteria
    found = []
    for turn in episode.turns:
        shares = _shares(episode.scores.get(turn.index, ()), rubric_turn)
        if not shares:
            continue
        known = [(criteria[at].points, share) for at, share in shares.items() if at < len(criteria)]
        worth = sum(points for points, share in known if share is not None and points > 0)
        total = sum(points * share for points, share in known if share is not None)
        verifier = episode.score(turn.index, VERIFIER)
        found.append(
            Judged(
                turn=turn.index,
                author=turn.author,
                said=turn.said,
                share=total / worth if worth else None,
                shares=tuple(shares.get(at) for at in range(len(criteria))),
                verifier=None if verifier is None else verifier.value,
                words=_words(episode, turn.index, turn.author),
            )
        )
    return tuple(found)


def _shares(scores: Sequence[Score], rubric_turn: int) -> dict[int, float | None]:
    return {
        item.criterion: item.share for score in scores for item in score.criteria if item.rubric_turn == rubric_turn
    }


def _words(episode: Episode, answer: int, author: str) -> tuple[Word, ...]:
    """What others said below an answer before its author spoke again; turns without tokens are the environment's."""
    heard = {answer}
    found: list[Word] = []
    for turn in episode.turns[answer + 1 :]:
        if turn.parent in heard and turn.author != author:
            heard.add(turn.index)
            if turn.author != "environment":
                found.append(Word(turn.index, turn.author, turn.said))
    return tuple(found)


def _agreement(answers: Sequence[Judged]) -> tuple[float | None, int]:
    right = [one.share for one in answers if one.share is not None and _right(one) is True]
    wrong = [one.share for one in answers if one.share is not None and _right(one) is False]
    wins = [1.0 if good > bad else 0.5 if good == bad else 0.0 for good in right for bad in wrong]
    return (fmean(wins) if wins else None), len(wins)


def _right(one: Judged) -> bool | None:
    return None if one.verifier is None else one.verifier > RIGHT


def _criterion(episode: Episode, answers: Sequence[Judged], rubric_turn: int, at: int) -> CriterionTold:
    told = episode.rubrics[rubric_turn].criteria[at]
    shares = [(share, _right(one)) for one in answers if (share := one.shares[at]) is not None]
    invalid = sum(
        item.rubric_turn == rubric_turn and item.criterion == at and item.share is None
        for scores in episode.scores.values()
        for score in scores
        for item in score.criteria
    )
    return CriterionTold(
        number=at,
        text=told.text,
        points=told.points,
        kind=str(told.kind),
        checker=told.checker,
        judged=len(shares),
        met=_mean([share for share, _ in shares]),
        invalid=invalid,
        met_right=_mean([share for share, right in shares if right is True]),
        met_wrong=_mean([share for share, right in shares if right is False]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
