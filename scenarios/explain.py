"""Pydantic's complaints in our words: what was found, what is allowed, and the nearest known key."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from .problems import KeyPath, Problems, shown, unknown
from .registry import nearest

NEEDED = {
    "int": "a whole number is needed",
    "float": "a number is needed",
    "bool": "true or false is needed",
    "string": "text is needed",
    "dict": "a mapping is needed",
    "mapping": "a mapping is needed",
    "model": "a mapping is needed",
    "list": "a list is needed",
    "tuple": "a list is needed",
    "finite": "a finite number is needed",
}
BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def explain(error: ValidationError, model: type[BaseModel], raw: Any, at: KeyPath, problems: Problems) -> list[KeyPath]:
    """Note every complaint under ``at``; returns the paths, within ``raw``, that are wrong."""
    wrong = []
    for item in error.errors(include_url=False):
        path = _written(item["loc"], raw)
        wrong.append(path)
        problems.add(at + path, _words(item, model, path))
    return wrong


def _words(item: Any, model: type[BaseModel], path: KeyPath) -> str:
    kind, found, limits = str(item["type"]), item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown("key", str(path[-1]), keys_of(_type_at(model, path[:-1])))
    if kind == "missing":
        short = isinstance(item["loc"][-1], int)  # an entry of a list of fixed length
        return f"found {shown(found)}; more entries are needed" if short else "is required and missing"
    if kind == "literal_error":
        annotation = _type_at(model, path)  # of a union with other types, pydantic's own words say what is expected
        allowed = [shown(value) for value in get_args(annotation)] if get_origin(annotation) is Literal else []
        hint = nearest(shown(found), allowed)
        meant = f"did you mean {hint}? " if hint else ""
        return f"found {shown(found)}; {meant}allowed: {', '.join(allowed) or limits.get('expected', '')}"
    if kind in BOUNDS:
        key, words = BOUNDS[kind]
        return f"found {shown(found)}; {words} {limits.get(key)} is needed"
    if kind in ("value_error", "assertion_error"):
        return f"{limits.get('error', item['msg'])}"
    if kind in ("too_short", "string_too_short"):
        return "is empty; at least one entry is needed" if kind == "too_short" else "is empty; text is needed"
    if kind == "string_pattern_mismatch":
        return f"found {shown(found)}; letters, digits, . _ - (at most 64, the first a letter or digit) are allowed"
    needed = NEEDED.get(kind.partition("_")[0], str(item["msg"]))
    return f"found {shown(found)}; {needed}"


def keys_of(model: Any) -> list[str]:
    """The keys a mapping of this model may have in YAML."""
    fields = getattr(model, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


def _written(loc: tuple[int | str, ...], raw: Any) -> KeyPath:
    """``loc`` without the parts pydantic adds for unions: only what leads through ``raw``, and one absent last key."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        indexed = isinstance(raw, (list, tuple)) and isinstance(part, int) and part < len(raw)
        if indexed or (isinstance(raw, Mapping) and part in raw):
            raw = raw[part]
        elif not (isinstance(raw, Mapping) and index == len(loc) - 1):
            continue
        path.append(part)
    return tuple(path)


def _type_at(model: Any, path: KeyPath) -> Any:
    """The annotation that ``path`` leads to from ``model``; ``None`` when it leads nowhere."""
    current: Any = model
    for part in path:
        current = _plain(current)
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
            current = field.annotation if field is not None else None
        else:
            current = (get_args(current) or (None,))[-1 if get_origin(current) is dict else 0]
    return _plain(current)


def _plain(annotation: Any) -> Any:
    """Without Annotated and None; of a union the member that is a model, else the first."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    members = [_plain(member) for member in get_args(annotation) if member is not type(None)]
    return next((member for member in members if hasattr(member, "model_fields")), members[0])
