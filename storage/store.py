"""The store: starts runs, saves whole steps, finds where to resume. Reading for people is in queries and lineage."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.orm import Session

from sparring.scenarios.errors import RunNotFound, StoreError

from .checks import check
from .database import Database
from .dialects import Answer, Lock, unsecret
from .readers import Readers
from .records import CheckpointRow, EvaluationRow, ResumePoint, RunRow, StepRecord
from .resume import KEPT_STATES, roll_back
from .rows import now, table
from .step_rows import StepWriter
from .tables import Checkpoints, Evaluations, Runs, Scenarios, States, Steps, Tasks

STATUSES = ("running", "stopped", "done", "failed")


def run_number(run: str) -> int:
    """The integer behind a run's human id: ``r3`` -> 3. Raises ``RunNotFound`` on anything else."""
    if not re.fullmatch(r"r[0-9]{1,9}", run):
        raise RunNotFound(f"{run!r} is no run id; ids look like r1: 'sparring runs' lists them")
    return int(run[1:])


class Store:
    """Every run of one database. Methods raise ``StoreError`` and its kinds, with the last whole step safe."""

    def __init__(self, url: str | Path = "sqlite:///sparring.db", *, create: bool = True) -> None:
        """Open ``sqlite:///FILE``, a plain path or ``postgresql+psycopg://...``, making or upgrading what it names.

        ``create=False`` refuses what is not there.
        """
        self._database = Database(url, create)
        self._locks: dict[int, Lock] = {}
        self.readers = Readers(self.path)

    @classmethod
    def memory(cls) -> Self:
        """A store that forgets everything when closed; for tests and trials."""
        return cls("sqlite://")

    @property
    def path(self) -> Path | None:
        """The database file; ``None`` in memory and on a server."""
        return self._database.path

    @property
    def name(self) -> str:
        """What people call the database: its file, or its URL without the password."""
        return self._database.dialect.name

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints of its runs lie, a folder for each run."""
        return self._database.dialect.folder

    @property
    def is_memory(self) -> bool:
        """Whether it is gone when it is closed."""
        return not self._database.lasts

    def read(self) -> AbstractContextManager[Session]:
        """A consistent, read-only view of the database as an SQLAlchemy session."""
        return self._database.read()

    def write(self, queued: bool = False) -> AbstractContextManager[Connection]:
        """A write transaction, for what this class has no method for; no two ``queued`` ones overlap."""
        return self._database.write(queued)

    def ask(self, sql: str, limit: int) -> Answer:
        """The first ``limit`` rows of any statement that reads. Raises ``StoreError`` on one that would write."""
        return self._database.ask(sql, limit)

    def size(self) -> int:
        """Bytes the database takes on its disk."""
        return self._database.dialect.size()

    def shrink(self) -> None:
        """Give the room of deleted rows back to the disk, where that is ours to do. Raises ``StoreError``."""
        self._database.dialect.shrink()

    def start_run(
        self, name: str, scenario: Mapping[str, Any], digest: str, seed: int, info: Mapping[str, Any] | None = None
    ) -> RunRow:
        """A new run of a resolved scenario, locked for this store. ``info``: versions, machine, command line.

        Passwords in URLs are stored as ``***``.
        """
        with self._database.write(queued=True) as connection:
            scenarios, runs = table(Scenarios), table(Runs)
            scenario_id = connection.execute(select(scenarios.c.id).where(scenarios.c.digest == digest)).scalar()
            if scenario_id is None:
                scenario_id = _next_id(connection, Scenarios)
                connection.execute(insert(scenarios).values(id=scenario_id, digest=digest, resolved=unsecret(scenario)))
            number = _next_id(connection, Runs)
            self._lock(number)
            columns = {
                "name": name,
                "seed": seed,
                "status": "running",
                "info": unsecret(info or {}),
                "started_at": now(),
            }
            connection.execute(insert(runs).values(id=number, scenario_id=scenario_id, **columns))
        return self.run(f"r{number}")

    def run(self, run: str) -> RunRow:
        """The run with this id. Raises ``RunNotFound``."""
        number = run_number(run)
        with self.read() as session:
            return describe(session, _found(session.get(Runs, number), run), self.is_held)

    def is_held(self, run: str) -> bool:
        """Whether a living process holds the right to write this run."""
        return self._database.dialect.is_held(run)

    @contextmanager
    def holding(self, run: str) -> Iterator[None]:
        """The right to write a run for the length of a block. Raises ``RunBusy``, also where this store has it."""
        lock = self._database.dialect.lock(run)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def save_step(self, run: str, record: StepRecord) -> None:
        """Everything a step did, in one transaction: after an error or a kill, all of it is there or none."""
        check(record)
        number = run_number(run)
        self._lock(number)
        with self._database.write() as connection:
            last = self._last_step(connection, run, number)
            if last is not None and record.step <= last:
                raise StoreError(f"run {run} holds step {last} already and cannot take step {record.step}; resume it")
            StepWriter(connection, number, record).write()
            if record.checkpoint is not None:
                _prune(connection, number)
        self.readers.look()

    def finish_run(self, run: str, status: str) -> None:
        """Set a run's status (running, stopped, done or failed) and give its lock back."""
        if status not in STATUSES:
            raise StoreError(f"{status!r} is no status of a run; one of {', '.join(STATUSES)}")
        number, runs = run_number(run), table(Runs)
        with self._database.write() as connection:
            ended = None if status == "running" else now()
            changed = connection.execute(
                update(runs).where(runs.c.id == number).values(status=status, finished_at=ended)
            )
            if changed.rowcount == 0:
                raise RunNotFound(f"no run {run} in {self.name}: 'sparring runs' lists them")
        if status != "running":
            self._unlock(number)

    def resume_point(self, run: str, usable: Callable[[CheckpointRow], bool] | None = None) -> ResumePoint:
        """Lock the run and roll its rows back to its newest checkpoint for which ``usable`` holds (default: any).

        A run without any checkpoint goes back to its beginning. Raises ``StoreError``, changing nothing, when it has
        checkpoints and none of the newest is usable.
        """
        number = run_number(run)
        self.run(run)
        self._lock(number)
        with self._database.write() as connection:
            self._last_step(connection, run, number)
            return roll_back(connection, number, usable or (lambda _: True))

    def task_keys(self, run: str) -> set[str]:
        """Keys of every task that was proposed in the run, to know what is new; not of those that were given."""
        proposed = Tasks.run_id == run_number(run), Tasks.origin_turn.is_not(None)
        with self.read() as session:
            return set(session.scalars(select(Tasks.key).where(*proposed).distinct()))

    def evaluations(self, run: str) -> list[EvaluationRow]:
        """Every held-out figure of the run, in the order they were saved."""
        wanted = select(Evaluations).join(Steps).where(Steps.run_id == run_number(run))
        with self.read() as session:
            return [
                EvaluationRow(row.at_step, row.name, row.value, row.n, row.parameters, row.temperature)
                for row in session.scalars(wanted.order_by(Steps.number, Evaluations.number))
            ]

    def _lock(self, number: int) -> None:
        lock = None if number in self._locks else self._database.dialect.lock(f"r{number}")
        if lock is not None:
            self._locks[number] = lock

    def _unlock(self, number: int) -> None:
        lock = self._locks.pop(number, None)
        if lock is not None:
            lock.release()

    def _last_step(self, connection: Connection, run: str, number: int) -> int | None:
        """The newest step of a run that this store still has the right to write.

        Raises ``RunNotFound``, and ``StoreError`` where that right was lost. The run's row stays locked until
        the transaction ends: who takes the right over meanwhile waits for that.
        """
        row = select(Runs.id).where(Runs.id == number).with_for_update(key_share=True)
        if connection.execute(row).first() is None:
            raise RunNotFound(f"no run {run} in this database: 'sparring runs' lists them")
        if number in self._locks:
            self._locks[number].confirm(connection)
        return connection.execute(select(func.max(Steps.number)).where(Steps.run_id == number)).scalar()

    def close(self) -> None:
        """Give locks and connections back. A run left running keeps its status."""
        for number in list(self._locks):
            self._unlock(number)
        self._database.close()

    def __enter__(self) -> Self:
        """The store itself; closed at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()


def _next_id(connection: Connection, model: type[Runs] | type[Scenarios]) -> int:
    return (connection.execute(select(func.max(table(model).c.id))).scalar() or 0) + 1


def _found(row: Runs | None, run: str) -> Runs:
    if row is None:
        raise RunNotFound(f"no run {run} in this database: 'sparring runs' lists them")
    return row


def _prune(connection: Connection, number: int) -> None:
    """Drop trainer state that no resume can ask for: older than the newest checkpoints."""
    steps = select(Steps.number).join(Checkpoints).where(Steps.run_id == number).order_by(Steps.number.desc())
    kept = connection.execute(steps.limit(KEPT_STATES)).scalars().all()
    old = select(Steps.id).where(Steps.run_id == number, Steps.number < kept[-1])
    connection.execute(delete(table(States)).where(States.step_id.in_(old)))


def describe(session: Session, row: Runs, is_held: Callable[[str], bool]) -> RunRow:
    """A run's row as its record; ``is_held`` tells whether a run that is stored as running still lives."""
    killed = row.status == "running" and not is_held(f"r{row.id}")
    digest = session.scalars(select(Scenarios.digest).where(Scenarios.id == row.scenario_id)).one()
    last = session.scalar(select(func.max(Steps.number)).where(Steps.run_id == row.id))
    return RunRow(
        id=f"r{row.id}",
        name=row.name,
        status="killed" if killed else row.status,
        digest=digest,
        seed=row.seed,
        started_at=row.started_at,
        finished_at=row.finished_at,
        last_step=last,
        info=row.info,
    )
