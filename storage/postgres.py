"""PostgreSQL: any number of machines write runs to one server, each run by one process at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from sparring.scenarios.errors import MissingExtra, StorageFull, StoreError

from .dialects import Answer, masked
from .functions import SERVER_FUNCTIONS
from .server_locks import ServerLock, application_name, is_held
from .tables import Base

PATIENCE_S = 30  # how long to wait for a lock, and for a server that does not answer
# Set on every connection, whatever the server's defaults are: a commit is on disk, and the server notices within a
# minute that a machine is gone, which frees the locks it held.
_SETTINGS = {
    "synchronous_commit": "on",
    "lock_timeout": f"{PATIENCE_S}s",
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "client_encoding": "UTF8",
}
_OURS = 0x5350_4152  # advisory locks of this number and a small one: 1 schema and new runs, 2 ids
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"
_LOST = ("08", "57P")  # sqlstates: connection exceptions, shutdowns


class Postgres:
    """One database of a PostgreSQL server, reached through psycopg."""

    path: Path | None = None
    lasts = True
    reading: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    def __init__(self, url: str) -> None:
        """Nothing is opened yet. Raises ``StoreError`` on a malformed URL, ``MissingExtra`` without psycopg."""
        try:
            import psycopg  # noqa: F401 - whether it is there
        except ImportError as error:
            raise MissingExtra("PostgreSQL needs psycopg: pip install 'sparring[postgres]'") from error
        try:
            self._url = make_url(url).set(drivername="postgresql+psycopg")
        except (ArgumentError, ValueError) as error:
            raise StoreError(
                f"store url {masked(url)!r} cannot be read; write postgresql+psycopg://user@host:5432/database"
            ) from error
        self.name = masked(self._url.render_as_string(hide_password=True))
        self.alone: AbstractContextManager[Any] = nullcontext()
        self._engine: Engine | None = None

    @property
    def folder(self) -> Path:
        """``checkpoints/DATABASE@HOST`` where the command runs: numbers of runs are counted per database."""
        host = self._url.host or str(self._url.query.get("host", "local")).strip("/").replace("/", "-")
        return Path.cwd() / "checkpoints" / f"{_database(self._url)}@{host}"

    def engine(self) -> Engine:
        """As ``Dialect.engine``. Connections are tried before use: a server may have been restarted meanwhile."""
        keep = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3, "connect_timeout": PATIENCE_S}
        mine: dict[str, Any] = {name: value for name, value in keep.items() if name not in self._url.query}
        mine["application_name"] = application_name()
        try:
            engine = create_engine(self._url, connect_args=mine, pool_pre_ping=True, isolation_level="READ COMMITTED")
        except ArgumentError as error:
            raise StoreError(f"store url {self.name}: {masked(str(error))}") from error

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _record: object) -> None:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for name, value in _SETTINGS.items():
                    cursor.execute(f"SET {name} = '{value}'")
            connection.autocommit = False
            _plain_numbers(connection)

        self._engine = engine
        return engine

    def look(self, engine: Engine, create: bool) -> str | None:
        """As ``Dialect.look``."""
        with engine.connect().execution_options(**self.reading) as connection:
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
            if encoding != "UTF8":
                raise StoreError(
                    f"{self.name} stores text as {encoding}, which does not hold all that models write; make another: "
                    "createdb --encoding=UTF8 --template=template0 NAME"
                )
            found = self.stamped(connection)
        if found is None and not create:
            raise StoreError(f"no Sparring database at {self.name}; start a run here, or set SPARRING_DB to one")
        return found

    def queue(self, connection: Connection) -> None:
        """Wait for an advisory lock that the end of the transaction frees."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_OURS}, 1)")

    def stamped(self, connection: Connection) -> str | None:
        """As ``Dialect.stamped``, of the first schema on the search path."""
        tables = [row[0] for row in connection.exec_driver_sql(_TABLES)]
        if not tables:
            return None
        if "alembic_version" not in tables or "runs" not in tables:
            raise StoreError(
                f"{self.name} holds something else (tables {', '.join(tables[:4])}); give a database of its own, or a "
                "schema of its own: ?options=-csearch_path%3DNAME"
            )
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return None if found is None else str(found)

    def make(self, connection: Connection, upgrade: Any) -> None:
        """The models as they are: no older schema was ever on a server.

        Every foreign key is checked at commit. PostgreSQL checks each link of a cascade by itself, where SQLite waits
        for the end of the statement.
        """
        made = MetaData()
        for found in Base.metadata.tables.values():
            found.to_metadata(made)
        for copied in made.tables.values():
            for key in copied.foreign_key_constraints:
                key.deferrable, key.initially = True, "DEFERRED"
        made.create_all(connection, checkfirst=False)
        connection.exec_driver_sql("CREATE SEQUENCE sparring_ids")
        for function in SERVER_FUNCTIONS.values():
            connection.exec_driver_sql(function.replace("%", "%%"))
        upgrade("stamp")

    def explain(self, error: BaseException | None) -> StoreError:
        """As ``Dialect.explain``."""
        state = getattr(error, "sqlstate", None) or ""
        told = masked(str(error)).strip()
        said = told.splitlines()[0] if told else "no reason given"
        if state in ("53100", "53400") or "No space left" in told:
            return self.full(said)
        if state in ("40001", "40P01", "55P03"):
            return StoreError(f"{self.name}: another process was in the way ({said}); nothing was saved: try again")
        if state == "25006":
            return StoreError(f"{self.name}: only statements that read can be asked ({said})")
        if said.startswith("connection failed"):  # psycopg gives these no state
            mine = _database(self._url)
            absent = f'database "{mine}" does not exist' in told
            step = f"make it with: createdb {mine}" if absent else "check the server, the name, the user"
            return StoreError(
                f"{self.name} cannot be reached: {said.split(' failed: ')[-1]}; {step}. A run that was writing to it "
                "goes on from its last whole step: sparring resume"
            )
        if not state or state.startswith(_LOST):
            return StoreError(
                f"{self.name} does not answer ({said}); nothing half was saved: when the server is back, "
                "resume the run from its last whole step"
            )
        return StoreError(f"{self.name}: {told}")

    def full(self, reason: str) -> StorageFull:
        """As ``Dialect.full``; the disk is the server's."""
        return StorageFull(
            f"cannot write {self.name}: {reason}. The last whole step is safe: free some space on the server's disk, "
            "then resume"
        )

    def lock(self, run: str) -> ServerLock:
        """As ``Dialect.lock``: an advisory lock of the session, which the server frees when the process dies."""
        assert self._engine is not None  # opened before anything is written
        return ServerLock(self._engine, self.name, run)

    def is_held(self, run: str) -> bool:
        """As ``Dialect.is_held``."""
        assert self._engine is not None
        with self._engine.connect() as connection:
            return is_held(connection, run)

    def ask(self, connection: Connection, sql: str, limit: int) -> Answer:
        """As ``Dialect.ask``: one statement, in a transaction that only reads, fetched row by row."""
        import psycopg

        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        try:
            with driver.cursor() as cursor:
                rows = cursor.stream(sql.encode())
                found = tuple(tuple(row) for row in islice(rows, limit))
                if not found:  # a stream without rows does not tell its columns
                    cursor.execute(sql.encode(), prepare=True)  # one statement only, as in a stream
                names = tuple(column.name for column in cursor.description or ())
        except psycopg.ProgrammingError as error:
            if error.sqlstate is None:
                raise StoreError("only statements that return rows can be asked; begin with SELECT") from error
            raise self.explain(error) from error
        except psycopg.Error as error:
            raise self.explain(error) from error
        return Answer(names, found)

    def size(self) -> int:
        """As ``Dialect.size``."""
        assert self._engine is not None
        with self._engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())

    def shrink(self) -> None:
        """Nothing to do: the server's autovacuum uses the room again."""


def reserve(connection: Connection, count: int) -> int:
    """The first of ``count`` ids that no other transaction gets, for any table."""
    lock, free = f"pg_advisory_lock({_OURS}, 2)", f"pg_advisory_unlock({_OURS}, 2)"
    taken = f"setval('sparring_ids', nextval('sparring_ids') + {count - 1})"
    return int(connection.exec_driver_sql(f"SELECT {lock}, {taken}, {free}").one()[1]) - count + 1


def _database(url: URL) -> str:
    return url.database or url.username or os.environ.get("PGDATABASE", "postgres")


def _plain_numbers(connection: Any) -> None:
    """Sums of integers, which the server counts without bounds, come as int or float."""
    from psycopg.adapt import Loader

    class Plain(Loader):
        def load(self, data: Any) -> int | float:
            text = bytes(data).decode()
            return int(text) if text.lstrip("-").isdigit() else float(text)

    connection.adapters.register_loader("numeric", Plain)
