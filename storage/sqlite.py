"""SQLite: pragmas, transactions, a file that is looked at before it is touched, locks beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from sparring.scenarios.errors import StorageFull, StoreError

from .dialects import Answer
from .functions import add_functions
from .locks import RunLock, is_held, lock_path
from .preflight import check_disk
from .schema import read_version, schema_version

PATIENCE_S = 30  # how long to wait for another process that holds the database
PRAGMAS: dict[str, int | str] = {
    "busy_timeout": 1_000 * PATIENCE_S,
    "journal_mode": "WAL",
    "synchronous": "FULL",
    "foreign_keys": 1,
    "journal_size_limit": 67_108_864,
    "wal_autocheckpoint": 1_000,
}
_FULL, _IOERR, _BUSY, _LOCKED = 13, 10, 5, 6  # SQLite's primary result codes


class Sqlite:
    """One SQLite database, in a file or in memory (``path`` is ``None``)."""

    reading: Mapping[str, Any] = {}

    def __init__(self, path: Path | None) -> None:
        """Nothing is opened yet."""
        self.path, self.lasts = path, path is not None
        self.name = "the in-memory database" if path is None else str(path)
        self.alone: AbstractContextManager[Any] = threading.RLock() if path is None else nullcontext()

    @property
    def folder(self) -> Path:
        """``checkpoints`` beside the file."""
        return (Path.cwd() if self.path is None else self.path.resolve().parent) / "checkpoints"

    def engine(self) -> Engine:
        """As ``Dialect.engine``: a write transaction begins as one, so that it never has to be promoted."""
        if self.path is None:
            engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        else:
            engine = create_engine(URL.create("sqlite", database=str(self.path)))

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # the driver must not begin transactions on its own
            with closing(connection.cursor()) as cursor:
                for name, value in PRAGMAS.items():
                    _set(cursor, name, value)
            add_functions(connection)

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            writes = connection.get_execution_options().get("writes", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    def look(self, engine: Engine, create: bool) -> str | None:
        """As ``Dialect.look``, without a connection that would change the file."""
        if self.path is None:
            return None
        if not self.path.exists():
            if not create:
                raise StoreError(f"no database at {self.path}; start a run here, or set SPARRING_DB to one")
            if not self.path.parent.is_dir():
                raise StoreError(f"cannot make {self.path}: the folder {self.path.parent} does not exist; create it")
            check_disk(self.path)
        return schema_version(self.path)

    def queue(self, connection: Connection) -> None:
        """Nothing to do: SQLite has one writer at a time."""

    def stamped(self, connection: Connection) -> str | None:
        """As ``Dialect.stamped``."""
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return read_version(driver, self.name)

    def make(self, connection: Connection, upgrade: Any) -> None:
        """Every revision, one after the other: a fresh file is as an old one that was upgraded."""
        upgrade("upgrade")

    def explain(self, error: BaseException | None) -> StoreError:
        """As ``Dialect.explain``, with the path and what to do."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (_FULL, _IOERR):
            return self.full(str(error))
        if code in (_BUSY, _LOCKED):
            return StoreError(
                f"{self.name} stayed locked for 30 s; close the program that holds a write transaction on it"
            )
        closed = self.path is not None and not os.access(self.path.parent, os.W_OK)
        rights = f" (no right to write in {self.path.parent})" if self.path is not None and closed else ""
        return StoreError(f"{self.name}: {error}{rights}")

    def full(self, reason: str) -> StorageFull:
        """As ``Dialect.full``."""
        free = shutil.disk_usage(self.path.parent).free if self.path is not None else 0
        return StorageFull(
            f"cannot write {self.name}: {reason}; {free} bytes free on its disk. "
            "The last whole step is safe: free some space, then resume"
        )

    def lock(self, run: str) -> RunLock | None:
        """As ``Dialect.lock``: a file beside the database."""
        if self.path is None:
            return None
        check_disk(self.path)
        return RunLock(lock_path(self.path, run), run)

    def is_held(self, run: str) -> bool:
        """As ``Dialect.is_held``; a run in memory dies with its process."""
        return self.path is None or is_held(self.path, run)

    def ask(self, connection: Connection, sql: str, limit: int) -> Answer:
        """As ``Dialect.ask``."""
        connection.exec_driver_sql("PRAGMA query_only=1")
        try:
            answer = connection.exec_driver_sql(sql)
            if not answer.returns_rows:
                raise StoreError("only statements that return rows can be asked; begin with SELECT")
            return Answer(tuple(answer.keys()), tuple(tuple(row) for row in answer.fetchmany(limit)))
        finally:
            connection.exec_driver_sql("PRAGMA query_only=0")

    def size(self) -> int:
        """As ``Dialect.size``."""
        return 0 if self.path is None else self.path.stat().st_size

    def shrink(self) -> None:
        """Write the file anew without its holes."""
        if self.path is None:
            return
        try:
            with closing(sqlite3.connect(self.path, timeout=PATIENCE_S, isolation_level=None)) as connection:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise StoreError(
                f"{self.path}: the runs are gone, but the file could not be made smaller: {error}; free some space, "
                "or close the programs that read it, then run VACUUM on it"
            ) from error


def _set(cursor: sqlite3.Cursor, name: str, value: int | str) -> None:
    """Set one pragma. The switch to WAL does not heed ``busy_timeout`` while another process makes the same switch."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            cursor.execute(f"PRAGMA {name}={value}")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (_BUSY, _LOCKED) or time.monotonic() > until:
                raise
            time.sleep(0.01)
