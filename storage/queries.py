"""What the command line and the page read: runs, steps, episodes, hashes of a run, and any SELECT."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, bindparam, select, text
from sqlalchemy.orm import Session

from sparring.envs.types import Episode
from sparring.scenarios.errors import RunNotFound, StoreError

from .codec import unescape, unpack_figures, unpack_json
from .damage import wrong_steps
from .hashes import lasting, sha
from .rebuild import rebuild
from .records import RunRow, StoredEpisode
from .rows import parts
from .store import Store, describe, run_number
from .tables import (
    Advantages,
    Alarms,
    Borrowed,
    CurriculumEvents,
    Episodes,
    Evaluations,
    Groups,
    PolicyVersions,
    Runs,
    Scenarios,
    States,
    Steps,
    Turns,
)

Order = Literal["best", "worst", "latest"]


@dataclass(frozen=True, slots=True)
class StepSummary:
    """One row of ``v_steps``."""

    run: str
    step: int
    episodes: int
    broken: int
    refused: int
    turns: int
    tokens: int
    reward: float | None
    borrowed: int
    borrowed_reward: float | None
    trainers: str
    pull: float | None
    groups: int
    groups_kept: int
    policy_version: int
    weights_sha: str
    checkpoint: str | None
    metrics: Mapping[str, float | None]
    seconds: float
    saved_at: str


@dataclass(frozen=True, slots=True)
class EpisodeSummary:
    """One row of ``v_episodes``; ``episode`` is its public id such as ``r1/12/3``."""

    episode: str
    run: str
    step: int
    arm: str
    parameters: Mapping[str, Any]
    ending: str
    reward: float | None
    task: str | None
    tasks: int
    turns: int
    tokens: int | None
    pull: float | None
    borrowed: int
    invalid: int
    error: str
    seconds: float
    hash: str


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to a SELECT."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def runs(store: Store) -> list[RunRow]:
    """Every run, oldest first."""
    with store.read() as session:
        return [describe(session, row, store.is_held) for row in session.scalars(select(Runs).order_by(Runs.id)).all()]


def run(store: Store, run: str) -> RunRow:
    """One run. Raises ``RunNotFound``."""
    return store.run(run)


def steps(store: Store, run: str, step: int | None = None) -> list[StepSummary]:
    """Every step of a run, in order, or the one of that number, if it is there. Raises ``RunNotFound``."""
    store.run(run)
    one = "" if step is None else " AND step = :step"  # the view counts turns: not of every step for the sake of one
    sql = text(f"SELECT * FROM v_steps WHERE run = :run{one} ORDER BY step")
    with store.read() as session:
        found = [dict(row) for row in session.execute(sql, {"run": run, "step": step}).mappings()]
    return [
        StepSummary(**{**row, "tokens": row["tokens"] or 0, "metrics": unpack_figures(unescape(row["metrics"]))})
        for row in found
    ]


def episodes(
    store: Store, run: str, order: Order = "latest", step: int | None = None, limit: int = 20
) -> list[EpisodeSummary]:
    """Episodes of a run (or one step of it): ``best`` and ``worst`` by mean combined reward, those without one last."""
    store.run(run)
    orders: dict[str, tuple[ColumnElement[Any], ...]] = {
        "best": (Episodes.reward.desc().nulls_last(), Episodes.id.asc()),
        "worst": (Episodes.reward.asc().nulls_last(), Episodes.id.asc()),
        "latest": (Steps.number.desc(), Episodes.number.desc()),
    }
    wanted = select(Episodes.id).join(Steps).where(Steps.run_id == run_number(run))
    wanted = wanted.order_by(*orders[order]).limit(limit)
    if step is not None:
        wanted = wanted.where(Steps.number == step)
    sql = text("SELECT * FROM v_episodes WHERE episode_id IN :ids").bindparams(bindparam("ids", expanding=True))
    with store.read() as session:
        ids = list(session.scalars(wanted))
        found = {row["episode_id"]: dict(row) for row in session.execute(sql, {"ids": ids}).mappings()}
    return [_summary(found[number]) for number in ids]


def _summary(row: dict[str, Any]) -> EpisodeSummary:
    del row["episode_id"]
    words = {name: unescape(row[name]) for name in ("arm", "ending", "error", "task") if row[name] is not None}
    return EpisodeSummary(**{**row, **words, "parameters": unpack_json(unescape(row["parameters"]))})


def episode(store: Store, run: str, episode: str) -> Episode:
    """The episode with this public id (``r1/12/3``, or ``12/3`` within the run), equal to the one that was saved.

    A turn that was saved with an empty tuple of scores has no key in ``scores``. Raises ``RunNotFound``.
    """
    number, step, index = episode_number(episode if episode.startswith("r") else f"{run}/{episode}")
    wanted = select(Episodes.id).join(Steps)
    wanted = wanted.where(Steps.run_id == number, Steps.number == step, Episodes.number == index)
    with store.read() as session:
        stored = session.scalars(wanted).one_or_none()
        if stored is None:
            raise RunNotFound(f"no episode {episode} in run r{number}: 'sparring show r{number}' lists them")
        return rebuild(session, [stored])[0]


def episode_number(episode: str) -> tuple[int, int, int]:
    """The run number, step and index of a public episode id: ``r1/12/3`` -> (1, 12, 3). Raises ``RunNotFound``."""
    found = re.fullmatch(r"r([0-9]{1,9})/([0-9]{1,9})/([0-9]{1,9})", episode)
    if found is None:
        raise RunNotFound(f"{episode!r} is no episode id; ids look like r1/12/3 (run, step, episode)")
    return int(found[1]), int(found[2]), int(found[3])


def stored_episodes(
    store: Store, run: str, steps: range | None = None, limit: int | None = None, offset: int = 0
) -> list[StoredEpisode]:
    """Whole episodes of a run, to learn from again: ordered by step, then by number within the step.

    ``steps`` picks steps by number (default: all); ``limit`` and ``offset`` cut the ordered list. Each record equals
    the one that was saved, NaN log-probs included; its ``pick`` is an index within its own step. Episodes that broke
    or were refused are among them. Raises ``RunNotFound``.
    """
    store.run(run)
    wanted = select(Episodes.id, Steps.number.label("step")).join(Steps).where(Steps.run_id == run_number(run))
    if steps is not None:
        low, high = (min(steps[0], steps[-1]), max(steps[0], steps[-1])) if steps else (0, -1)
        wanted = wanted.where(Steps.number.between(low, high), (Steps.number - low) % abs(steps.step) == 0)
    wanted = wanted.order_by(Steps.number, Episodes.number).limit(limit).offset(offset)
    with store.read() as session:
        rows = session.execute(wanted).all()
        episodes = rebuild(session, [row.id for row in rows])
    return [StoredEpisode(row.id, row.step, episode) for row, episode in zip(rows, episodes, strict=True)]


def episode_ids(store: Store, run: str, places: Sequence[tuple[int, int]]) -> list[int]:
    """Database ids of episodes of a run, each given by step and position there.

    A step's positions count the episodes it played in order, then those it borrowed. Raises ``RunNotFound``, and
    ``StoreError`` where there is no such episode.
    """
    store.run(run)
    played = select(Steps.number.label("step"), Episodes.id).join(Episodes, Episodes.step_id == Steps.id)
    lent = select(Steps.number.label("step"), Borrowed.episode_id.label("id")).join(
        Borrowed, Borrowed.step_id == Steps.id
    )
    found: defaultdict[int, list[int]] = defaultdict(list)
    with store.read() as session:
        for part in parts(sorted({step for step, _ in places})):
            here = (Steps.run_id == run_number(run)) & Steps.number.in_(part)
            for wanted in (played.where(here).order_by(Episodes.number), lent.where(here).order_by(Borrowed.number)):
                for row in session.execute(wanted):
                    found[row.step].append(row.id)
    for step, position in places:
        if not 0 <= position < len(found[step]):
            raise StoreError(
                f"run {run}, step {step}: no episode at position {position} is stored; the step has {len(found[step])}"
            )
    return [found[step][position] for step, position in places]


def damaged(store: Store, run: str) -> list[str]:
    """Public ids of episodes and steps whose rows no longer match the hash they were saved with."""
    with store.read() as session:
        ids = session.scalars(select(Steps.id).where(Steps.run_id == run_number(run)).order_by(Steps.number)).all()
        return [finding.where for finding in wrong_steps(session, ids)]


def run_hash(store: Store, run: str) -> str:
    """Hash of what a run did, without clocks, ids, paths and its name: equal for a resumed and an unbroken run."""
    number = run_number(run)
    store.run(run)
    with store.read() as session:
        return sha(_run_content(session, number))


def _run_content(session: Session, number: int) -> Iterator[list[Any]]:
    row = session.get_one(Runs, number)
    yield [session.get_one(Scenarios, row.scenario_id).digest, row.seed]
    last = None
    wanted = select(Steps, PolicyVersions.weights_sha).join(
        PolicyVersions, (PolicyVersions.run_id == Steps.run_id) & (PolicyVersions.number == Steps.policy_version)
    )
    for step, weights in session.execute(wanted.where(Steps.run_id == number).order_by(Steps.number)).all():
        yield [step.number, step.policy_version, weights, lasting(step.metrics), step.curriculum_state]
        yield from _step_content(session, step.id)
        last = step.id
    for state in session.scalars(select(States).where(States.step_id == last).order_by(States.name)):
        yield [state.name, state.value]


def _step_content(session: Session, step_id: int) -> Iterator[list[Any]]:
    """Borrowed episodes count by their content: their ids differ from database to database."""
    c, b, g, a, v, w = CurriculumEvents, Borrowed, Groups, Advantages, Evaluations, Alarms
    mine = (b.step_id == step_id) & (b.episode_id == Episodes.id)
    compared = (g.number, g.trainer, g.role, g.node, g.scope, g.size, g.mean, g.std, g.kept, g.note)
    learnt = (a.trainer, a.role, a.group, a.reward, a.value, a.weight, a.n_tokens, a.pull, a.tokens, a.note)
    for wanted in (
        select(c.number, c.arm, c.parameters, c.count).where(c.step_id == step_id).order_by(c.number),
        select(Episodes.number, Episodes.hash).where(Episodes.step_id == step_id).order_by(Episodes.number),
        select(b.number, Episodes.hash).join(Episodes).where(b.step_id == step_id).order_by(b.number),
        select(*compared, g.pool_size, g.pool_mean, g.pool_std).where(g.step_id == step_id).order_by(g.number),
        select(b.number, Episodes.number, Turns.number, *learnt)
        .select_from(a)
        .join(Turns)
        .join(Episodes)
        .outerjoin(b, mine)
        .where(a.step_id == step_id)
        .order_by(b.number.nulls_first(), Episodes.number, Turns.number, a.trainer),
        select(v.at_step, v.name, v.value, v.n, v.parameters, v.temperature)
        .where(v.step_id == step_id)
        .order_by(v.number),
        select(w.name, w.value, w.bound, w.note).where(w.step_id == step_id).order_by(w.number),
    ):
        yield from (list(row) for row in session.execute(wanted))


def select_rows(store: Store, sql: str, limit: int = 1000) -> Rows:
    """The first ``limit`` rows of any statement that reads. Raises ``StoreError`` on one that would write."""
    answer = store.ask(sql, limit)
    return Rows(answer.columns, answer.rows)
