"""``training.objective``: a named bundle of advantage, loss and group stages, filled into the raw scenario.

What a scenario says itself stays. A bundle is a part of the registry ``objective``: a function returning the mapping.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .parts import part
from .problems import KeyPath, Problems
from .registry import objectives
from .schema import Sampling

PER_ROLE = re.compile(r"max_tokens(?: / (?P<by>[1-9][0-9]{0,3}))?")
FILLED: tuple[tuple[str, KeyPath], ...] = (
    ("advantage", ("training", "advantage")),
    ("loss", ("training", "loss")),
    ("stages", ("group", "stages")),
)


def make_way(data: dict[str, Any], overrides: Sequence[str]) -> None:
    """An objective named on the command line wins over what the file says of the things it fills."""
    if any(text.partition("=")[0].strip() == "training.objective" for text in overrides):
        for _, (section, key) in FILLED:
            if isinstance(data.get(str(section)), dict):
                data[str(section)].pop(key, None)


def expand(data: dict[str, Any], problems: Problems) -> None:
    """Fill what ``training.objective`` stands for into ``data``; an unknown name becomes a problem.

    A mapping without ``kind`` changes only those options: ``loss: {high: 0.3}``. A stage of the bundle that says
    ``max_tokens`` (or ``max_tokens / 5``) becomes one stage for every trainable role, with that role's number.
    """
    training = data.get("training")
    name = training.get("objective") if isinstance(training, dict) else None
    if not isinstance(name, str):
        return  # none, or told when the scenario's shape is checked
    bundle = _bundle(name, problems)
    if isinstance(stages := bundle.get("stages"), (list, tuple)):
        bundle = {**bundle, "stages": [one for stage in stages for one in _per_role(stage, data)]}
    for key, (section, inner) in FILLED:
        if key in bundle:
            held = data.setdefault(str(section), {})
            if isinstance(held, dict):
                held[inner] = _filled(held, str(inner), bundle[key])


def _bundle(name: str, problems: Problems) -> Mapping[str, Any]:
    path = ("training", "objective")
    read = part(objectives, name, path, problems)
    try:
        found = read() if read is not None else {}
    except Exception as error:  # a plug-in's bundle may raise anything
        problems.add(path, f"the bundle {name!r} cannot be read: {type(error).__name__}: {error}")
        return {}
    if not isinstance(found, Mapping):
        problems.add(path, f"the bundle {name!r} is {type(found).__name__}; a mapping is needed")
        return {}
    return found


def _filled(held: Mapping[str, Any], key: str, ours: Any) -> Any:
    if key not in held:
        return _copied(ours)
    theirs = held[key]
    if isinstance(theirs, dict) and "kind" not in theirs and isinstance(ours, (str, Mapping)):
        return {**({"kind": ours} if isinstance(ours, str) else _copied(ours)), **theirs}
    return theirs


def _per_role(stage: Any, data: Mapping[str, Any]) -> list[Any]:
    """``stage`` itself, or one for each trainable role where an option asks for the role's ``max_tokens``."""
    if not isinstance(stage, Mapping) or not any(_asked(value) for value in stage.values()):
        return [stage]
    named = data.get("roles")
    roles = {name: role or {} for name, role in named.items()} if isinstance(named, dict) else {}
    return [
        {key: _number(value, role) for key, value in stage.items()} | {"role": name}
        for name, role in roles.items()
        if isinstance(role, dict) and role.get("trainable", True) is not False
    ]


def _asked(value: Any) -> re.Match[str] | None:
    return PER_ROLE.fullmatch(value) if isinstance(value, str) else None


def _number(value: Any, role: Mapping[str, Any]) -> Any:
    """What ``max_tokens / 5`` is for a role; at least 1."""
    asked = _asked(value)
    if asked is None:
        return value
    sampling = role.get("sampling")
    held = sampling.get("max_tokens") if isinstance(sampling, dict) else None
    whole = held if type(held) is int else Sampling().max_tokens
    return max(1, whole // int(asked["by"] or 1))


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value
