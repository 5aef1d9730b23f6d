"""All that is wrong with one scenario, gathered before anything is raised: one line each, with where to look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .errors import ScenarioError
from .registry import nearest

KeyPath = tuple[str | int, ...]


def dotted(path: KeyPath) -> str:
    """``("graph", "edges", 2)`` as people write it: ``graph.edges[2]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """``unknown node 'slove'; did you mean 'solve'? known: critique, solve``."""
    names = sorted(known)
    hint = nearest(word, names)
    meant = f"; did you mean {hint!r}?" if hint else ";"
    return f"unknown {what} {shown(word)}{meant} known: {', '.join(names) or 'none'}"


def shown(value: object, limit: int = 60) -> str:
    """A found value for a message: short, on one line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


@dataclass
class Sources:
    """Where each key was written. Lines count from 1; a key set by an override belongs to the override."""

    name: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    overrides: dict[KeyPath, str] = field(default_factory=dict)

    def written(self, path: KeyPath) -> bool:
        """Whether exactly this key was written, in the file or in an override."""
        return path in self.lines or path in self.overrides

    def where(self, path: KeyPath) -> tuple[int, str]:
        """A sort key and the text before the message: the nearest written ancestor of ``path``."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overrides:
                return 1 << 30, self.overrides[path[:end]]
            if path[:end] in self.lines:
                line = self.lines[path[:end]]
                return line, f"{self.name}:{line}"
            if end == len(path) and (inner := next((o for o in self.overrides if o[:end] == path), None)):
                return 1 << 30, self.overrides[inner]  # a mapping that only overrides opened
        return 0, self.name


@dataclass
class Problems:
    """Collects messages; ``raise_if_any`` turns them into one ``ScenarioError``, in file order.

    ``silent`` are paths already told to be wrong: what follows from them is not told again.
    """

    sources: Sources
    found: list[tuple[int, str]] = field(default_factory=list)
    silent: list[KeyPath] = field(default_factory=list)

    def add(self, path: KeyPath, message: str) -> None:
        """Note one problem at ``path``; the same line twice is kept once, and nothing below a ``silent`` path."""
        if any(path[: len(known)] == known for known in self.silent):
            return
        order, where = self.sources.where(path)
        key = f"{dotted(path)}: " if path else ""
        line = f"{where}: {key}{' '.join(message.split())}"
        if (order, line) not in self.found:
            self.found.append((order, line))

    def add_elsewhere(self, where: str, message: str) -> None:
        """Note a problem in another file the scenario names; ``where`` is ``file:line``."""
        self.found.append(((1 << 30) + 1, f"{where}: {' '.join(message.split())}"))

    def raise_if_any(self) -> None:
        """Raise every noted problem as one ``ScenarioError``."""
        if self.found:
            raise ScenarioError("\n".join(line for _, line in sorted(self.found, key=lambda item: item[0])))
