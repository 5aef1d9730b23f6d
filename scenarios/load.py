"""From a YAML file to a checked ``Scenario``: read, override, fill in, validate, check. Nothing is created on the way.

``load`` a file, ``loads`` a text, ``from_resolved`` what a run stored. Each raises one ``ScenarioError`` holding every
problem found, a line each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .bundles import expand, make_way
from .checks import check, check_numbers
from .errors import ScenarioError
from .explain import explain
from .overrides import apply
from .parts import run_user_files
from .problems import KeyPath, Problems, Sources, shown
from .registry import nearest
from .schedule import place
from .schedules import take
from .schema import GraphSpec, Scenario
from .yaml_text import MAX_BYTES, Document, parse

SHIPPED = Path(__file__).parent
RECIPES = SHIPPED / "recipes"


def load(path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in a file, checked; ``overrides`` are ``a.b.c=value``. A bare name means one of ours, a recipe too.

    Raises ``ScenarioError``.
    """
    file = _located(path)
    return _scenario(parse(_read(file), str(file)), str(file), overrides, file)


def loads(text: str | bytes, name: str = "scenario", overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in ``text``; ``name`` stands for the file in messages, relative paths start where you are."""
    return _scenario(parse(text, name), name, overrides, None)


def from_resolved(data: Mapping[str, Any], *, checked: bool = True, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario ``Scenario.resolved()`` gave, as stored with a run; raises ``ScenarioError``.

    ``checked=False`` reads the shape only: for showing a run whose parts or files are gone.
    """
    rest = {key: value for key, value in data.items() if key != "source"}
    source = data.get("source")
    file = Path(str(source)) if source is not None else None
    if checked:
        return _scenario(Document(rest, {}), "stored scenario", overrides, file)
    problems, shape = Problems(Sources("stored scenario")), _unshared(rest)
    schedules, _ = take(shape, problems)
    scenario, _ = _validated(shape, problems)
    problems.raise_if_any()
    assert scenario is not None
    scenario._path, scenario._schedules = file, schedules
    return scenario


def load_graph(path: Path) -> GraphSpec:
    """The graph in a YAML file of its own (``nodes``, ``edges``, ``start``); names are not checked here."""
    document = parse(_read(path), str(path))
    try:
        return GraphSpec.model_validate(document.value)
    except ValidationError as error:
        problems = Problems(Sources(str(path), document.lines))
        explain(error, GraphSpec, document.value, (), problems)
        problems.raise_if_any()
        raise


def _scenario(document: Document, name: str, overrides: Sequence[str], file: Path | None) -> Scenario:
    if not isinstance(document.value, dict):
        found = "nothing" if document.value is None else shown(document.value)
        raise ScenarioError(f"{name}:1: found {found}; a scenario is a mapping that starts with name: ...")
    problems = Problems(Sources(name, dict(document.lines)))
    data = _unshared(document.value)
    make_way(data, overrides)
    apply(tuple(overrides), data, problems)
    if isinstance(files := data.get("load"), list):
        run_user_files(files, file.parent if file is not None else Path.cwd(), problems)
    expand(data, problems)
    schedules, problems.silent = take(data, problems)
    scenario, wrong = _validated(data, problems)
    if scenario is not None:
        scenario._path, scenario._schedules = file, schedules
        unsure = any(path[:1] == ("graph",) or (path[:1] == ("roles",) and len(path) <= 2) for path in wrong)
        problems.silent += wrong
        scenario = check(scenario, problems, skip_graph=unsure)
        _check_ends(data, scenario, problems)
    problems.raise_if_any()
    assert scenario is not None  # without a scenario there is a problem
    return scenario


def _check_ends(data: dict[str, Any], scenario: Scenario, problems: Problems) -> None:
    """Try the scenario with every schedule at each of its ends: what is allowed there is allowed in between."""
    ends = {path: schedule.ends() for path, schedule in scenario._schedules.items()}
    for turn in range(max(map(len, ends.values()), default=0)):
        moment, there = _unshared(data), Problems(problems.sources, silent=list(problems.silent))
        for path, numbers in ends.items():
            place(moment, path, numbers[min(turn, len(numbers) - 1)])
        reached, wrong = _validated(moment, there)
        if reached is not None:
            reached._path, reached._schedules = scenario._path, scenario._schedules
            there.silent += wrong
            check_numbers(reached, there)
        for order, line in there.found:
            if (order, line) not in problems.found:
                problems.found.append((order, f"{line} (its schedule goes there)"))


def _validated(data: dict[str, Any], problems: Problems) -> tuple[Scenario | None, list[KeyPath]]:
    """The scenario, and what had to be left out to make one, so that the rest is still checked."""
    try:
        return Scenario.model_validate(data), []
    except ValidationError as error:
        wrong = explain(error, Scenario, data, (), problems)
    kept = _unshared(data)
    for path in wrong:
        _remove(kept, path)
    try:
        return Scenario.model_validate(kept), wrong
    except ValidationError:
        return None, wrong


def _remove(data: Any, path: KeyPath) -> None:
    for key in path[:-1]:
        if not (isinstance(data, dict) and key in data):
            return
        data = data[key]
    if path and isinstance(data, dict):
        data.pop(path[-1], None)


def _unshared(value: Any) -> Any:
    """A deep copy in which two aliases of one value are two values; the parser has bounded its size."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_unshared(item) for item in value]
    return value


def _located(path: str | Path) -> Path:
    file = Path(path)
    if file.exists():
        return file
    ours = shipped()
    if str(path) in ours:
        return ours[str(path)]
    beside = sorted(other.name for other in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
    hint = nearest(file.name, beside) or nearest(file.stem, list(ours))
    meant = f"; did you mean {str(file.parent / hint) if hint in beside else hint!r}?" if hint else ""
    raise ScenarioError(f"{path}: no such file{meant} scenarios that come with Sparring: {', '.join(sorted(ours))}")


def shipped() -> dict[str, Path]:
    """Scenarios and recipes that come with Sparring, by name."""
    return {file.stem: file for folder in (RECIPES, SHIPPED) for file in sorted(folder.glob("*.yaml"))}


def _read(file: Path) -> bytes:
    if file.is_dir():
        raise ScenarioError(f"{file}: is a folder; name a scenario file in it")
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ScenarioError(f"{file}: cannot be read: {error.strerror or error}") from error
