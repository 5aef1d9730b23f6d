"""What a recipe says of itself: the paper, what it is compared with, what to watch, what was measured.

It changes nothing of a run: no digest holds it. How it is measured is in ``training/recipes``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from .problems import KeyPath, Problems, unknown
from .ref import Spec

ARMS = ("recipe", "collect")  # runs of a measurement that are no control's
ASIDE = ("recipe", "name", "store", "load")  # keys that no variant of a recipe changes


class RecipeSpec(Spec):
    """A published system as a scenario: ``mechanism`` in two sentences, and how to tell whether it does anything.

    ``controls`` are overrides by name, keys dotted as after ``-s``: the mechanism off; the first is the control.
    ``metric`` is compared, on the recipe's own held-out tasks with ``evaluate`` on top; ``claim`` is the paper's
    direction of recipe minus control. With ``collect``, overrides too, a first run plays, and recipe and controls learn
    from what it stored. ``gpu`` makes it a run of a real model. ``watch``: by figure of a step, what it tells.
    """

    paper: str = Field(min_length=1)
    mechanism: str = Field(min_length=1)
    metric: str = "accuracy"
    claim: Literal["higher", "lower"] = "higher"
    controls: dict[str, dict[str, Any]] = Field(default_factory=dict)
    evaluate: dict[str, Any] = Field(default_factory=dict)
    collect: dict[str, Any] = Field(default_factory=dict)
    gpu: dict[str, Any] = Field(default_factory=dict)
    watch: dict[str, str] = Field(default_factory=dict)
    measured: str = ""


def words(overrides: Mapping[str, Any]) -> list[str]:
    """Overrides as they stand after ``-s`` on the command line.

    >>> words({"training.steps": 3, "graph": "solve"})
    ['training.steps=3', 'graph="solve"']
    """
    return [f"{key}={_written(value)}" for key, value in overrides.items()]


def check_recipe(recipe: RecipeSpec, keys: Mapping[str, Any], problems: Problems) -> None:
    """Note names and override keys that cannot be; ``keys`` are those a scenario may begin with."""
    allowed = [key for key in keys if key not in ASIDE]
    variants: dict[KeyPath, Mapping[str, Any]] = {
        ("recipe", name): getattr(recipe, name) for name in ("evaluate", "collect", "gpu")
    }
    variants |= {("recipe", "controls", name): changes for name, changes in recipe.controls.items()}
    for path, changes in variants.items():
        for key in changes:
            first = key.split(".")[0]
            if not all(key.split(".")) or first not in allowed:
                problems.add((*path, key), unknown("key", first, allowed))
    for name in recipe.controls:
        if name in ARMS or not name.replace("_", "").replace("-", "").isalnum():
            why = f"a control is named by letters, digits, _ and -, and not {' or '.join(ARMS)}"
            problems.add(("recipe", "controls", name), why)
        if not recipe.controls[name]:
            problems.add(("recipe", "controls", name), "is the recipe itself: say what it changes")


def _written(value: Any) -> str:
    """JSON that YAML reads as the same value: a float keeps its point."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, float) and math.isfinite(value):
        text = repr(value)
        mantissa, e, exponent = text.partition("e")
        return text if "." in mantissa else f"{mantissa}.0{e}{exponent}"
    return json.dumps(value)
