"""Answers that need turns and tasks, over so many of a run's steps that a page stays quick, and saying over which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sparring.storage.tables import CurriculumEvents, Episodes, Refusals, Scores, Tasks, Turns

from .history import StepLine
from .shown import settings

MOST_TURNS = 8_000  # read for one answer
UNTOLD = 256  # of a step that does not tell how many it holds
MOST_COLUMNS = 60  # steps of a heat map
MOST_ROWS = 24  # its arms
SHOWN = 25  # causes listed
VERIFIER = "verifier"
BINS = 10


@dataclass(frozen=True, slots=True)
class Window:
    """The newest steps that together hold at most ``MOST_TURNS`` turns, and at least one step."""

    lines: Sequence[StepLine]
    of: int

    @property
    def ids(self) -> list[int]:
        """Their rows."""
        return [line.id for line in self.lines]

    def told(self) -> dict[str, Any]:
        """What a reader must know of it."""
        ends = (self.lines[0].number, self.lines[-1].number) if self.lines else (None, None)
        return {"first": ends[0], "last": ends[1], "steps": len(self.lines), "of": self.of}


def newest(lines: Sequence[StepLine], most: int = MOST_TURNS, by: str = "turns") -> Window:
    """The window at the end of a run; ``by`` is the figure that counts what is read."""
    taken: list[StepLine] = []
    total = 0.0
    for line in reversed(lines):
        known = line.figures.get(by)
        total += UNTOLD if known is None else known
        if taken and total > most:
            break
        taken.append(line)
    return Window(taken[::-1], len(lines))


def spread(lines: Sequence[StepLine], most: int = MOST_COLUMNS) -> list[StepLine]:
    """Evenly chosen steps, the last one among them."""
    by = -(-len(lines) // most) or 1
    return [line for at, line in enumerate(lines) if (len(lines) - 1 - at) % by == 0]


def heat(session: Session, lines: Sequence[StepLine]) -> dict[str, Any] | None:
    """Episodes asked for and their mean reward, by arm and step; ``None`` where no curriculum decided anything."""
    chosen = spread(lines)
    at = {line.id: column for column, line in enumerate(chosen)}
    e, c = Episodes, CurriculumEvents
    asked = select(c.step_id, c.number, c.arm, c.parameters, c.count.label("n")).where(c.step_id.in_(at))
    played = select(e.step_id, e.pick, func.sum(e.reward), func.count(e.reward)).where(e.step_id.in_(at))
    rewards = {(row[0], row[1]): (row[2], row[3]) for row in session.execute(played.group_by(e.step_id, e.pick))}
    cells: defaultdict[str, dict[int, list[float]]] = defaultdict(dict)  # asked for, sum of rewards, rewarded
    for row in session.execute(asked):
        total, n = rewards.get((row.step_id, row.number), (0, 0))
        cell = cells[row.arm or settings(row.parameters)].setdefault(at[row.step_id], [0, 0, 0])
        cell[0], cell[1], cell[2] = cell[0] + row.n, cell[1] + (total or 0), cell[2] + n
    if not cells:
        return None
    counts = {arm: sum(cell[0] for cell in row.values()) for arm, row in cells.items()}
    arms = sorted(sorted(counts, key=lambda arm: -counts[arm])[:MOST_ROWS], key=_natural)
    means = [mean for row in cells.values() for cell in row.values() if (mean := _mean(cell)) is not None]
    with_any = sorted({column for row in cells.values() for column in row})
    return {
        "steps": [chosen[column].number for column in with_any],
        "of": len(lines),
        "left_out": len(cells) - len(arms),
        "rows": [
            {
                "arm": arm,
                "asked": [int(cells[arm][c][0]) if c in cells[arm] else 0 for c in with_any],
                "reward": [_mean(cells[arm].get(c)) for c in with_any],
            }
            for arm in arms
        ],
        "low": min([0.0, *means]),
        "high": max([1.0, *means]),
        "most": max((cell[0] for row in cells.values() for cell in row.values()), default=0),
    }


def _mean(cell: Sequence[float] | None) -> float | None:
    return cell[1] / cell[2] if cell and cell[2] else None


def _natural(arm: str) -> list[Any]:
    """``depth=10`` after ``depth=9``."""
    parts = "".join(one if one.isdigit() else f" {one} " if one == "=" else one for one in arm).split()
    return [(0, int(part), "") if part.isdigit() and len(part) < 12 else (1, 0, part) for part in parts]


def solve_rates(session: Session, window: Window) -> dict[str, Any] | None:
    """How many tasks were solved how often: each task's share of right attempts, in ten bins."""
    key = func.coalesce(Tasks.key, Turns.task_key)
    here = (Tasks.episode_id == Turns.episode_id) & (Tasks.number == Turns.task)
    wanted = (
        select(key, func.avg(Scores.value))
        .select_from(Episodes)
        .join(Turns, Turns.episode_id == Episodes.id)
        .join(Scores, Scores.turn_id == Turns.id)
        .outerjoin(Tasks, here)
        .where(Episodes.step_id.in_(window.ids), Scores.name == VERIFIER, Scores.validity == "valued")
        .group_by(key)
    )
    rates = [row[1] for row in session.execute(wanted) if row[0] is not None and row[1] is not None]
    if not rates:
        return None
    counts = [0] * BINS
    for rate in rates:
        counts[min(max(int(rate * BINS), 0), BINS - 1)] += 1
    edges = [round(index / BINS, 2) for index in range(BINS)]
    serie = {"name": "tasks", "values": counts, "low": None, "high": None, "hue": 0}
    return {
        "title": "Solve rate over tasks", "unit": "tasks", "x_name": "solve rate from", "x": edges, "series": [serie],
        "from": 0, "to": None, "tasks": len(rates), "never": sum(rate <= 0 for rate in rates),
        "always": sum(rate >= 1 for rate in rates),
    }  # fmt: skip


