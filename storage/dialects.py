"""What SQLite and PostgreSQL do differently, as one contract. ``sqlite.py`` and ``postgres.py`` keep it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Engine

from sparring.scenarios.errors import StorageFull, StoreError

_SECRET = re.compile(r"(?i)\b([a-z][a-z0-9+.]*://[^\s:/@]*):[^\s/]*@")
_SECRET_OPTION = re.compile(r"(?i)\b((?:ssl)?password=)[^&\s'\"]+")


class Answer(NamedTuple):
    """The columns and rows of a SELECT."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


class Lock(Protocol):
    """The right to write one run, held from construction on."""

    def confirm(self, connection: Connection) -> None:
        """Raise ``StoreError`` when the right was lost meanwhile; asked at the start of every write transaction."""

    def release(self) -> None:
        """Give the right back; a second call does nothing."""


class Dialect(Protocol):
    """One database as its engine needs to be spoken to."""

    name: str  # what messages call the database; never with a password
    path: Path | None  # its file; None in memory and on a server
    lasts: bool  # whether it is there after it was closed
    alone: AbstractContextManager[Any]  # held around every transaction: memory has one connection for all threads
    reading: Mapping[str, Any]  # execution options of connections that only read

    @property
    def folder(self) -> Path:
        """Where the checkpoints of its runs lie, a folder for each run."""

    def engine(self) -> Engine:
        """Connections as they are needed; makes none yet."""

    def look(self, engine: Engine, create: bool) -> str | None:
        """The schema's revision before anything is touched; ``None`` where there is no schema yet.

        Raises ``StoreError`` where the database cannot be used, or is absent and not to be made.
        """

    def queue(self, connection: Connection) -> None:
        """Let no other transaction that asks the same overlap this one."""

    def stamped(self, connection: Connection) -> str | None:
        """The schema's revision, within a transaction."""

    def make(self, connection: Connection, upgrade: Any) -> None:
        """A fresh schema; ``upgrade(command)`` runs alembic's ``upgrade`` or ``stamp`` to the newest revision."""

    def explain(self, error: BaseException | None) -> StoreError:
        """An error of the driver as one of ours."""

    def full(self, reason: str) -> StorageFull:
        """No room is left."""

    def lock(self, run: str) -> Lock | None:
        """The right to write a run (``r1``); ``None`` where nobody else could. Raises ``RunBusy``."""

    def is_held(self, run: str) -> bool:
        """Whether a living process holds that right."""

    def ask(self, connection: Connection, sql: str, limit: int) -> Answer:
        """The first rows of a statement that reads. Raises ``StoreError`` or the driver's error on one that writes."""

    def size(self) -> int:
        """Bytes the database takes on its disk."""

    def shrink(self) -> None:
        """Give the room of deleted rows back, where that is ours to do."""


def masked(text: str) -> str:
    """``text`` with the password of every URL in it as ``***``.

    >>> masked("run --db postgresql://me:secret@host/db?password=x")
    'run --db postgresql://me:***@host/db?password=***'
    """
    return _SECRET_OPTION.sub(r"\1***", _SECRET.sub(r"\1:***@", text))


def unsecret(value: Any) -> Any:
    """JSON values with every URL in them ``masked``."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {key: unsecret(item) for key, item in value.items()}
    return type(value)(unsecret(item) for item in value) if type(value) in (list, tuple) else value


def dialect_of(url: str | Path | None) -> Dialect:
    """How to speak to the database a URL or a path names; ``None`` is memory. Raises ``StoreError``."""
    text = "sqlite://" if url is None else str(url)
    scheme, mark, rest = text.partition("://")
    if mark and scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        from .postgres import Postgres  # only those who use it need its driver

        return Postgres(text)
    from .sqlite import Sqlite

    if text in ("sqlite://", "sqlite:///:memory:"):
        return Sqlite(None)
    if mark and scheme not in ("sqlite", "sqlite+pysqlite"):
        raise StoreError(
            f"store url {masked(text)!r}: write sqlite:///sparring.db, or postgresql+psycopg://user@host/database"
        )
    if mark and not rest.startswith("/"):
        raise StoreError(f"store url {text!r}: three slashes before a file, as in sqlite:///sparring.db")
    return Sqlite(Path(rest[1:] if mark else text))
