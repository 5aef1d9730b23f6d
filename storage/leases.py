"""Work shared out in rows: a worker leases some, does them outside any transaction, and hands in what came of them.

For any table with the columns ``id``, ``leased_by`` and ``leased_until`` and a condition that says which rows wait to
be done. The caller opens the write transactions; each function is one part of such a transaction.

Why a row is done exactly once, whatever is killed, suspended or cut off from the database:

* ``finish`` writes a result only where the row still waits and still names the holder who hands it in, and in the same
  transaction makes it wait no more. Transactions on one row follow each other (SQLite has one writer at a time;
  PostgreSQL locks the row, which ``FOR UPDATE`` says), so of any number of ``finish`` for one row the first that
  commits is the only one that writes.
* A row that waits is free, or its lease ends: ``lease`` gives it to somebody, as long as there is anybody. So none is
  lost.
* No clock is part of that. The time decides only when somebody else may take a row: a clock that jumps ahead, or a
  worker that is slower than its lease, costs work done twice, of which one result is written. A clock that jumps back
  would leave the rows of a dead worker leased for long; a lease that ends later than any lease made now is over.
"""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, func, or_, select, update
from sqlalchemy.sql.expression import literal_column

from sparring.scenarios.errors import StoreError

from .rows import parts

SLACK_S = 1.0  # how far the clocks of two readings may be apart before a lease counts as made under another time
_CLOCKS = {"sqlite": "(julianday('now') - 2440587.5) * 86400.0", "postgresql": "extract(epoch from clock_timestamp())"}


def database_clock(connection: Connection) -> float:
    """Seconds since 1970 as the database's machine has them: one clock, however many machines take part."""
    return float(connection.execute(select(literal_column(_CLOCKS[connection.dialect.name]))).scalar_one())


@dataclass(frozen=True)
class Queue:
    """Rows of ``table`` for which ``waiting`` holds, in the order of their ids.

    A lease lasts ``seconds`` unless it is renewed; ``clock`` tells the time, in seconds since any moment.
    """

    table: Table
    waiting: ColumnElement[bool]
    seconds: float = 30.0
    clock: Callable[[Connection], float] = database_clock

    def free(self, now: float) -> ColumnElement[bool]:
        """Rows that wait and that nobody holds at this time."""
        until = self.table.c.leased_until
        over = or_(until.is_(None), until < now, until > now + self.seconds + SLACK_S)
        return and_(self.waiting, or_(self.table.c.leased_by.is_(None), over))


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a queue is: rows ``free`` to take, rows ``leased``, and in how many seconds the first lease ends."""

    free: int
    leased: int
    ends_in: float | None


def new_holder() -> str:
    """A name no other process has, which says where the holder lives: ``host:process:random``."""
    return f"{platform.node()}:{os.getpid()}:{secrets.token_hex(6)}"


def lease(connection: Connection, queue: Queue, holder: str, most: int, after: int = -1) -> list[int]:
    """Take up to ``most`` free rows, the first ones beyond the id ``after``; their ids.

    Rows another transaction is taking are passed over. A worker that begins where it was saves reading rows long done.
    """
    now, rows = queue.clock(connection), queue.table
    wanted = select(rows.c.id).where(queue.free(now), rows.c.id > after).order_by(rows.c.id).limit(most)
    ids = list(connection.execute(wanted.with_for_update(skip_locked=True)).scalars())
    _hold(connection, queue, ids, {"leased_by": holder, "leased_until": now + queue.seconds})
    return ids


def renew(connection: Connection, queue: Queue, holder: str, ids: Sequence[int]) -> list[int]:
    """Hold those of ``ids`` that are still the holder's for another ``seconds``; which they are."""
    mine = _mine(connection, queue, holder, ids)
    _hold(connection, queue, mine, {"leased_until": queue.clock(connection) + queue.seconds})
    return mine


def finish(connection: Connection, queue: Queue, holder: str, results: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """Write results, columns by row id, where the row is still the holder's; the ids for which that was so.

    A lease that ran out is still the holder's until somebody else takes the row. Raises ``StoreError`` when a result
    leaves its row waiting: it would be done again.
    """
    mine = _mine(connection, queue, holder, list(results))
    if not mine:
        return []
    rows = queue.table
    names = sorted({name for row in mine for name in results[row]})
    own: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    statement = update(rows).where(rows.c.id == bindparam("row")).values(**own, leased_by=None, leased_until=None)
    connection.execute(
        statement, [{"row": row, **{f"new_{name}": results[row].get(name) for name in names}} for row in mine]
    )
    undone = sum(_count(connection, and_(rows.c.id.in_(part), queue.waiting), rows) for part in parts(mine))
    if undone:
        raise StoreError(f"{rows.name}: {undone} of {len(mine)} results leave their rows waiting; nothing was saved")
    return mine


def give_back(connection: Connection, queue: Queue, holder: str, ids: Sequence[int]) -> list[int]:
    """Let go of those of ``ids`` that are still the holder's, undone; which they are. For a worker that stops."""
    mine = _mine(connection, queue, holder, ids)
    _hold(connection, queue, mine, {"leased_by": None, "leased_until": None})
    return mine


def standing(connection: Connection, queue: Queue) -> Standing:
    """How many rows wait, and for what."""
    now, rows = queue.clock(connection), queue.table
    free, waiting = _count(connection, queue.free(now), rows), _count(connection, queue.waiting, rows)
    held = select(func.min(rows.c.leased_until)).where(queue.waiting, rows.c.leased_by.is_not(None))
    ends = connection.execute(held.where(rows.c.leased_until >= now)).scalar()
    return Standing(free, waiting - free, None if ends is None or waiting == free else max(0.0, float(ends) - now))


def _mine(connection: Connection, queue: Queue, holder: str, ids: Sequence[int]) -> list[int]:
    """Those of ``ids`` that wait and that the holder holds, locked until the transaction ends."""
    rows, found = queue.table, set()
    for part in parts(sorted(ids)):
        wanted = select(rows.c.id).where(rows.c.id.in_(part), queue.waiting, rows.c.leased_by == holder)
        found |= set(connection.execute(wanted.order_by(rows.c.id).with_for_update()).scalars())
    return [row for row in ids if row in found]


def _hold(connection: Connection, queue: Queue, ids: Iterable[int], columns: Mapping[str, Any]) -> None:
    for part in parts(list(ids)):
        connection.execute(update(queue.table).where(queue.table.c.id.in_(part)).values(**columns))


def _count(connection: Connection, condition: ColumnElement[bool], rows: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(rows).where(condition)).scalar_one())