def invalid(session: Session, window: Window) -> list[dict[str, Any]]:
    """Scores that could not be used, by what was said about why, the most frequent first."""
    n = func.count()
    wanted = (
        select(Scores.name, Scores.by, Scores.note, Turns.author, n.label("n"), func.min(Turns.id).label("turn"))
        .select_from(Episodes)
        .join(Turns, Turns.episode_id == Episodes.id)
        .join(Scores, Scores.turn_id == Turns.id)
        .where(Episodes.step_id.in_(window.ids), Scores.validity == "invalid")
        .group_by(Scores.name, Scores.by, Scores.note, Turns.author)
        .order_by(n.desc(), Scores.name, Scores.note)
        .limit(SHOWN)
    )
    return [
        {"score": row.name, "by": row.by, "note": row.note, "author": row.author, "n": row.n}
        for row in session.execute(wanted)
    ]


def refusals(session: Session, window: Window) -> list[dict[str, Any]]:
    """Proposals that the environment or the run refused, by reason."""
    n = func.count()
    wanted = (
        select(Refusals.reason, n.label("n"), func.min(Refusals.detail).label("detail"))
        .select_from(Episodes)
        .join(Turns, Turns.episode_id == Episodes.id)
        .join(Refusals, Refusals.turn_id == Turns.id)
        .where(Episodes.step_id.in_(window.ids))
        .group_by(Refusals.reason)
        .order_by(n.desc())
    )
    return [{"reason": row.reason, "n": row.n, "example": row.detail} for row in session.execute(wanted)]


def distinct(session: Session, lines: Sequence[StepLine]) -> Mapping[int, tuple[int, int]]:
    """By step number: how many tasks arose in it and how many different ones, over evenly chosen steps."""
    number = {line.id: line.number for line in spread(lines)}
    wanted = select(Episodes.step_id, func.count(), func.count(Tasks.key.distinct())).join(
        Tasks, Tasks.episode_id == Episodes.id
    )
    rows = session.execute(wanted.where(Episodes.step_id.in_(number)).group_by(Episodes.step_id))
    return {number[row[0]]: (row[1], row[2]) for row in rows}
