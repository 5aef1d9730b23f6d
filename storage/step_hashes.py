"""The hash of a step: over what it stored beside the content of its episodes, which have hashes of their own.

Three parts, ``ROWS.RUN+STATE``: the step's rows, those of its run and scenario, and the trainer state after it, absent
where there is none and gone from old steps. Column values count as they are stored, clocks included; ids do not: rows
are named by step, episode, turn and number, so the hash stays when a run moves to another database. Left out: the
folder a checkpoint lies in (an import moves it), a run's status, and which step first read a segment or met a version.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, TableClause, case, column, func, select
from sqlalchemy import table as bare_table
from sqlalchemy.orm import Session

from .codec import escape
from .tables import (
    Advantages,
    Alarms,
    Base,
    Borrowed,
    Checkpoints,
    CurriculumEvents,
    Episodes,
    Evaluations,
    Groups,
    PolicyVersions,
    Runs,
    Scenarios,
    States,
    Steps,
    Tasks,
    Turns,
)

Row = Mapping[str, Any]
Table = list[list[Any]]
COLUMNS: dict[type[Base], tuple[str, ...]] = {
    Steps: ("number", "policy_version", "metrics", "curriculum_state", "seconds", "saved_at"),
    Checkpoints: ("path", "sha", "bytes"),
    CurriculumEvents: ("number", "arm", "parameters", "count"),
    Episodes: ("number", "reward", "seconds", "hash", "thinned"),
    Tasks: ("number", "summary", "origin_turn"),
    Turns: ("number", "n_tokens"),
    Groups: (
        *("number", "trainer", "role", "node", "scope", "size", "mean", "std", "kept", "note"),
        *("pool_size", "pool_mean", "pool_std"),
    ),
    Advantages: ("trainer", "group", "role", "reward", "value", "weight", "n_tokens", "pull", "tokens", "note"),
    Evaluations: ("number", "at_step", "name", "value", "n", "parameters", "temperature"),
    Alarms: ("number", "name", "value", "bound", "note"),
    States: ("name", "value"),
}
_OF_STEP = (Checkpoints, CurriculumEvents, Episodes, Groups, Evaluations, Alarms, States)  # they name their step
KEPT_STATES = 8  # trainer state is kept for this many newest checkpoints, so only these can be resumed from
_OF_RUN, _APART = ".", "+"  # what stands before the second and the third part
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def of_new_rows(
    rows: Mapping[type[Base], Sequence[Row]],
    turns: Mapping[int, tuple[int, int]],
    lent: Sequence[str],
    weights: str,
    before: int | None,
    run: str,
) -> str:
    """The hash of a step that is about to be inserted as ``rows``, whose values are the driver's.

    ``turns`` names turns by position of their episode and number; ``lent`` are the hashes of the borrowed episodes,
    ``before`` is the number of the run's step before this one, ``run`` what ``of_run`` gives.
    """
    numbers = {row["id"]: int(row["number"]) for row in rows.get(Episodes, ())}
    tables = {
        model: [[_plain(row.get(name)) for name in COLUMNS[model]] for row in rows.get(model, ())] for model in COLUMNS
    }
    for inner in (Tasks, Turns):
        _place(tables[inner], ((numbers[row["episode_id"]],) for row in rows.get(inner, ())))
    _place(tables[Advantages], (turns[row["turn_id"]] for row in rows.get(Advantages, ())))
    return _joined(tables, [escape(weights), before, list(lent)], run)


def of_run(session: Session | Connection, run_id: int) -> str:
    """The hash of a run's and its scenario's rows; the run's status and end do not count."""
    runs, scenarios = _bare(Runs), _bare(Scenarios)
    columns = (runs.c.name, runs.c.seed, runs.c.info, runs.c.started_at, scenarios.c.digest, scenarios.c.resolved)
    wanted = select(*columns).join(scenarios, scenarios.c.id == runs.c.scenario_id).where(runs.c.id == run_id)
    return _digest([list(row) for row in session.execute(wanted)])


def of_stored_rows(session: Session | Connection, step_id: int, gap: bool = False) -> str:
    """The hash of a step as its rows are now; with ``gap`` as if the step of the number before were there.

    Raises ``LookupError`` when there is no such step, and what the driver raises on rows it cannot read.
    """
    steps, versions = _bare(Steps), _bare(PolicyVersions)
    step = session.execute(select(steps).where(steps.c.id == step_id)).mappings().one_or_none()
    if step is None:
        raise LookupError(f"no step with the id {step_id}")
    mine = (versions.c.run_id == step["run_id"]) & (versions.c.number == step["policy_version"])
    weights = session.execute(select(versions.c.weights_sha).where(mine)).scalar()
    earlier = select(func.max(steps.c.number)).where(steps.c.run_id == step["run_id"], steps.c.number < step["number"])
    before = step["number"] - 1 if gap else session.execute(earlier).scalar()
    around = [weights, before, _lent(session, step_id)]
    return _joined(_stored(session, step_id), around, of_run(session, step["run_id"]))


