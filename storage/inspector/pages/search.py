"""Search over what was said, over tasks and over criteria: the newest rows first, so many for one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, String, func, select, type_coerce
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from sparring.scenarios.errors import RunNotFound
from sparring.storage.inspector.registry import Asked, Link, Model, NotThere, page
from sparring.storage.store import Store, run_number
from sparring.storage.tables import Criteria, Episodes, Rubrics, Runs, Steps, Tasks, Turns

AT_ONCE = 20_000  # rows looked through for one answer
PER_PAGE = 40
AROUND = 120  # characters shown on either side of what was found
LONGEST = 200  # characters of a question


@dataclass(frozen=True, slots=True)
class Place:
    """A column that is searched: ``rows`` selects it with where it stands, ``plural`` names its rows."""

    plural: str
    id: InstrumentedAttribute[int]
    text: InstrumentedAttribute[str]
    rows: Select[*tuple[Any, ...]]


_HOLDER = aliased(Turns)  # the turn that a rubric is filed under
_WHERE = (Steps.run_id, Steps.number.label("step"), Episodes.number.label("episode"))
PLACES = {
    "turns": Place(
        "turns",
        Turns.id,
        Turns.said,
        select(Turns.id, Turns.said.label("text"), *_WHERE, Turns.number.label("turn"), Turns.author.label("by"))
        .select_from(Turns)
        .join(Episodes, Episodes.id == Turns.episode_id)
        .join(Steps, Steps.id == Episodes.step_id),
    ),
    "tasks": Place(
        "tasks",
        Tasks.id,
        Tasks.summary,
        select(Tasks.id, Tasks.summary.label("text"), *_WHERE, Tasks.key, Tasks.origin.label("by"))
        .select_from(Tasks)
        .join(Episodes, Episodes.id == Tasks.episode_id)
        .join(Steps, Steps.id == Episodes.step_id),
    ),
    "criteria": Place(
        "criteria",
        Criteria.id,
        Criteria.text,
        select(Criteria.id, Criteria.text.label("text"), *_WHERE, Rubrics.turn.label("turn"), Criteria.kind.label("by"))
        .select_from(Criteria)
        .join(Rubrics, Rubrics.id == Criteria.rubric_id)
        .join(Episodes, Episodes.id == Rubrics.episode_id)
        .join(Steps, Steps.id == Episodes.step_id),
    ),
}


@page("/search", "search.html", "Search")
def search(store: Store, asked: Asked) -> Model:
    """Rows that hold ``q``: ``where`` chooses turns, tasks or criteria, ``run`` a run; ``before`` goes on."""
    where, run = asked.query.get("where", "turns"), asked.query.get("run", "")
    if where not in PLACES:
        raise NotThere(f"{where!r} cannot be searched; {', '.join(PLACES)} can", [Link("Search", "/search")])
    words = "".join(one for one in asked.query.get("q", "").strip() if one.isprintable())[:LONGEST]
    with store.read() as session:
        runs = [f"r{number}" for number in session.scalars(select(Runs.id).order_by(Runs.id.desc()).limit(50))]
        if run and (run not in runs) and not _there(session, run):
            raise NotThere(f"no run {run} to search in", [Link(one, f"/runs/{one}") for one in runs[:20]])
        found = _found(session, PLACES[where], words, run, asked.count("before", 0)) if words else None
    return {"q": words, "where": where, "run": run, "runs": runs, "places": list(PLACES), "found": found}


def _there(session: Session, run: str) -> bool:
    try:
        return session.get(Runs, run_number(run)) is not None
    except RunNotFound:
        return False


def _found(session: Session, place: Place, words: str, run: str, before: int) -> dict[str, Any]:
    """What a window of rows holds, and where to go on."""
    first, last = _ends(session, place, run)
    below = min(before or last + 1, last + 1)
    inside = (place.id >= first) & (place.id < below)
    earliest = select(place.id).where(inside).order_by(place.id.desc()).offset(AT_ONCE - 1).limit(1)
    from_id = session.scalar(earliest) or first  # ids leave gaps where several write at once
    rows = place.rows.where(place.id >= from_id, place.id < below)
    if run:
        rows = rows.where(Steps.run_id == run_number(run))
    hit: ColumnElement[bool] = type_coerce(place.text, String).icontains(words, autoescape=True)
    answer = session.execute(rows.where(hit).order_by(place.id.desc()).limit(PER_PAGE + 1)).all()
    shown = answer[:PER_PAGE]
    if len(answer) > PER_PAGE:
        from_id = shown[-1].id
    looked = session.scalar(select(func.count()).where(place.id >= from_id, place.id < below))
    return {
        "rows": [_row(dict(row._mapping), words) for row in shown],
        "looked_at": looked,
        "plural": place.plural,
        "next": from_id if from_id > first else None,
        "newest": below > last,
    }


def _ends(session: Session, place: Place, run: str) -> tuple[int, int]:
    """The smallest and largest id there is, of a run where one is given: its own lie between those of its steps."""
    if not run:
        low, high = session.execute(select(func.min(place.id), func.max(place.id))).one()
        return low or 0, high or 0
    mine = select(Episodes.step_id).join(Steps).where(Steps.run_id == run_number(run))
    ends = []
    for step in (mine.order_by(Steps.number).limit(1), mine.order_by(Steps.number.desc()).limit(1)):
        inside = place.rows.where(Episodes.step_id == step.scalar_subquery()).subquery()
        ends.append(session.execute(select(func.min(inside.c.id), func.max(inside.c.id))).one())
    return (ends[0][0] or 0), (ends[1][1] or (1 << 62))


def _row(row: dict[str, Any], words: str) -> dict[str, Any]:
    """A row with its address and the passage around the first place that holds the words."""
    text = row.pop("text")
    del row["id"]
    at = max(text.lower().find(words.lower()), 0)
    start, end = max(at - AROUND, 0), at + len(words) + AROUND
    run = f"r{row.pop('run_id')}"
    return row | {
        "run": run,
        "name": f"{run}/{row['step']}/{row['episode']}",
        "before": ("…" if start else "") + text[start:at],
        "hit": text[at : at + len(words)],
        "after": text[at + len(words) : end] + ("…" if end < len(text) else ""),
    }
