"""Recipes as files: which there are, what their blocks say, which results lie beside them. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sparring.scenarios.digest import digest
from sparring.scenarios.errors import ScenarioError, UnknownPart
from sparring.scenarios.explain import explain
from sparring.scenarios.load import RECIPES
from sparring.scenarios.problems import Problems, Sources, unknown
from sparring.scenarios.recipe_spec import RecipeSpec
from sparring.scenarios.yaml_text import parse

COMPARED = ("metric", "controls", "evaluate", "collect")  # what of the block decides what is measured


@dataclass(frozen=True)
class Recipe:
    """One recipe's file as it was read: its block in ``spec``, and ``written``, the rest of what stands there.

    ``beside`` is empty, or ``files``: content hashes of those that its values name, as prompts and modules are.
    """

    slug: str
    file: Path
    spec: RecipeSpec
    written: dict[str, Any]
    beside: Mapping[str, Mapping[str, str]]

    @property
    def digest(self) -> str:
        """Content hash of what is measured: the file as written and files it names, without what is only said of it."""
        block = self.spec.model_dump(mode="json", include=set(COMPARED))
        return digest({**self.written, "recipe": block, **self.beside})

    @property
    def run_digest(self) -> str:
        """Content hash of what the recipe itself runs: without its block."""
        return digest({**self.written, **self.beside})

    @property
    def result_file(self) -> Path:
        """Where its result is written."""
        return self.file.parent / "results" / f"{self.slug}.json"


def recipes(folder: Path = RECIPES) -> list[Recipe]:
    """Every recipe of a folder, by name; other scenarios may lie beside them."""
    return [read(file) for file in sorted(folder.glob("*.yaml")) if re.search(rb"^recipe:", file.read_bytes(), re.M)]


def recipe(word: str) -> Recipe:
    """The recipe of this name, or in the file of this path. Raises ``UnknownPart``, ``ScenarioError``."""
    file = Path(word)
    known = {file.stem: file for file in RECIPES.glob("*.yaml")}
    if word in known:
        return read(known[word])
    if file.suffix in (".yaml", ".yml") and file.is_file():
        return read(file)
    if file.suffix in (".yaml", ".yml") or file.name != word:
        why = "not named .yaml or .yml" if file.is_file() else "is a folder" if file.is_dir() else "no such file"
        raise ScenarioError(f"{word}: {why}; name a scenario file with a recipe: block, or one of {', '.join(known)}")
    raise UnknownPart(unknown("recipe", word, known))


def read(file: Path) -> Recipe:
    """The recipe in a file; only its block is checked. Raises ``ScenarioError``."""
    try:
        document = parse(file.read_bytes(), str(file))
    except OSError as error:
        raise ScenarioError(f"{file}: cannot be read: {error.strerror or error}") from error
    data = document.value
    block = data.get("recipe") if isinstance(data, dict) else None
    if not isinstance(block, dict):
        raise ScenarioError(f"{file}: holds no recipe: block; write one, with at least its paper: and mechanism:")
    try:
        spec = RecipeSpec.model_validate(block)
    except ValidationError as error:
        problems = Problems(Sources(str(file), dict(document.lines)))
        explain(error, RecipeSpec, block, ("recipe",), problems)
        problems.raise_if_any()
        raise
    rest = {key: value for key, value in data.items() if key != "recipe"}
    return Recipe(
        file.stem, file, spec, rest, _beside(file, [rest, spec.model_dump(mode="json", include=set(COMPARED))])
    )


def put(file: Path, text: str) -> None:
    """Write a file whole or not at all: a full disk leaves the one that was there."""
    target = file.resolve()
    aside = target.with_name(f".{target.name}.new")
    try:
        aside.write_bytes(text.encode())
        if target.exists():
            shutil.copymode(target, aside)
        os.replace(aside, target)
    except OSError as error:
        aside.unlink(missing_ok=True)
        error.filename, error.filename2 = str(file), None
        raise


def _beside(file: Path, values: Any) -> dict[str, dict[str, str]]:
    named = {word: file.parent / word for word in _texts(values)}
    try:
        found = {word: hashlib.sha256(one.read_bytes()).hexdigest() for word, one in named.items() if _is_file(one)}
    except OSError as error:
        raise ScenarioError(f"{error.filename}: {file} names it, and it cannot be read: {error.strerror}") from error
    return {"files": found} if found else {}


def _texts(value: Any) -> Iterator[str]:
    """Every text among the values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a text too long to be a name
        return False
