"""Records and rows name most of their fields alike: these two functions carry those over, callers write the rest."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from .tables import Base

T = TypeVar("T")

_SHARED: dict[tuple[type, type[Base]], tuple[str, ...]] = {}


def _shared(record: type, model: type[Base]) -> tuple[str, ...]:
    """The names that are both a field of the record and a column of the model."""
    if (record, model) not in _SHARED:
        names = (field.name for field in dataclasses.fields(record))
        _SHARED[record, model] = tuple(name for name in names if name in model.__table__.columns)
    return _SHARED[record, model]


def columns_of(record: Any, model: type[Base], /, **others: Any) -> dict[str, Any]:
    """A row of ``model``: the record's fields of the same names, then ``others``, which win."""
    return {name: getattr(record, name) for name in _shared(type(record), model)} | others


def record_of(kind: type[T], model: type[Base], row: Any, /, **others: Any) -> T:
    """A ``kind`` of the columns of the same names in ``row`` (selected from ``model``), then ``others``, which win."""
    return kind(**({name: getattr(row, name) for name in _shared(kind, model)} | others))
