"""The connection to SQLite: pragmas, transactions, schema upgrades, and every driver error as one of ours."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from sparring.scenarios.errors import SchemaMismatch, StorageFull, StoreError

from .functions import add_functions
from .schema import HEAD, read_version, schema_version
from .views import outdated, renew

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


class Database:
    """One SQLite database, in a file or in memory (``path`` is ``None``), at the newest schema."""

    def __init__(self, path: Path | None, create: bool = True) -> None:
        """Open; make or upgrade the schema. Raises ``StoreError`` or ``SchemaMismatch``, with the file untouched."""
        self.path = path
        self._alone = threading.RLock() if path is None else nullcontext()  # memory: one connection for all threads
        stamped = self._door(create)
        self.engine = self._engine()
        try:
            if stamped != HEAD:
                with self.write() as connection:
                    self._upgrade(connection)
            else:
                self._renew()
        except BaseException:
            self.close()
            raise

    def _door(self, create: bool) -> str | None:
        """The file's schema version, once it is known that it may be opened."""
        if self.path is None:
            return None
        if not self.path.exists():
            if not create:
                raise StoreError(f"no database at {self.path}; start a run here, or set SPARRING_DB to one")
            if not self.path.parent.is_dir():
                raise StoreError(f"cannot make {self.path}: the folder {self.path.parent} does not exist; create it")
        stamped = schema_version(self.path)
        _refuse_unknown(stamped, str(self.path))
        return stamped

    def _engine(self) -> Engine:
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

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: committed at the end of the block, rolled back on any error."""
        with self._alone, self._translated(), self.engine.connect() as plain:
            connection = plain.execution_options(writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view of the database; readers never wait for writers."""
        with self._alone, self._translated(), Session(self.engine, autoflush=False) as session:
            yield session

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Driver errors become ours, with the path and what to do."""
        where = str(self.path or "the in-memory database")
        try:
            yield
        except IntegrityError as error:
            raise StoreError(f"{where}: rows contradict each other: {error.orig}; nothing was saved") from error
        except DBAPIError as error:
            raise _as_ours(error.orig, where, self.path) from error
        except StatementError as error:
            if isinstance(error.orig, StoreError):  # a value no column takes, from codec.py
                raise StoreError(f"{where}: {error.orig}; nothing was saved") from error
            raise
        except OSError as error:
            if error.errno == errno.ENOSPC and not isinstance(error, StoreError):
                raise _full(where, self.path, str(error)) from error
            raise

    def _upgrade(self, connection: Connection) -> None:
        """To the newest schema, inside the caller's transaction: killed anywhere, the file is old or new."""
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        stamped = read_version(driver, str(self.path))  # again, under the lock: another process may have been first
        _refuse_unknown(stamped, str(self.path))
        if stamped == HEAD:
            return
        from alembic import command  # 0.1 s, and only a fresh or an old file needs it
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        renew(connection)

    def _renew(self) -> None:
        """Views of another version of the same schema give way to ours."""
        with self.read() as session:
            stale = outdated(session.connection())
        if stale:
            with suppress(StoreError), self.write() as connection:  # busy or read-only: whoever opens it next does it
                renew(connection)

    def close(self) -> None:
        """Give every connection back; the last one folds the WAL into the file."""
        self.engine.dispose()


def _refuse_unknown(stamped: str | None, where: str) -> None:
    if stamped is None or stamped == HEAD:
        return
    versions = Path(__file__).parent / "migrations" / "versions"
    known = {line.split('"')[1] for file in versions.glob("*.py") for line in file.read_text().splitlines()
             if line.startswith("revision = ")}  # fmt: skip
    if stamped not in known:
        raise SchemaMismatch(
            f"{where} has schema {stamped}, this Sparring knows {HEAD}: a newer Sparring wrote it; "
            "upgrade Sparring, or give another path"
        )


def _full(where: str, path: Path | None, reason: str) -> StorageFull:
    free = shutil.disk_usage(path.parent).free if path is not None else 0
    return StorageFull(
        f"cannot write {where}: {reason}; {free} bytes free on its disk. "
        "The last whole step is safe: free some space, then resume"
    )


def _as_ours(error: BaseException | None, where: str, path: Path | None) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (_FULL, _IOERR):
        return _full(where, path, str(error))
    if code in (_BUSY, _LOCKED):
        return StoreError(f"{where} stayed locked for 30 s; close the program that holds a write transaction on it")
    rights = "" if path is None or os.access(path.parent, os.W_OK) else f" (no right to write in {path.parent})"
    return StoreError(f"{where}: {error}{rights}")
