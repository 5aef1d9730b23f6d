"""What an index is made of: documents read from a folder or a JSON Lines file, and the passages they are cut into.

Files that hold no text are left out and told about, never guessed at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sparring.scenarios.errors import ScenarioError

PASSAGE = 1000  # characters, at most
_PROBE = 8192  # bytes in which a NUL says that a file is binary
_HEADING = re.compile(r"#{1,6}[ \t]+(\S[^\n]*)")


@dataclass(frozen=True, slots=True)
class Document:
    """One thing to find: ``id`` opens it, ``title`` is searched with every passage of ``text``."""

    id: str
    title: str
    text: str


class Skipped(NamedTuple):
    """A file that was left out, and why: empty, too large, binary, not UTF-8, a link, unreadable."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How much text is read: ``file_bytes`` of one file or line, ``total_bytes`` of all of them together."""

    file_bytes: int = 8 << 20
    total_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Corpus:
    """What was read from ``source``, with the files that were left out."""

    source: str
    documents: tuple[Document, ...]
    skipped: tuple[Skipped, ...] = ()


def read_corpus(path: Path, limits: Limits | None = None) -> Corpus:
    """The documents of a folder (every text file in it) or of a JSON Lines file (``text``, and ``id``, ``title``).

    Raises ``ScenarioError`` for a path that is neither, a line that is no document (file and line are named), more
    text than ``limits`` allow, and when no document is left.
    """
    bounds = limits or Limits()
    if path.is_dir():
        corpus = _read_folder(path, bounds)
    elif path.is_file():
        corpus = Corpus(str(path), tuple(_read_lines(path, bounds)))
    else:
        raise ScenarioError(f"{path} is neither a folder nor a file; name a folder of texts, a .jsonl file, or pydoc")
    if not any(document.text.strip() for document in corpus.documents):
        left_out = "".join(f"; {name}: {reason}" for name, reason in corpus.skipped[:5])
        raise ScenarioError(f"{path} holds no text to index; add UTF-8 text files{left_out}")
    return corpus


def _read_folder(folder: Path, limits: Limits) -> Corpus:
    documents: list[Document] = []
    skipped: list[Skipped] = []
    total = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in Path(name).parts) or (path.is_dir() and not path.is_symlink()):
            continue
        read = _read_text(path, limits)
        if isinstance(read, str):
            total += len(read)
            _within(total, limits, folder)
            documents.append(Document(name, _title(read, path), read))
        else:
            skipped.append(Skipped(name, read.reason))
    return Corpus(str(folder), tuple(documents), tuple(skipped))


def _read_text(path: Path, limits: Limits) -> str | Skipped:
    """The text of one file, or why there is none."""
    name = path.name
    if path.is_symlink():  # it may lead out of the folder, or round in circles
        return Skipped(name, "a link")
    if not path.is_file():
        return Skipped(name, "not a file")
    try:
        if (size := path.stat().st_size) > limits.file_bytes:
            return Skipped(name, f"too large ({size} bytes, at most {limits.file_bytes})")
        raw = path.read_bytes()
    except OSError as error:
        return Skipped(name, f"unreadable ({error.strerror or error})")
    if b"\0" in raw[:_PROBE]:
        return Skipped(name, "binary")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Skipped(name, f"not UTF-8 (byte {error.start})")
    return text if text.strip() else Skipped(name, "empty")


def _title(text: str, path: Path) -> str:
    found = _HEADING.match(text.lstrip())
    return found[1].strip() if found else path.stem


def _within(total: int, limits: Limits, where: Path) -> None:
    if total > limits.total_bytes:
        raise ScenarioError(f"{where} holds more than {limits.total_bytes} bytes of text; index parts of it one by one")


def _read_lines(path: Path, limits: Limits) -> Iterator[Document]:
    seen: dict[str, int] = {}
    total = 0
    with path.open("rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(limits.file_bytes + 1), b""), 1):
            where = f"{path}, line {number}"
            if len(raw) > limits.file_bytes:
                raise ScenarioError(f"{where}: longer than {limits.file_bytes} bytes; cut the document into several")
            total += len(raw)
            _within(total, limits, path)
            if not raw.strip():
                continue
            document = _document(raw, number, where)
            if (first := seen.setdefault(document.id, number)) != number:
                raise ScenarioError(f"{where}: id {document.id!r} is taken by line {first}; ids must differ")
            yield document


def _document(raw: bytes, number: int, where: str) -> Document:
    try:
        row: Any = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{where}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"{where}: not JSON ({error}); one object per line is needed") from None
    if not isinstance(row, Mapping):
        raise ScenarioError(f"{where}: found a {type(row).__name__}; an object with a text is needed")
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ScenarioError(f"{where}: field 'text' must hold text, got {text!r:.60}")
    name = row.get("id", number)
    if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
        raise ScenarioError(f"{where}: field 'id' must be text or a whole number, got {name!r:.60}")
    title = row.get("title", "")
    if not isinstance(title, str):
        raise ScenarioError(f"{where}: field 'title' must be text, got {title!r:.60}")
    return Document(plain(str(name)), plain(title), plain(text))


def plain(text: str) -> str:
    """``text`` without lone surrogates, which JSON can spell and no file can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def passages(text: str, longest: int = PASSAGE) -> list[tuple[int, int]]:
    """Where to cut ``text``: spans (start, end) of at most ``longest`` characters, at paragraphs, lines, then words.

    >>> [("one two three")[a:b] for a, b in passages("one two three", 8)]
    ['one two', 'three']
    """
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        end = len(text) if len(text) - start <= longest else _cut(text, start, start + longest)
        piece = text[start:end]
        if inner := piece.strip():
            first = start + piece.index(inner[0])
            spans.append((first, first + len(inner)))
        start = end
    return spans


def _cut(text: str, start: int, limit: int) -> int:
    """The best place to cut between ``start`` and ``limit``; in the middle of a word only when there is no other."""
    for mark in ("\n\n", "\n", " "):
        at = text.rfind(mark, start + 1, limit + 1)
        if at > start and (mark == " " or at - start > (limit - start) // 3):
            return at
    return limit
