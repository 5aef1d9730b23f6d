"""The connection to the database: transactions, schema upgrades, and every driver error as one of ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.orm import Session

from sparring.scenarios.errors import SchemaMismatch, StoreError

from .dialects import Answer, Dialect, dialect_of
from .schema import HEAD
from .sqlite import PATIENCE_S, PRAGMAS
from .views import outdated, renew

__all__ = ["PATIENCE_S", "PRAGMAS", "Database"]


class Database:
    """One database at the newest schema. What SQLite and PostgreSQL do differently is in ``dialect``."""

    def __init__(self, url: str | Path | None, create: bool = True) -> None:
        """Open, ``None`` in memory; make or upgrade the schema. Raises ``StoreError`` with nothing touched."""
        self.dialect = dialect_of(url)
        self.engine = self.dialect.engine()
        self._reading = self.engine.execution_options(**self.dialect.reading)
        try:
            with _translated(self.dialect):
                stamped = self.dialect.look(self.engine, create)
            self._refuse_unknown(stamped)
            if stamped != HEAD:
                with self.write(queued=True) as connection:
                    self._upgrade(connection)
            else:
                self._renew()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path | None:
        """The database file; ``None`` in memory and on a server."""
        return self.dialect.path

    @property
    def lasts(self) -> bool:
        """Whether it is there after it was closed: not in memory."""
        return self.dialect.lasts

    @contextmanager
    def write(self, queued: bool = False) -> Iterator[Connection]:
        """A write transaction: committed at the end of the block, rolled back on any error.

        No two ``queued`` ones overlap, in whatever processes; of SQLite's, no two at all.
        """
        with self.dialect.alone, _translated(self.dialect), self.engine.connect() as plain:
            connection = plain.execution_options(writes=True)
            with connection.begin():
                if queued:
                    self.dialect.queue(connection)
                yield connection

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view of the database; readers never wait for writers."""
        with self.dialect.alone, _translated(self.dialect), Session(self._reading, autoflush=False) as session:
            yield session

    def ask(self, sql: str, limit: int) -> Answer:
        """The first rows of any statement that reads. Raises ``StoreError`` on one that would write."""
        with self.read() as session:
            return self.dialect.ask(session.connection(), sql, limit)

    def _upgrade(self, connection: Connection) -> None:
        """To the newest schema, inside the caller's transaction: killed anywhere, the database is old or new."""
        stamped = self.dialect.stamped(connection)  # again, under the lock: another process may have been first
        self._refuse_unknown(stamped)
        if stamped == HEAD:
            return
        from alembic import command  # 0.1 s, and only a fresh or an old database needs it
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection

        def run(name: str) -> None:
            getattr(command, name)(config, "head")

        if stamped is None:
            self.dialect.make(connection, run)
        else:
            run("upgrade")
        renew(connection)

    def _refuse_unknown(self, stamped: str | None) -> None:
        if stamped is None or stamped == HEAD:
            return
        versions = Path(__file__).parent / "migrations" / "versions"
        known = {line.split('"')[1] for file in versions.glob("*.py") for line in file.read_text().splitlines()
                 if line.startswith("revision = ")}  # fmt: skip
        if stamped not in known:
            raise SchemaMismatch(
                f"{self.dialect.name} has schema {stamped}, this Sparring knows {HEAD}: a newer Sparring wrote it; "
                "upgrade Sparring, or give another path"
            )

    def _renew(self) -> None:
        """Views of another version of the same schema give way to ours."""
        with self.read() as session:
            stale = outdated(session.connection())
        if stale:
            with suppress(StoreError), self.write(queued=True) as connection:  # busy or read-only: the next one does it
                renew(connection)

    def close(self) -> None:
        """Give every connection back; SQLite's last one folds the WAL into the file."""
        self.engine.dispose()


def stamp_of(url: str) -> tuple[str, str | None]:
    """What messages call a database, and its schema's revision; nothing is made. Raises ``StoreError``."""
    dialect = dialect_of(url)
    engine = dialect.engine()
    try:
        with _translated(dialect):
            return dialect.name, dialect.look(engine, create=True)
    finally:
        engine.dispose()


@contextmanager
def _translated(dialect: Dialect) -> Iterator[None]:
    """Driver errors become ours, with the database's name and what to do."""
    try:
        yield
    except IntegrityError as error:
        raise StoreError(f"{dialect.name}: rows contradict each other: {error.orig}; nothing was saved") from error
    except DBAPIError as error:
        raise dialect.explain(error.orig) from error
    except StatementError as error:
        if isinstance(error.orig, StoreError):  # a value no column takes, from codec.py
            raise StoreError(f"{dialect.name}: {error.orig}; nothing was saved") from error
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC and not isinstance(error, StoreError):
            raise dialect.full(str(error)) from error
        raise
