"""Recipes as files: which there are, what their blocks say, which results lie beside them. Imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sparring.scenarios.digest import digest
from sparring.scenarios.errors import ScenarioError, UnknownPart
from sparring.scenarios.load import RECIPES
from sparring.scenarios.problems import unknown
from sparring.scenarios.recipe_spec import RecipeSpec
from sparring.scenarios.yaml_text import parse

COMPARED = ("metric", "controls", "evaluate", "collect")  # what of the block decides what is measured


@dataclass(frozen=True)
class Recipe:
    """One recipe's file: its block in ``spec``, and ``written``, the rest of what stands there."""

    slug: str
    file: Path
    spec: RecipeSpec
    written: dict[str, Any]

    @property
    def digest(self) -> str:
        """Content hash of what is measured: the file as written, without what is only said of it."""
        block = self.spec.model_dump(mode="json", include=set(COMPARED))
        return digest({**self.written, "recipe": block})

    @property
    def result_file(self) -> Path:
        """Where its result is written."""
        return self.file.parent / "results" / f"{self.slug}.json"


def recipes(folder: Path = RECIPES) -> list[Recipe]:
    """Every recipe of a folder, by name; other scenarios may lie beside them."""
    return [read(file) for file in sorted(folder.glob("*.yaml")) if re.search(r"^recipe:", file.read_text(), re.M)]


def recipe(word: str) -> Recipe:
    """The recipe of this name, or in the file of this path. Raises ``UnknownPart``, ``ScenarioError``."""
    known = {file.stem: file for file in RECIPES.glob("*.yaml")}
    if word in known:
        return read(known[word])
    if word.endswith((".yaml", ".yml")) and Path(word).is_file():
        return read(Path(word))
    raise UnknownPart(unknown("recipe", word, known))


def read(file: Path) -> Recipe:
    """The recipe in a file; only its block is checked. Raises ``ScenarioError``."""
    data = parse(file.read_bytes(), str(file)).value
    block = data.get("recipe") if isinstance(data, dict) else None
    if not isinstance(block, dict):
        raise ScenarioError(f"{file}: holds no recipe: block; sparring new scenario makes one without")
    try:
        spec = RecipeSpec.model_validate(block)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("recipe", *first["loc"])))
        raise ScenarioError(f"{file}: {where}: {first['msg']}; sparring check {file} says more") from error
    return Recipe(file.stem, file, spec, {key: value for key, value in data.items() if key != "recipe"})
