"""One writer per run on a PostgreSQL server: an advisory lock of a connection that says whose it is.

The server frees it when the connection ends. A child forked by a killed writer may keep the connection open, so a lock
whose owner is known to be dead is taken over.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from sparring.scenarios.errors import RunBusy, StoreError

from .locks import born, here

_NAME = re.compile(r"sparring (\d+) on (.*), (\d+|None) ([0-9a-f]{8})")
# The lock's two numbers: the table of runs, so that databases and schemas do not meet, and the run's own.
_LOCK = "'runs'::regclass::oid::int4, :run"
_HOLDER = text(
    "SELECT l.pid, coalesce(a.application_name, '') AS name "
    "FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.classid = 'runs'::regclass::oid AND l.objid = CAST(:run AS bigint) "
    "AND l.objsubid = 2 AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Holder(NamedTuple):
    """A session that holds a run: its process on the server, and the name it gave itself."""

    pid: int
    name: str

    @property
    def is_dead(self) -> bool:
        """Whether its process lived on this machine and is gone; elsewhere nobody can tell."""
        found = _NAME.fullmatch(self.name)
        return found is not None and found[4] == _place() and str(born(int(found[1]))) != found[3]

    def told(self) -> str:
        """For messages."""
        if self.name == application_name():
            return "this process, through another store"
        found = _NAME.fullmatch(self.name)
        return f"process {found[1]} on {found[2]}" if found else f"server process {self.pid} ({self.name or 'no name'})"


def _place() -> str:
    """This boot of this machine and the process ids valid here, in eight characters."""
    return hashlib.sha256("/".join((platform.node(), *here())).encode()).hexdigest()[:8]


def application_name() -> str:
    """What this process calls its connections: at most 63 bytes, which is all a server keeps."""
    host = platform.node().encode("ascii", "replace")[:18].decode()
    return f"sparring {os.getpid()} on {host}, {born(os.getpid())} {_place()}"


def _number(run: str) -> dict[str, int]:
    return {"run": int(run[1:])}


def _holder(connection: Connection, run: str) -> Holder | None:
    row = connection.execute(_HOLDER, _number(run)).first()
    return None if row is None else Holder(row.pid, row.name)


def is_held(connection: Connection, run: str) -> bool:
    """Whether a living process holds the right to write this run."""
    holder = _holder(connection, run)
    return holder is not None and not holder.is_dead


class ServerLock:
    """Exclusive right to write one run, from construction to ``release``. Raises ``RunBusy`` when another holds it."""

    def __init__(self, engine: Engine, database: str, run: str) -> None:
        """Take it on a connection of its own; ``database`` is for messages."""
        self.database, self.run = database, run
        self._connection: Connection | None = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._connection.detach()  # never given to anybody else
        try:
            self._take(self._connection)
            self._pid = int(self._connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        except BaseException:
            self.release()
            raise

    def _take(self, connection: Connection) -> None:
        for _ in range(3):
            if connection.execute(text(f"SELECT pg_try_advisory_lock({_LOCK})"), _number(self.run)).scalar():
                return
            holder = _holder(connection, self.run)
            if holder is not None and not holder.is_dead:
                break
            if holder is not None:
                connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": holder.pid})
        whose = "somebody" if holder is None else holder.told()
        raise RunBusy(
            f"run {self.run} is being written by {whose} (lock in {self.database}); stop it first, or start a new run"
        )

    def confirm(self, connection: Connection) -> None:
        """As ``Lock.confirm``: the connection may have ended, and another process may have taken the run."""
        holder = _holder(connection, self.run)
        if holder is None or holder.pid != self._pid:
            now = "" if holder is None else f" and {holder.told()} has it now"
            raise StoreError(
                f"{self.database}: the connection that held run {self.run} has ended{now}, as when the server was "
                f"restarted; nothing was saved: go on from the last whole step with `sparring resume {self.run}`"
            )

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError):  # a lost connection holds nothing
                connection.execute(text("SELECT pg_advisory_unlock_all()"))
            with suppress(DBAPIError):
                connection.close()
