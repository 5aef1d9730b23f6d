"""Every variant of a recipe as overrides, tried as a scenario before anything runs: controls, what measures them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import load
from sparring.scenarios.recipe_spec import words
from sparring.scenarios.schema import Scenario

from .book import Recipe, read


def measuring(recipe: Recipe, seed: int) -> list[str]:
    """What makes the scenario that every arm of this seed is measured in: the same tasks, graph and environment."""
    return [
        *words(recipe.spec.evaluate), f"evaluation.metrics={json.dumps([recipe.spec.metric])}",
        "evaluation.every=1", f"seed={seed}",
    ]  # fmt: skip


def check_variants(recipe: Recipe, controls: Sequence[str], others: Sequence[str] = ("collect",)) -> None:
    """Load the recipe and what is made of it. Raises ``ScenarioError`` with every problem of all, a line each."""
    load(recipe.file)
    wrong = []
    for key, changes in _variants(recipe, controls, others):
        try:
            load(recipe.file, changes)
        except ScenarioError as error:
            wrong += [f"{recipe.file}: {key}: {line}" for line in str(error).splitlines()]
    if wrong:
        raise ScenarioError("\n".join(wrong))


def check_block(scenario: Scenario) -> None:
    """Load every variant that a scenario's recipe: block makes, where it has one. Raises ``ScenarioError``."""
    source = scenario.resolved()["source"]
    if scenario.recipe is not None and source is not None:
        file = Path(source)
        shorter = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
        check_variants(read(shorter), list(scenario.recipe.controls), ("collect", "gpu"))


def _variants(recipe: Recipe, controls: Sequence[str], others: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    for name in controls:
        yield f"recipe.controls.{name}", words(recipe.spec.controls[name])
    yield "recipe.evaluate with recipe.metric", measuring(recipe, 0)
    for name in others:
        yield f"recipe.{name}", words(getattr(recipe.spec, name))
