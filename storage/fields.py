"""Records and rows name most of their fields alike: these two functions carry those over, callers write the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

from .tables import Base

T = TypeVar("T")

_SHARED: dict[tuple[type, type[Base]], tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]] = {}


def _shared(record: type, model: type[Base]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """The names that are both a field of the record and a column of the model, and what reads all of them at once."""
    if (record, model) not in _SHARED:
        fields = (field.name for field in dataclasses.fields(record))
        names = tuple(name for name in fields if name in model.__table__.columns)
        read = attrgetter(*names) if len(names) > 1 else lambda one: tuple(getattr(one, name) for name in names)
        _SHARED[record, model] = names, read
    return _SHARED[record, model]


def columns_of(record: Any, model: type[Base], /, **others: Any) -> dict[str, Any]:
    """A row of ``model``: the record's fields of the same names, then ``others``, which win."""
    names, read = _shared(type(record), model)
    return dict(zip(names, read(record), strict=True)) | others


def record_of(kind: type[T], model: type[Base], row: Any, /, **others: Any) -> T:
    """A ``kind`` of the columns of the same names in ``row`` (selected from ``model``), then ``others``, which win."""
    return kind(**({name: getattr(row, name) for name in _shared(kind, model)[0]} | others))
