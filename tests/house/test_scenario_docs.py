"""docs/scenario.md names every key of the schema and every option of every part, with the default it really has."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sparring.scenarios.registry import PARTS
from sparring.scenarios.schema import GraphSpec, Ref, Scenario

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scenario.md").read_text()
POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
WRITTEN = {row[0].strip("`"): row[1] for row in ROWS if len(row) == 3 and row[0].startswith("`")}
OPTIONS = {(row[0], row[1].strip("`")): row[2] for row in ROWS if len(row) == 4 and row[1].startswith("`")}


def inner(annotation: typing.Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Models inside an annotation, with what a path through their container looks like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not Ref:
        yield annotation, ""
    marks = {dict: ".NAME", tuple: "[]"}
    for argument in typing.get_args(annotation):
        for model, _ in inner(argument):
            yield model, marks.get(typing.get_origin(annotation), "")


def default(field: FieldInfo) -> str:
    """The default as the page writes it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return f"`{value.kind}`" if isinstance(value, Ref) else f"`{value!r}`"


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every dotted key below ``model`` and its default; a key that only holds others has no line of its own."""
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        below = [(GraphSpec, "")] if path == "graph" else list(inner(field.annotation))
        if not below:
            yield path, "NAME" if path == "roles.NAME.kind" else default(field)
        for model_below, mark in below:
            yield from keys(model_below, f"{path}{mark}.")


def test_every_key_of_the_schema_is_on_the_page_with_its_default() -> None:
    assert dict(keys(Scenario)) == WRITTEN


def test_every_option_of_every_part_is_on_the_page_with_its_default() -> None:
    real = {
        (f"{kind.replace('_', ' ')} `{name}`", option): default(field)
        for group, points in POINTS.items()  # not registry.names(): other tests register parts of their own
        for name in points
        if (config := getattr(PARTS[kind := group.removeprefix("sparring.")].get(name), "Config", None)) is not None
        for option, field in config.model_fields.items()
    }
    assert real == OPTIONS


def test_every_command_line_override_on_the_page_is_a_key() -> None:
    tops = {key.partition(".")[0] for key in WRITTEN}
    named = re.findall(r"-s '?([a-z]+)[.=]", PAGE.replace("-s key=value", ""))
    assert named and set(named) <= tops
