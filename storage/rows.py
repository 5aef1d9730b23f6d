"""Rows in the making: ids are allocated inside the write transaction, each table is inserted in one go."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Dialect, Table, insert
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeDecorator

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

Packer = Callable[[Any], Any]

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
    return (connection.exec_driver_sql(f'SELECT max(id) FROM "{of.name}"').scalar() or 0) + 1


def new_ids(connection: Connection, of: Table) -> Iterator[int]:
    """Ids for new rows of a table, rising, that no other transaction takes; within a write transaction."""
    if connection.dialect.name != "postgresql":
        yield from itertools.count(first_free(connection, of, 1))
    while True:  # other transactions reserve too
        first = first_free(connection, of, _ROOM)
        yield from range(first, first + _ROOM)


class NewRows:
    """The rows one transaction will insert, each column already as the driver takes it: ``rows`` by model.

    SQLAlchemy's own insert asks every statement anew how values are bound; here a type is asked once.
    """

    def __init__(self, connection: Connection) -> None:
        """Nothing is written before ``insert``."""
        self._connection = connection
        self.rows: dict[type[Base], list[dict[str, Any]]] = defaultdict(list)
        self._ids: dict[type[Base], Iterator[int]] = {}
        self._packers: dict[type[Base], list[tuple[str, Packer]]] = {}

    def add(self, model: type[Base], columns: dict[str, Any]) -> int:
        """A row of these columns, which get a new id; it is returned."""
        if model not in self._ids:
            self._ids[model] = new_ids(self._connection, table(model))
            self._packers[model] = _packers(model, self._connection.dialect)
        columns["id"] = new = next(self._ids[model])
        for name, pack in self._packers[model]:
            if name in columns:
                columns[name] = pack(columns[name])
        self.rows[model].append(columns)
        return new

    def insert(self) -> None:
        """Write every row."""
        for model in _ORDER:
            if rows := self.rows[model]:
                names = tuple(rows[0])
                sql, order = _statement(model, names, self._connection.dialect)
                given = rows if order is None else [tuple([row[name] for name in order]) for row in rows]
                self._connection.exec_driver_sql(sql, given)


def _packers(model: type[Base], dialect: Dialect) -> list[tuple[str, Packer]]:
    """Which columns take another value than a record's, and how it is made: ``columns.py`` says.

    What their types are made of (text, doubles, bytes) the drivers take as it is.
    """
    own = ((column.key, column.type) for column in table(model).columns)
    return [
        (name, partial(kind.process_bind_param, dialect=dialect))
        for name, kind in own
        if isinstance(kind, TypeDecorator)
    ]


_STATEMENTS: dict[tuple[type[Base], tuple[str, ...], str], tuple[str, list[str] | None]] = {}


def _statement(model: type[Base], names: tuple[str, ...], dialect: Dialect) -> tuple[str, list[str] | None]:
    """An INSERT of these columns as the driver reads it, and their order where it takes them by place."""
    key = (model, names, f"{dialect.name}+{dialect.driver}")
    if key not in _STATEMENTS:
        compiled = insert(table(model)).compile(dialect=dialect, column_keys=list(names))
        assert isinstance(compiled, SQLCompiler)
        _STATEMENTS[key] = (str(compiled), compiled.positiontup)
    return _STATEMENTS[key]
