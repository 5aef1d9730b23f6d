"""Rows in the making: ids are allocated inside the write transaction, each table is inserted in one go."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select

from .tables import (
    Advantages,
    Alarms,
    Base,
    Borrowed,
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
    Rubrics, Criteria, Scores, CriterionScores, Borrowed, Groups, Advantages, Evaluations, Alarms,
)  # fmt: skip

_ROOM = 1_000  # ids reserved at a time on a server; what is left over is lost, as with any sequence


def now() -> str:
    """UTC time stamp, ISO 8601 with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def table(model: type[Base]) -> Table:
    """The Core table of a model."""
    found = model.__table__
    assert isinstance(found, Table)
    return found


def parts(items: list[Any], size: int = 500) -> Iterable[list[Any]]:
    """``items`` in lists of at most ``size``: a statement takes only so many parameters."""
    return (items[start : start + size] for start in range(0, len(items), size))


def first_free(connection: Connection, of: Table, count: int) -> int:
    """The first of ``count`` ids in a row that are free in a table; a write transaction then has them for itself."""
    if connection.dialect.name == "postgresql":
        from .postgres import reserve

        return reserve(connection, count)
    return (connection.execute(select(func.max(of.c.id))).scalar() or 0) + 1


def new_ids(connection: Connection, of: Table) -> Iterator[int]:
    """Ids for new rows of a table, rising, that no other transaction takes; within a write transaction."""
    if connection.dialect.name != "postgresql":
        yield from itertools.count(first_free(connection, of, 1))
    while True:  # other transactions reserve too
        first = first_free(connection, of, _ROOM)
        yield from range(first, first + _ROOM)


class NewRows:
    """The rows one transaction will insert."""

    def __init__(self, connection: Connection) -> None:
        """Nothing is written before ``insert``."""
        self._connection = connection
        self.rows: dict[type[Base], list[dict[str, Any]]] = defaultdict(list)
        self._ids: dict[type[Base], Iterator[int]] = {}

    def add(self, model: type[Base], columns: dict[str, Any]) -> int:
        """A row of these columns, which get a new id; it is returned."""
        if model not in self._ids:
            self._ids[model] = new_ids(self._connection, table(model))
        columns["id"] = new = next(self._ids[model])
        self.rows[model].append(columns)
        return new

    def insert(self) -> None:
        """Write every row."""
        for model in _ORDER:
            if self.rows[model]:
                self._connection.execute(insert(table(model)), self.rows[model])
