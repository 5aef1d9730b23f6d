"""YAML text to plain data with the line of every key. Safe by size: limits on bytes, depth, values and aliases.

Built on the parser's events, so nothing is constructed that the text did not spell out: no tags, no merge keys, no
duplicate keys, no environment variables. Scalars follow YAML 1.2, and ``1e-5`` is a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from .errors import ScenarioError
from .problems import KeyPath

MAX_BYTES = 1 << 20
MAX_LINE = 20_000  # the scanner needs time quadratic in the length of one line
MAX_DEPTH = 64
MAX_LINES = 20_000
MAX_VALUES = 10_000
MAX_ALIASES = 50

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True)
class Document:
    """Parsed text: plain data and, for every key path in it, the line (from 1) where it was written."""

    value: Any
    lines: dict[KeyPath, int]


def parse(text: str | bytes, name: str) -> Document:
    """Read one YAML document. ``name`` stands for the file in messages; raises ``ScenarioError``, one line."""
    decoded = _decode(text, name)
    reader = _Reader(name)
    try:
        return reader.read(YAML(typ="safe", pure=True).parse(decoded))
    except MarkedYAMLError as error:
        raise _explained(error, decoded, name) from None
    except YAMLError as error:
        raise ScenarioError(f"{name}: not YAML: {_one_line(error)}") from None
    except (ValueError, IndexError, KeyError, AttributeError, TypeError, AssertionError, RecursionError) as error:
        # the parser's own slips on odd text; a ScenarioError is a ValueError and passes unchanged
        if isinstance(error, ScenarioError):
            raise
        raise ScenarioError(f"{name}: not YAML: {_one_line(error)}") from None


def _decode(text: str | bytes, name: str) -> str:
    size = len(text)  # characters or bytes: either way a bound before any work is done
    if size > MAX_BYTES:
        raise ScenarioError(f"{name}: {size} bytes; a scenario has at most {MAX_BYTES}")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ScenarioError(
                f"{name}:{line}: byte {error.object[error.start]:#04x} is not UTF-8; save as UTF-8"
            ) from None
    text = text.removeprefix("\ufeff")
    rows = text.splitlines()
    if len(rows) > MAX_LINES:
        raise ScenarioError(f"{name}: {len(rows)} lines; a scenario has at most {MAX_LINES}")
    for number, row in enumerate(rows, start=1):
        if "\0" in row:
            raise ScenarioError(f"{name}:{number}: a NUL character; a scenario is plain text")
        if len(row) > MAX_LINE:
            raise ScenarioError(f"{name}:{number}: a line of {len(row)} characters; at most {MAX_LINE} are read")
    return text


def _explained(error: MarkedYAMLError, text: str, name: str) -> ScenarioError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    rows = text.splitlines()
    row = rows[line - 1] if line <= len(rows) else ""
    if "\t" in row[: len(row) - len(row.lstrip())] or "'\\t'" in str(error.problem):
        return ScenarioError(f"{name}:{line}: a tab where YAML allows only spaces; indent with spaces")
    what = ", ".join(_one_line(part) for part in (error.context, error.problem) if part)
    return ScenarioError(f"{name}:{line}: not YAML: {what}")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200]


@dataclass
class _Built:
    """A value with the lines of what is inside it, relative to it, and how many values an alias of it repeats."""

    value: Any
    inside: dict[KeyPath, int]
    size: int


class _Reader:
    """Turns parser events into data, one call of ``_node`` per value; depth is bounded before recursion."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: Iterator[Event] = iter(())
        self.anchors: dict[str, _Built | None] = {}
        self.aliases = 0
        self.values = 0

    def read(self, events: Iterator[Event]) -> Document:
        self.events = events
        next(events)  # stream start
        first = next(events)
        if not isinstance(first, DocumentStartEvent):
            return Document(None, {(): 1})
        built = self._node(next(events), 0)
        if not isinstance(next(events), DocumentEndEvent):
            raise ScenarioError(f"{self.name}: one document is needed")
        after = next(events)
        if isinstance(after, DocumentStartEvent):
            raise self._error(after, "a second document; a scenario file holds one")
        return Document(built.value, {(): 1, **built.inside})

    def _error(self, event: Event, message: str) -> ScenarioError:
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        return ScenarioError(f"{self.name}:{line}: {message}")

    def _node(self, event: Event, depth: int) -> _Built:
        if isinstance(event, AliasEvent):
            return self._alias(event)
        self._count(event, 1)
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")
        tag, anchor = getattr(event, "tag", None), getattr(event, "anchor", None)
        if tag is not None:
            raise self._error(event, f"the tag {_one_line(tag)}; tags are not read, remove it")
        if anchor is not None:
            self.anchors[anchor] = None  # an alias inside its own anchor would never end
        if isinstance(event, ScalarEvent):
            built = _Built(self._scalar(event), {}, 1)
        elif isinstance(event, SequenceStartEvent):
            built = self._sequence(depth)
        elif isinstance(event, MappingStartEvent):
            built = self._mapping(depth)
        else:
            raise self._error(event, "a value is needed")
        if anchor is not None:
            self.anchors[anchor] = built
        return built

    def _count(self, event: Event, more: int) -> None:
        self.values += more
        if self.values > MAX_VALUES:
            raise self._error(event, f"more than {MAX_VALUES} values")

    def _alias(self, event: AliasEvent) -> _Built:
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            raise self._error(event, f"more than {MAX_ALIASES} aliases")
        if event.anchor not in self.anchors:
            raise self._error(event, f"the alias *{event.anchor} has no anchor above it")
        built = self.anchors[event.anchor]
        if built is None:
            raise self._error(event, f"the alias *{event.anchor} stands inside its own anchor")
        self._count(event, built.size)
        return _Built(built.value, {}, built.size)

    def _sequence(self, depth: int) -> _Built:
        items: list[Any] = []
        inside: dict[KeyPath, int] = {}
        size = 1
        while not isinstance(event := next(self.events), SequenceEndEvent):
            built = self._node(event, depth + 1)
            _place(inside, len(items), event.start_mark.line + 1, built)
            items.append(built.value)
            size += built.size
        return _Built(items, inside, size)

    def _mapping(self, depth: int) -> _Built:
        items: dict[str, Any] = {}
        inside: dict[KeyPath, int] = {}
        size = 1
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self._key(event)
            line = event.start_mark.line + 1
            if key in items:
                raise self._error(event, f"the key {key!r} is already on line {inside[(key,)]}")
            built = self._node(next(self.events), depth + 1)
            _place(inside, key, line, built)
            items[key] = built.value
            size += built.size
        return _Built(items, inside, size)

    def _key(self, event: Event) -> str:
        if not isinstance(event, ScalarEvent):
            raise self._error(event, "a key is plain text, not a list, mapping or alias")
        if event.tag is not None or event.anchor is not None:
            raise self._error(event, "a key carries no tag and no anchor")
        if event.value == "<<" and event.style is None:
            raise self._error(event, "the merge key '<<'; write the keys out, or repeat a whole value with an alias")
        if not event.value or not event.value.isprintable():
            raise self._error(event, "a key is one or more printable characters")
        return str(event.value)

    def _scalar(self, event: ScalarEvent) -> Any:
        text = str(event.value)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            try:  # JSON writes letters beyond 16 bits as two escapes
                text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                raise self._error(event, "half a surrogate pair, which no text can hold") from None
        if "\0" in text:
            raise self._error(event, "an escape for NUL, which no text can hold")
        if event.style is not None:  # quoted or block text
            return text
        if text in _WORDS:
            return _WORDS[text]
        if len(text) > 400 or text.lower().lstrip("+-") in (".inf", ".nan"):
            return text
        if _INT.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                raise self._error(event, f"{text} is too large for a number")
            return number
        return text


def _place(inside: dict[KeyPath, int], key: str | int, line: int, built: _Built) -> None:
    inside[(key,)] = line
    for path, at in built.inside.items():
        inside[(key, *path)] = at
