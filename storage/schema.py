"""Which schema a database file holds, read with the standard library alone, so that a check needs no SQLAlchemy."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sparring.scenarios.errors import StoreError

HEAD = "0005"  # the newest revision in storage/migrations/versions
MAGIC = b"SQLite format 3\x00"


def schema_version(path: str | Path) -> str | None:
    """The revision a database file is stamped with; ``None`` for an absent or empty file.

    Raises ``StoreError`` when the file is not SQLite, or is SQLite but not a Sparring database.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read the database {path}: {error.strerror}; check the path and its rights") from error
    if not head:
        return None
    if head != MAGIC:
        raise StoreError(f"{path} is not a SQLite database (it begins with {head!r}); give another path")
    try:
        try:
            return _version(path, "ro")
        except sqlite3.OperationalError:  # a killed writer's journal must be played back first, which writes
            return _version(path, "rw")
    except sqlite3.Error as error:
        raise StoreError(f"cannot read the database {path}: {error}") from error


def _version(path: Path, mode: str) -> str | None:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=30)) as connection:
        return read_version(connection, path)


def read_version(connection: sqlite3.Connection, path: str | Path) -> str | None:
    """As ``schema_version``, over an open connection; ``path`` is for messages."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if "alembic_version" not in tables or "runs" not in tables:
        shown = ", ".join(sorted(tables)[:4])
        raise StoreError(f"{path} is a SQLite database of something else (tables {shown}); give another path")
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])
