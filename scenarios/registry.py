"""One registry per kind of part: a decorator, entry points in the group ``sparring.<kind>``, and "did you mean".

Built-ins use the same door as plug-ins: they are entry points of this package, so listing names imports nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from .errors import NameTaken, UnknownPart

T = TypeVar("T")


def nearest(word: str, known: Iterator[str] | list[str] | tuple[str, ...]) -> str | None:
    """The known word a person most likely meant, or ``None``."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


class Registry(Generic[T]):
    """Names to parts of one kind. ``kind`` is the singular noun people read in messages: "environment"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.group = f"sparring.{kind}"
        self._parts: dict[str, T] = {}
        self._points: dict[str, EntryPoint] | None = None

    def __call__(self, name: str) -> Callable[[Any], Any]:
        """Decorator: ``@environment("coin-flip")`` registers the class or function below it."""

        def register(part: T) -> T:
            self.add(name, part)
            return part

        return register

    def add(self, name: str, part: T) -> None:
        """Register ``part``; the same object twice is fine, another one under a taken name raises ``NameTaken``."""
        held = self._parts.get(name)
        if held is not None and not _same(held, part):
            raise NameTaken(f"{self.kind} {name!r} is already {_where(held)}; {_where(part)} needs another name")
        self._parts[name] = part

    def names(self) -> list[str]:
        """All known names, sorted, without importing any plug-in."""
        return sorted({*self._parts, *self._entry_points()})

    def get(self, name: str) -> T:
        """The part, importing its module on first use; raises ``UnknownPart`` with the nearest name."""
        if name not in self._parts:
            point = self._entry_points().get(name)
            if point is None:
                hint = nearest(name, self.names())
                meant = f"; did you mean {hint!r}?" if hint else ""
                raise UnknownPart(f"no {self.kind} named {name!r}{meant} known: {', '.join(self.names()) or 'none'}")
            self.add(name, point.load())
        return self._parts[name]

    def summary(self, name: str) -> str:
        """First line of the part's docstring."""
        return ((getattr(self.get(name), "__doc__", None) or "").strip().splitlines() or [""])[0]

    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._points is None:
            self._points = {point.name: point for point in entry_points(group=self.group)}
        return self._points


def _same(a: object, b: object) -> bool:
    return a is b or (_where(a) == _where(b) and type(a) is type(b))


def _where(part: object) -> str:
    return f"{getattr(part, '__module__', '?')}.{getattr(part, '__qualname__', repr(part))}"


def make(registry: Registry[Any], ref: Any, *args: Any, **more: Any) -> Any:
    """The part that ``ref`` (``kind`` and ``options``) names; its constructor gets its config and the rest."""
    part, options = registry.get(ref.kind), ref.options
    if registry is environments:
        part, options = wrapped(part, options)
    config = getattr(part, "Config", None)
    return part(config.model_validate(options), *args, **more) if config is not None else part(*args, **more)


def parted(part: Any, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """An environment's own options, and those of the wrappers named among them; ``null`` is none."""
    own = getattr(getattr(part, "Config", None), "model_fields", {})
    names = [name for name in options if name in wrappers.names() and name not in own]
    rest = {name: value for name, value in options.items() if name not in names}
    return rest, {name: options[name] for name in names if options[name] is not None}


def wrapped(part: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The environment's class with its wrappers around it, and its own options."""
    rest, on = parted(part, options)
    for name, given in on.items():
        wrapper = wrappers.get(name)
        part = wrapper.around(part, wrapper.Config.model_validate(given))
    return part, rest


environments: Registry[Any] = Registry("environment")
task_sources: Registry[Any] = Registry("task_source")
roles: Registry[Any] = Registry("role")
graphs: Registry[Any] = Registry("graph")
conditions: Registry[Any] = Registry("condition")
rewards: Registry[Any] = Registry("reward")
rules: Registry[Any] = Registry("rule")
engines: Registry[Any] = Registry("engine")
group_stages: Registry[Any] = Registry("group_stage")
advantages: Registry[Any] = Registry("advantage")
losses: Registry[Any] = Registry("loss")
trainers: Registry[Any] = Registry("trainer")
objectives: Registry[Any] = Registry("objective")
curricula: Registry[Any] = Registry("curriculum")
embedders: Registry[Any] = Registry("embedder")
wrappers: Registry[Any] = Registry("wrapper")

PARTS: dict[str, Registry[Any]] = {
    registry.kind: registry
    for registry in (
        environments, task_sources, roles, graphs, conditions, rewards, rules,
        engines, group_stages, advantages, losses, trainers, objectives, curricula, embedders, wrappers,
    )
}  # fmt: skip
