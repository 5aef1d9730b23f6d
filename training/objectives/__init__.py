"""Named objectives: a YAML file each, with what it is, its formula and source, and the parts it stands for.

Adding one is a file here and a line ``NAME = "sparring.training.objectives:NAME"`` among the entry points.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.yaml_text import parse

FOLDER = Path(__file__).parent
Part = str | dict[str, Any]


class Bundle(BaseModel):
    """What an objective's file says. In a stage, ``max_tokens`` stands for that number of each trainable role."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    about: str = Field(min_length=1)
    formula: str = Field(min_length=1)
    source: str = Field(min_length=1)
    advantage: Part
    loss: Part
    stages: list[Part] = Field(default_factory=list)


class Objective:
    """One file, as a part of the registry: called, it gives the mapping; its docstring is made of the file's words."""

    def __init__(self, path: Path) -> None:
        document = parse(path.read_bytes(), str(path))
        try:
            self.bundle = Bundle.model_validate(document.value)
        except ValidationError as error:
            raise ScenarioError(f"{path}: {' '.join(str(error).split())}") from None
        self.__qualname__ = path.stem
        self.__doc__ = f"{self.bundle.about}\n\n{self.bundle.formula}\nSource: {self.bundle.source}\n"

    def __call__(self) -> dict[str, Any]:
        """``advantage``, ``loss`` and ``stages``, as a scenario would write them."""
        return self.bundle.model_dump(include={"advantage", "loss", "stages"})


def read(path: Path) -> Objective:
    """The objective in a file; raises ``ScenarioError``. Another package's entry point may call it too."""
    return Objective(path)


def __getattr__(name: str) -> Objective:
    path = FOLDER / f"{name}.yaml"
    if name.startswith("_") or not path.is_file():
        raise AttributeError(f"no objective named {name!r}; there are {', '.join(names())}")
    return read(path)


def names() -> list[str]:
    """The objectives that come with Sparring."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))
