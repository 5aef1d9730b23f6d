"""Where tasks come from when no role proposes them: the environment's generator, or a JSON Lines file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.registry import task_sources

from .base import Environment, NoOptions
from .criteria import RUBRIC, kept, read_criteria
from .types import Task

_LONGEST_LINE = 1 << 20  # bytes; longer is a mistake, not a task
_REMEMBERED = 4096  # tasks kept, so that a program in a file is run once


class TaskSource(Protocol):
    """Gives tasks; ``finite`` ones can also list them all."""

    finite: bool

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A task that has these parameters; equal generators give equal tasks."""

    def tasks(self) -> Iterator[Task]:
        """Every task, in order; ``ScenarioError`` when there is no end to them."""


@task_sources("generator")
class GeneratorSource:
    """The environment's own generator."""

    Config: ClassVar[type[BaseModel]] = NoOptions
    finite = False

    def __init__(self, config: BaseModel | Mapping[str, Any] | None, environment: Environment) -> None:
        """``config`` has no fields."""
        NoOptions.model_validate(config if isinstance(config, NoOptions) else dict(config or {}))
        self._environment = environment

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A fresh task."""
        return self._environment.sample(parameters, rng)

    def tasks(self) -> Iterator[Task]:
        """There is no end to generated tasks: always ``ScenarioError``."""
        raise ScenarioError("task source 'generator' has no list of tasks; sample from it, or use kind: jsonl")


class JsonlOptions(BaseModel):
    """``path``: a UTF-8 file with one JSON object per line; blank lines are skipped."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Path


@dataclass(frozen=True, slots=True)
class _Line:
    """Where a row is, and the curriculum parameters it states."""

    number: int
    offset: int
    parameters: Mapping[str, Any]


@task_sources("jsonl")
class JsonlSource:
    """Tasks from a JSON Lines file. A row's ``rubric`` becomes the task's, unless the environment reads it itself.

    Rows stay on disk; opening checks every line and keeps its place.
    """

    Config: ClassVar[type[BaseModel]] = JsonlOptions
    finite = True

    def __init__(self, config: BaseModel | Mapping[str, Any], environment: Environment) -> None:
        """Raises ``ScenarioError`` that names file and line of the first row that cannot be a task."""
        options = config if isinstance(config, JsonlOptions) else JsonlOptions.model_validate(dict(config))
        self.path = options.path
        self._environment = environment
        self._known: dict[int, Task] = {}
        try:
            self._lines = list(self._index())
        except OSError as error:
            raise ScenarioError(f"{self.path}: cannot be read: {error.strerror}; check tasks.path") from None
        if not self._lines:
            raise ScenarioError(f"{self.path}: has no rows; write one JSON object per line")

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._lines)

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A row, uniformly among those that state none of ``parameters`` otherwise."""
        fitting = [line for line in self._lines if _fits(line.parameters, parameters)]
        if not fitting:
            raise ScenarioError(
                f"{self.path}: no row has {dict(parameters)}; add rows, or change the curriculum's arms"
            )
        return self._task(fitting[int(rng.integers(len(fitting)))])

    def tasks(self) -> Iterator[Task]:
        """Every row's task, in file order."""
        return (self._task(line) for line in self._lines)

    def _index(self) -> Iterator[_Line]:
        with self.path.open("rb") as file:
            number, offset = 0, 0
            while raw := file.readline(_LONGEST_LINE + 1):
                number += 1
                where = f"{self.path}:{number}"
                if len(raw) > _LONGEST_LINE:
                    raise ScenarioError(f"{where}: the line is longer than {_LONGEST_LINE} bytes")
                if raw.strip():
                    row = _row(raw, where)
                    self._check_fields(row, where)
                    stated = {name: row[name] for name in self._environment.parameters if name in row}
                    yield _Line(number, offset, stated)
                offset += len(raw)

    def _check_fields(self, row: Mapping[str, Any], where: str) -> None:
        for name, kind in self._environment.row_fields.items():
            if name not in row:
                raise ScenarioError(f"{where}: field {name!r} is missing; the row has {', '.join(row) or 'no fields'}")
            if not isinstance(row[name], kind):
                raise ScenarioError(f"{where}: field {name!r} must be {kind.__name__}, got {row[name]!r:.60}")
        if RUBRIC in row:
            read_criteria(row[RUBRIC], where)

    def _task(self, line: _Line) -> Task:
        task = self._known.get(line.number)
        if task is None:
            where = f"{self.path}:{line.number}"
            with self.path.open("rb") as file:
                file.seek(line.offset)
                row = _row(file.readline(_LONGEST_LINE + 1), where)
            own = RUBRIC in self._environment.row_fields  # the environment reads the field itself
            given = None if own else row.pop(RUBRIC, None)
            task = self._environment.task_from_row(row, where)
            if given is not None:
                task = replace(task, secret={**task.secret, RUBRIC: kept(read_criteria(given, where))})
            if len(self._known) < _REMEMBERED:
                self._known[line.number] = task
        return task


def _row(raw: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ScenarioError(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ScenarioError(f"{where}: nested too deeply") from None
    if not isinstance(row, dict):
        raise ScenarioError(f"{where}: a row is a JSON object, got {type(row).__name__}")
    return row


def _fits(stated: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(stated[name] == value for name, value in wanted.items() if name in stated)
