"""docs/scenario.md names every key of the schema with its real default, docs/parts.md every option of every part."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path

import check_docs
import part_pages
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sparring.scenarios.registry import PARTS
from sparring.scenarios.schema import GraphSpec, Ref, Scenario
from sparring.scenarios.yaml_text import parse
from sparring.training.losses.kl import Kl
from sparring.training.losses.policy import PolicyGradient

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scenario.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
WRITTEN = {row[0].strip("`"): row[1] for row in ROWS if len(row) == 3 and row[0].startswith("`")}

NAMED = ("roles.NAME.kind", "training.trainers.NAME.kind")


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
    """Every dotted key below ``model`` and its default; a key that only holds others has no line of its own.

    A trainer's ``kind`` defaults to its name as a role's does, and its options stand beside its own keys.
    """
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        below = [(GraphSpec, "")] if path == "graph" else list(inner(field.annotation))
        if not below and path != "training.trainers.NAME.options":
            yield path, "NAME" if path in NAMED else default(field)
        for model_below, mark in below:
            yield from keys(model_below, f"{path}{mark}.")


def test_every_key_of_the_schema_is_on_the_page_with_its_default() -> None:
    assert dict(keys(Scenario)) == WRITTEN


def test_page_of_parts_is_what_the_code_says() -> None:
    assert part_pages.PAGE.read_text() == part_pages.page(), "python tools/part_pages.py writes it anew"


def test_page_of_parts_has_a_section_for_every_kind_of_part() -> None:
    assert set(part_pages.KINDS) == set(PARTS)
    page = part_pages.page()
    missing = [name for points in part_pages.parts().values() for name in points if f"`{name}`" not in page]
    assert missing == []


def test_every_option_of_every_part_is_explained() -> None:
    unexplained = {
        (kind, name): options
        for kind, named in part_pages.parts().items()
        for name, part in named.items()
        if (options := part_pages.unexplained(part))
    }
    assert unexplained == {}


def test_page_of_parts_explains_nothing_that_a_docstring_does() -> None:
    assert part_pages.needless() == []


def test_preset_of_a_loss_lists_only_what_it_sets_otherwise() -> None:
    losses = part_pages.parts()["loss"]
    section = part_pages.described(losses["dapo"], losses, [])
    assert "`mask: clip`, `high: 0.28`." in section
    assert "| option |" not in section and "outer_low" not in section


def test_every_command_line_override_on_the_page_is_a_key() -> None:
    tops = {key.partition(".")[0] for key in WRITTEN}
    named = re.findall(r"-s '?([a-z]+)[.=]", PAGE.replace("-s key=value", ""))
    assert named and set(named) <= tops


def test_table_of_presets_says_what_their_options_are() -> None:
    losses = part_pages.parts()["loss"]
    shown = {row[0].strip("`"): row[1:5] for row in rows("## The policy loss")}
    real = {}
    for name, part in losses.items():
        config = part.value.Config()
        real[name] = [f"`{value}`" for value in (config.mask, config.level, config.denominator, config.aggregate)]
    assert shown == real


def test_table_of_kl_terms_is_what_the_option_takes() -> None:
    for term, _, written in rows("## KL to the reference"):
        if written == "refused":
            with pytest.raises(ValueError, match="no gradient on average"):
                Kl.model_validate({"coefficient": 0.01, "estimate": "k1"})
            continue
        kl = PolicyGradient.Config.model_validate(parse(written.strip("`"), "page").value).kl
        assert kl is not None and (kl.estimate in term, " ratio" in term, kl.into in term) == (True, kl.ratio, True)


def test_page_whose_fragment_does_not_load_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- fragment -->\n```yaml\ntraining: {loss: dapoo, steps: 3}\n```\n")
    [line] = check_docs.fragments(page)
    assert line.startswith("page.md:1: ") and "did you mean 'dapo'" in line


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of docs/training.md, without its two first lines."""
    page = (ROOT / "docs" / "training.md").read_text().partition(heading)[2].partition("\n## ")[0]
    lines = [line for line in page.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
