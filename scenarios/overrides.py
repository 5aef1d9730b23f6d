"""``-s a.b.c=value``: one value of a scenario, replaced from the command line before anything is checked."""

from __future__ import annotations

from typing import Any

from .errors import ScenarioError
from .problems import KeyPath, Problems
from .yaml_text import parse


def apply(overrides: tuple[str, ...] | list[str], data: dict[str, Any], problems: Problems) -> None:
    """Write each override into ``data``, in order; later ones win. What cannot be written becomes a problem."""
    for text in overrides:
        where = f"-s {text}"
        path, value, problem = _split(text, where)
        problem = problem or _write(data, path, value)
        if problem:
            problems.add_elsewhere(where, problem)
            continue
        sources = problems.sources
        for old in [key for key in sources.lines if key[: len(path)] == path]:
            del sources.lines[old]
        for old in [key for key in sources.overrides if key[: len(path)] == path]:
            del sources.overrides[old]
        sources.overrides[path] = where


def _split(text: str, where: str) -> tuple[KeyPath, Any, str]:
    key, equals, value = text.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        return (), None, "an override is written key=value or key.inner=value"
    try:
        parsed = parse(value, where).value
    except ScenarioError as error:
        return (), None, str(error).removeprefix(where).lstrip(":0123456789 ")
    return tuple(names), parsed, ""


def _write(data: dict[str, Any], path: KeyPath, value: Any) -> str:
    """Set ``value`` at ``path``, opening the short forms on the way; the reason when that is not possible."""
    here: Any = data
    for depth, name in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(here, list):
            if not str(name).isdigit() or int(name) >= len(here):
                return f"{'.'.join(map(str, path[:depth]))} is a list of {len(here)}; give a position from 0"
            name = int(name)
        elif not isinstance(here, dict):
            return f"{'.'.join(map(str, path[:depth]))} is {here!r}, which has no keys"
        if last:
            here[name] = value
            return ""
        inner = here.get(name) if isinstance(here, dict) else here[name]
        if name == "graph" and depth == 0 and isinstance(inner, str):
            return f"graph is the preset {inner!r}; copy its nodes and edges into the scenario to change them"
        here[name] = inner = _opened(inner, str(name), str(path[depth + 1]))
        here = inner
    return ""


def _opened(value: Any, name: str, inner: str) -> Any:
    """A short form as the mapping it stands for: ``sec`` is ``{kind: sec}``, a list of rewards weighs 1 each."""
    if value is None:
        return {}
    if isinstance(value, str) and name not in ("name", "model", "prompt", "dtype", "url"):
        return {"kind": value}
    if name == "reward" and isinstance(value, list) and not inner.isdigit():
        return {str(item): 1.0 for item in value}
    return value
