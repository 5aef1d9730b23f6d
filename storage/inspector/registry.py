"""The pages by address. A page is a function that reads the store and returns plain data.

To add one, write a module in ``pages/`` (it is found by itself) and a template in ``templates/``::

    @page("/runs/{run}/steps/{step}", "step.html", "Step {step}")
    def step(store: Store, asked: Asked) -> Model:
        run, number = asked.words["run"], asked.number("step")
        ...                                            # raise NotThere(text, there=[Link(...)]) for a 404 that helps
        return {"reward": 0.5, "live": still_running}  # "live": the page asks for itself again every few seconds

    {% extends "base.html" %}{% from "parts.html" import figure %}
    {% block main %}{{ reward | number }} ... {{ figure(curve) }}{% endblock %}

The model may hold dataclasses, enums, tuples and NaN: ``plain`` makes JSON of it, the template gets that same JSON as
its variables (``reward`` above) besides ``page`` (title, path, twin, crumbs). ``/runs/r1/steps/3.json`` answers with
it. Crumbs are the registered pages whose address begins this one. ``asked.query`` holds what follows ``?``;
``asked.count("after", 0)`` reads a number of it. Roles are coloured by their place among a run's roles, ``role-0`` to
``role-7`` (``role_classes``), and always named. Filters: number, count, seconds, ago, percent, size, settings, pretty.
A page's own styles go into ``static/NAME.css``, linked from ``{% block styles %}``. No inline script runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import quote

from sparring.scenarios.errors import RunNotFound
from sparring.storage.store import Store

Model = Mapping[str, Any]
MOST = 10**9  # no id is larger


@dataclass(frozen=True, slots=True)
class Link:
    """Words that lead somewhere."""

    text: str
    href: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request names: ``words`` of its path, ``query`` of what follows the question mark."""

    words: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """A number of the path. Raises ``NotThere`` for another word."""
        word = self.words[name]
        if not (word.isascii() and word.isdigit() and int(word[:12]) <= MOST):
            raise NotThere(f"{word!r} is no number of a {name}; they count from 0")
        return int(word)

    def count(self, name: str, default: int) -> int:
        """A whole number of the query, ``default`` where it is absent or is none."""
        word = self.query.get(name, "")
        return int(word) if word.isascii() and word.isdigit() and int(word[:12]) <= MOST else default


class NotThere(RunNotFound):
    """What a page's address names does not exist; ``there`` leads to what does."""

    def __init__(self, message: str, there: Sequence[Link] = ()) -> None:
        """``message`` says what is absent."""
        super().__init__(message)
        self.there = tuple(there)


@dataclass(frozen=True, slots=True)
class Page:
    """A registered page; ``path`` and ``title`` hold its words in braces."""

    path: str
    template: str
    title: str
    read: Callable[[Store, Asked], Model]


PAGES: dict[str, Page] = {}


def page(
    path: str, template: str, title: str
) -> Callable[[Callable[[Store, Asked], Model]], Callable[[Store, Asked], Model]]:
    """Register a page and, with it, its twin ``path.json``."""

    def register(read: Callable[[Store, Asked], Model]) -> Callable[[Store, Asked], Model]:
        if path in PAGES:
            raise ValueError(f"the page {path} is registered twice: {PAGES[path].read.__module__}, {read.__module__}")
        PAGES[path] = Page(path, template, title, read)
        return read

    return register


def crumbs(here: Page, words: Mapping[str, str]) -> list[Link]:
    """The pages above this one, outermost first."""
    above = [one for one in PAGES.values() if here.path.startswith(one.path + "/")]
    above.sort(key=lambda one: len(one.path))
    return [Link(one.title.format_map(words), address(one, words)) for one in above]


def address(one: Page, words: Mapping[str, str]) -> str:
    """Where a page lies, whatever is in the words of its path."""
    return one.path.format_map({name: quote(word, safe="") for name, word in words.items()})


def role_classes(roles: Sequence[str]) -> dict[str, str]:
    """The style class of each role by its place, the same on every page of a run; the environment has its own."""
    return {role: f"role-{index % 8}" for index, role in enumerate(roles)} | {"environment": "role-env"}


def plain(value: Any) -> Any:
    """As JSON holds it: what is no finite number is null, records are objects."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (bytes, bytearray)):
        return [plain(one) for one in value]
    return value.hex() if isinstance(value, (bytes, bytearray)) else str(value)
