"""What must fit together about rewards: names that roles and rewards ask for, and rewards that ask in a circle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from .parts import part
from .problems import KeyPath, Problems, unknown
from .registry import rewards
from .schema import Ref, Scenario


def check_rewards(scenario: Scenario, world: Any, problems: Problems) -> None:
    """Every reward of ``rewards:`` has a name no score has; one made of others (``of``), or that asks for one
    (``score``), names rewards there are, not itself."""
    own = scenario.rewards
    taken = {"verifier", *getattr(world, "scores", ())}
    for name, ref in own.items():
        if name in taken:
            problems.add(("rewards", name), f"the environment gives a score {name!r} itself; take another name")
        given = ref.options.get("of")
        for index, inner in enumerate(given if isinstance(given, (list, tuple)) else ()):
            path: KeyPath = ("rewards", name, "of", index)
            if isinstance(inner, str) and (inner == name or name in _reached(inner, own)):
                problems.add(path, f"{name!r} would be made of itself; take {inner!r} out of the circle")
            elif isinstance(inner, str):
                check_reward(inner, path, world, own, problems)
        asked = ref.options.get("score")
        if isinstance(asked, str):
            check_reward(asked, ("rewards", name, "score"), world, own, problems)


def check_reward(name: str, path: KeyPath, world: Any, own: Mapping[str, Ref], problems: Problems) -> None:
    """Whether there is a reward of this name that needs no options that were not given."""
    given = tuple(getattr(world, "scores", ()))
    if name in own or name in given:
        return
    if name not in rewards.names():
        problems.add(path, unknown("reward", name, [*own, *given, *rewards.names()]))
        return
    config = getattr(part(rewards, name, path, problems), "Config", None)
    if isinstance(config, type) and issubclass(config, BaseModel):
        try:
            config()
        except ValidationError as error:
            needed = ", ".join(str(one["loc"][0]) for one in error.errors() if one["loc"])
            problems.add(
                path, f"the reward {name!r} needs options ({needed}): give it a name of its own under rewards:"
            )


def _reached(name: str, own: Mapping[str, Ref]) -> set[str]:
    """Every reward that ``name`` is made of, directly or not."""
    found: set[str] = set()
    left = list(_inner(name, own))
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += _inner(one, own)
    return found


def _inner(name: str, own: Mapping[str, Ref]) -> Iterable[str]:
    given = own[name].options.get("of") if name in own else None
    return [one for one in given if isinstance(one, str)] if isinstance(given, (list, tuple)) else []
