"""Whole runs from one database to another: every row as it stands, under new ids where they are taken.

Which table belongs to a run, and which column names a row of which table, is read off the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Boolean, Connection, Table, column, func, insert, select, text
from sqlalchemy import table as plain_table
from sqlalchemy.orm import Session, aliased

from ..rows import first_free, table
from ..tables import Base, Borrowed, Episodes, Runs, Scenarios, Steps

_OWNERS = ("run_id", "step_id", "episode_id", "turn_id", "rubric_id", "score_id")  # the first a table has is its own
_AT_ONCE = 2000  # rows per statement

Row = dict[str, Any]
Amend = Callable[[str, Row], None]


def lenders(session: Session, number: int) -> list[int]:
    """The runs whose episodes run ``number`` learnt from, and those these learnt from, oldest first."""
    found, new = set[int](), {number}
    lender = aliased(Steps)
    while new:
        wanted = select(lender.run_id).select_from(Borrowed).join(Steps, Steps.id == Borrowed.step_id)
        wanted = wanted.join(Episodes, Episodes.id == Borrowed.episode_id).join(lender, lender.id == Episodes.step_id)
        found |= new
        new = set(session.scalars(wanted.where(Steps.run_id.in_(new)).distinct())) - found
    return sorted(found - {number})


def owned(name: str) -> str:
    """SQL that holds for the rows of table ``name`` that belong to the runs ``{runs}``; empty for tables of no run."""
    if name == "runs":
        return "id IN ({runs})"
    if name == "scenarios":
        return "id IN (SELECT scenario_id FROM runs WHERE id IN ({runs}))"
    columns = Base.metadata.tables[name].columns
    owner = next((owner for owner in _OWNERS if owner in columns), None)
    if owner is None:
        return ""
    of = next(key.column.table.name for key in columns[owner].foreign_keys if key.column.name == "id")
    return f"{owner} IN ({{runs}})" if of == "runs" else f"{owner} IN (SELECT id FROM {of} WHERE {owned(of)})"


class RunCopy:
    """The way of some runs from one database into another, in the transactions of its caller."""

    def __init__(self, source: Session, target: Connection, numbers: Sequence[int]) -> None:
        """``numbers`` are the runs; their new numbers are in ``runs``, in this order."""
        self.source, self.target = source, target
        self.tables = [found for found in Base.metadata.tables.values() if owned(found.name)]
        self.known = set[int]()  # ids of scenarios that are in the target already
        self._runs = ", ".join(str(number) for number in numbers)
        top = target.execute(select(func.max(table(Runs).c.id))).scalar() or 0
        self.runs = {number: top + place for place, number in enumerate(numbers, 1)}
        self._moved = {found.name: self._move(found) for found in self.tables}

    def keep_ids(self) -> RunCopy:
        """Leave every id as it is: for a database that is empty."""
        self.runs = {number: number for number in self.runs}
        self._moved = {name: lambda old: old for name in self._moved}
        return self

    def copy(self, amend: Amend = lambda name, row: None) -> int:
        """Insert every row, first shown to ``amend`` by table with its new ids; returns how many."""
        if self.target.dialect.name == "sqlite":
            self.target.exec_driver_sql("PRAGMA defer_foreign_keys=1")  # the tables' order then does not matter
        return sum(self._copy(found, amend) for found in self.tables)

    def _move(self, of: Table) -> Callable[[int], int | None]:
        """From an id in the source to the id in the target; ``None`` for a row that is there already."""
        if of.name == "runs":
            return self.runs.__getitem__
        if of.name == "scenarios":
            return self._scenarios().__getitem__
        mine = text(f"SELECT min(id), max(id) FROM {of.name} WHERE {self._mine(of)}")
        low, high = self.source.execute(mine).one()
        if low is None:
            return lambda old: old
        shift = first_free(self.target, of, high - low + 1) - low
        return lambda old: old + shift

    def _scenarios(self) -> dict[int, int]:
        """Scenarios are stored once per content."""
        found = table(Scenarios)
        known = {row.digest: row.id for row in self.target.execute(select(found.c.digest, found.c.id))}
        top = max(known.values(), default=0)
        self.known = set(known.values())
        moved: dict[int, int] = {}
        for old, digest in self.source.execute(text(f"SELECT id, digest FROM scenarios WHERE {self._mine(found)}")):
            top += digest not in known
            moved[old] = known.setdefault(digest, top)
        return moved

    def _mine(self, of: Table) -> str:
        return owned(of.name).format(runs=self._runs)

    def _copy(self, of: Table, amend: Amend) -> int:
        keys = {"id": self._moved[of.name]}
        for found in of.columns:
            for key in found.foreign_keys:
                if key.column.name == "id":
                    keys[found.name] = self._moved[key.column.table.name]
        bare = plain_table(of.name, *(column(c.name, c.type if isinstance(c.type, Boolean) else None) for c in of.c))
        count = 0
        for rows in _by(self._rows(of, keys, amend)):
            self.target.execute(insert(bare), rows)
            count += len(rows)
        return count

    def _rows(self, of: Table, keys: dict[str, Callable[[int], int | None]], amend: Amend) -> Iterator[Row]:
        names = [found.name for found in of.columns]
        asked = ", ".join(f'"{name}"' for name in names)
        sql = text(f'SELECT {asked} FROM "{of.name}" WHERE {self._mine(of)} ORDER BY id')
        for stored in self.source.execute(sql.execution_options(yield_per=_AT_ONCE)):
            row = dict(zip(names, stored, strict=True))
            for name, moved in keys.items():
                if row[name] is not None:
                    row[name] = moved(row[name])
            amend(of.name, row)
            if not (of.name == "scenarios" and row["id"] in self.known):
                yield row


def _by(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while part := list(islice(left, _AT_ONCE)):
        yield part