def differing(saved: str, found: str, states_may_be_gone: bool = True) -> list[str]:
    """What of a step is not as it was ``saved``, going by the hash ``found`` of its rows now.

    >>> differing("a.b+c", "a.b+c"), differing("a.b+c", "x.b"), differing("a.b+c", "a.y", states_may_be_gone=False)
    ([], ['rows'], ['run', 'state'])
    """
    one, other = (_parts(value) for value in (saved, found))
    wrong = [name for name, a, b in zip(("rows", "run"), one, other, strict=False) if a != b]
    gone = states_may_be_gone and not other[2]
    return wrong + (["state"] if one[2] != other[2] and not gone else [])


def _parts(value: str) -> tuple[str, str, str]:
    content, _, state = value.partition(_APART)
    rows, _, run = content.partition(_OF_RUN)
    return rows, run, state


def _stored(session: Session | Connection, step_id: int) -> dict[type[Base], Table]:
    """The rows of a step, with their places."""
    episodes, turns, steps = _bare(Episodes), _bare(Turns), _bare(Steps)
    wanted: dict[type[Base], Select[Any]] = {Steps: _asked(Steps).where(steps.c.id == step_id)}
    for model in _OF_STEP:
        wanted[model] = _asked(model).where(_bare(model).c.step_id == step_id)
    for inner in (Tasks, Turns):
        of = _bare(inner)
        found = _asked(inner, episodes.c.number).join(episodes, episodes.c.id == of.c.episode_id)
        wanted[inner] = found.where(episodes.c.step_id == step_id)
    learnt, lent = _bare(Advantages), _bare(Borrowed)
    mine = (lent.c.episode_id == episodes.c.id) & (lent.c.step_id == step_id)
    played = session.execute(select(func.count()).select_from(episodes).where(episodes.c.step_id == step_id)).scalar()
    position = case((episodes.c.step_id == step_id, episodes.c.number), else_=lent.c.number + (played or 0))
    named = _asked(Advantages, position, turns.c.number).join(turns, turns.c.id == learnt.c.turn_id)
    named = named.join(episodes, episodes.c.id == turns.c.episode_id).outerjoin(lent, mine)
    wanted[Advantages] = named.where(learnt.c.step_id == step_id)
    return {model: [[_plain(value) for value in row] for row in session.execute(wanted[model])] for model in COLUMNS}


def _asked(model: type[Base], *places: ColumnElement[Any]) -> Select[Any]:
    """The places, then the columns that count, as the driver gives them."""
    bare = _bare(model)
    names = (place.label(f"place_{number}") for number, place in enumerate(places))
    return select(*names, *(bare.c[name] for name in COLUMNS[model])).select_from(bare)


def _lent(session: Session | Connection, step_id: int) -> list[str]:
    """The hashes of the episodes a step borrowed, in order."""
    lent, episodes = _bare(Borrowed), _bare(Episodes)
    wanted = select(episodes.c.hash).join(lent, lent.c.episode_id == episodes.c.id)
    return list(session.execute(wanted.where(lent.c.step_id == step_id).order_by(lent.c.number)).scalars())


@cache
def _bare(model: type[Base]) -> TableClause:
    """A table whose columns come back as the driver gives them."""
    return bare_table(model.__tablename__, *(column(known.name) for known in model.__table__.columns))


def _place(rows: Table, places: Iterable[Sequence[int]]) -> None:
    for row, place in zip(rows, places, strict=True):
        row[:0] = place


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, int):
        return value
    if isinstance(value, bytes | memoryview):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, float):
        return None if math.isnan(value) else value + 0.0  # SQLite holds NaN as NULL and -0.0 as 0
    return int(value) if isinstance(value, bool) else value


def _joined(tables: Mapping[type[Base], Table], around: list[Any], run: str) -> str:
    for row in tables[Checkpoints]:
        row[0] = PurePosixPath(str(row[0])).name
    content = [[model.__tablename__, *sorted(tables[model], key=_order)] for model in COLUMNS if model is not States]
    states = sorted(tables[States], key=_order)
    return _digest([around, *content]) + _OF_RUN + run + (_APART + _digest(states) if states else "")


def _order(row: list[Any]) -> list[str]:
    return [str(value).rjust(12, "0") for value in row[:3]]  # places and numbers come first, or names


def _digest(value: list[Any]) -> str:
    return hashlib.sha256(_encode(value).encode("utf-8", "surrogatepass")).hexdigest()[:32]
