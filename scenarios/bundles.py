"""``training.objective``: a named bundle of advantage, loss, group stages and rewards, filled into the raw scenario.

What a scenario says itself stays. A bundle is a part of the registry ``objective``: a function returning the mapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .parts import part
from .problems import KeyPath, Problems
from .registry import objectives

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

    A mapping without ``kind`` changes only those options: ``loss: {high: 0.3}``. A bundle's rewards are added to every
    trainable role that does not weigh them itself.
    """
    training = data.get("training")
    name = training.get("objective") if isinstance(training, dict) else None
    if not isinstance(name, str):
        return  # none, or told when the scenario's shape is checked
    bundle = _bundle(name, problems)
    for key, (section, inner) in FILLED:
        if key in bundle:
            held = data.setdefault(str(section), {})
            if isinstance(held, dict):
                held[inner] = _filled(held, str(inner), bundle[key])
    rewards = bundle.get("rewards") or {}
    for role in _trained(data) if rewards else ():
        weights = _weights(role["reward"])
        role["reward"] = weights | {reward: weight for reward, weight in rewards.items() if reward not in weights}


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


def _trained(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Trainable roles whose rewards are written in a way that another can be added to."""
    named = data.get("roles")
    roles = named.values() if isinstance(named, dict) else ()
    return [
        role
        for role in roles
        if isinstance(role, dict) and role.get("trainable", True) is True and _weights(role.get("reward"))
    ]


def _weights(reward: Any) -> dict[str, Any]:
    """A role's rewards in their long form; empty when they are not sound."""
    names = [reward] if isinstance(reward, str) else reward
    if isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
        return dict.fromkeys(names, 1.0)
    return dict(reward) if isinstance(reward, dict) else {}


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value
