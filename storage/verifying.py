"""Whether rows are still what was saved: every episode and step against its hash, links between rows, the file itself.

Nothing here writes.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from sparring.envs.types import Segment
from sparring.scenarios.errors import RunNotFound, SchemaMismatch

from .damage import DAMAGE, Finding, Verified, said, wrong_steps
from .dialects import dialect_of
from .records import CheckpointRow
from .rows import parts, table
from .schema import HEAD
from .store import Store, run_number
from .tables import Base, Checkpoints, Episodes, Runs, Segments, Steps, Turns

_STEPS = 16  # steps read in one transaction: a longer one would keep the log beside the file from being folded in
_SHOWN = 20  # lines of SQLite's own report
Told = Callable[[str, int, int], None]  # run, steps done, steps in all


def verify_at(
    url: str,
    run: str = "",
    checkpoint: Callable[[CheckpointRow], str] | None = None,
    told: Told = lambda run, done, total: None,
) -> Verified:
    """As ``verify`` for the database a URL names, and the file itself; ``run`` may be ``latest`` or empty for all.

    Damage never raises, even where the database cannot be opened. Raises ``StoreError`` where there is no database,
    ``SchemaMismatch`` where a newer Sparring wrote it, ``RunNotFound``.
    """
    file = dialect_of(url).path
    try:
        with Store(url, create=False) as store:
            found = verify(store, run or None, checkpoint, told)
            found.name = store.name
    except RunNotFound:
        raise
    except DAMAGE as error:
        if file is None or not file.is_file() or (isinstance(error, SchemaMismatch) and not wrong_file(file)):
            raise
        found = Verified(findings=[Finding("file", f"it cannot be opened: {said(error)}")], name=str(file))
    if file is not None:
        found.findings[:0] = wrong_file(file)
    return found


def verify(
    store: Store,
    run: str | None = None,
    checkpoint: Callable[[CheckpointRow], str] | None = None,
    told: Told = lambda run, done, total: None,
) -> Verified:
    """Look at every row of ``run``, or of every run. ``checkpoint`` says what is wrong with one that lies on disk.

    Of each run the newest checkpoint must be there; older ones may have been dropped. Raises ``RunNotFound``.
    """
    found = Verified()
    with store.read() as session:
        numbers = readable_ids(session, Runs, found.findings, "file")
    if run == "latest":
        numbers = numbers[-1:]
    elif run is not None:
        if run_number(run) not in numbers:
            raise RunNotFound(f"no run {run} in this database: 'sparring runs' lists them")
        numbers = [run_number(run)]
    for number in numbers:
        found.runs += 1
        _run(store, number, found, told)
        if checkpoint is not None:
            _checkpoints(store, number, found, checkpoint)
    return found


def _run(store: Store, number: int, found: Verified, told: Told) -> None:
    with store.read() as session:
        steps = readable_ids(session, Steps, found.findings, f"r{number}", Steps.run_id == number)
    told(f"r{number}", 0, len(steps))
    for done, part in enumerate(parts(steps, _STEPS)):
        with store.read() as session:
            for finding in wrong_steps(session, part, found):
                found.findings.append(finding)
        told(f"r{number}", min(len(steps), (done + 1) * _STEPS), len(steps))
    with store.read() as session:
        found.findings += wrong_links(session, number)


def wrong_links(session: Session, number: int) -> Iterator[Finding]:
    """Links between rows of a run that no hash covers, and the natural keys of its segments."""
    for what, sql in _LINKS.items():
        try:
            for row in session.execute(text(sql), {"run": number}):
                yield Finding(f"r{number}/{row.step}/{row.number}", what, part="episode")
        except DAMAGE as error:
            yield Finding(f"r{number}", f"links between its rows cannot be followed: {said(error)}")
    try:
        wrong = [row.id for row in _segments(session, number) if not _is_whole(row)]
    except DAMAGE as error:
        yield Finding(f"r{number}", f"its contexts cannot be read: {said(error)}")
        return
    wanted = select(Steps.number.label("step"), Episodes.number).join(Episodes, Episodes.step_id == Steps.id)
    wanted = wanted.join(Turns, Turns.episode_id == Episodes.id).distinct()
    for part in parts(wrong):
        read = Turns.context_id.in_(part) | Turns.train_context_id.in_(part)
        for row in session.execute(wanted.where(read)):
            where, what = f"r{number}/{row.step}/{row.number}", "a context it read changed since it was saved"
            yield Finding(where, what, part="episode")


_OF = "JOIN episodes e ON e.id = {0}.episode_id JOIN steps s ON s.id = e.step_id"
_LINKS = {
    "a task of it names another parent than it was made from": f"""
        SELECT DISTINCT s.number AS step, e.number FROM tasks t {_OF.format("t")}
        WHERE s.run_id = :run AND coalesce(t.parent_id, 0) != coalesce((SELECT max(p.id) FROM tasks p
          WHERE p.run_id = t.run_id AND p."key" = t.parent_key AND p.id < t.id), 0)""",
    "a score of it names a criterion of another rubric": f"""
        SELECT DISTINCT s.number AS step, e.number FROM criterion_scores x JOIN scores y ON y.id = x.score_id
        JOIN turns t ON t.id = y.turn_id {_OF.format("t")}
        JOIN criteria c ON c.id = x.criterion_id JOIN rubrics r ON r.id = c.rubric_id
        WHERE s.run_id = :run AND (r.episode_id != t.episode_id OR c.number != x.criterion OR NOT (
          coalesce(x.rubric_turn, -1) IN (r.turn, coalesce(r.author, -1))))""",
    "a task of it is filed under another run": f"""
        SELECT DISTINCT s.number AS step, e.number FROM tasks t {_OF.format("t")}
        WHERE s.run_id = :run AND t.run_id != s.run_id""",
    "a context it read is filed under another run": f"""
        SELECT DISTINCT s.number AS step, e.number FROM turns t {_OF.format("t")}
        JOIN segments g ON g.id IN (t.context_id, t.train_context_id)
        WHERE s.run_id = :run AND g.run_id != s.run_id""",
    "the weights that sampled it are filed under another run": f"""
        SELECT DISTINCT s.number AS step, e.number FROM turns t {_OF.format("t")}
        JOIN policy_versions v ON v.id = t.policy_version_id WHERE s.run_id = :run AND v.run_id != s.run_id""",
}


def _segments(session: Session, number: int) -> Iterator[Any]:
    columns = (Segments.id, Segments.key, Segments.text_hash, Segments.text, Segments.token_ids, Segments.n_tokens)
    wanted = select(*columns).where(Segments.run_id == number).execution_options(yield_per=1000)
    yield from session.execute(wanted)


def _is_whole(row: Any) -> bool:
    """Whether a segment still has its natural key; tokens may have been dropped."""
    words = row.text.encode("utf-8", "surrogatepass")
    if hashlib.blake2b(words, digest_size=8).digest() != bytes(row.text_hash):
        return False
    if not row.token_ids:
        return True
    return bool(row.n_tokens == len(row.token_ids) and Segment(row.text, row.token_ids).key == row.key)


def _checkpoints(store: Store, number: int, found: Verified, wrong: Callable[[CheckpointRow], str]) -> None:
    wanted = select(Steps.number, Checkpoints.path, Checkpoints.sha, Checkpoints.bytes)
    wanted = wanted.join(Checkpoints).where(Steps.run_id == number).order_by(Steps.number.desc())
    try:
        with store.read() as session:
            rows = session.execute(wanted).all()
    except DAMAGE as error:
        found.findings.append(Finding(f"r{number}", f"its checkpoints cannot be listed: {said(error)}"))
        return
    for place, row in enumerate(rows):
        if place and not Path(row.path).exists():
            continue
        found.checkpoints += 1
        if what := wrong(CheckpointRow(row.path, row.sha, row.bytes)):
            advice = f"`sparring resume r{number}` goes on from the newest whole one; or put the folder back"
            found.findings.append(Finding(f"r{number}/{row.number}", what, advice))


def readable_ids(session: Session, model: type[Base], findings: list[Finding], where: str, *only: Any) -> list[int]:
    """The ids of a table's rows in order; where pages cannot be read those between are looked for one by one."""
    of = table(model)
    try:
        return list(session.scalars(select(of.c.id).where(*only).order_by(of.c.id)))
    except DAMAGE as error:
        findings.append(Finding(where, f"table {of.name} cannot be read as a whole: {said(error)}"))
    return list(_between(session, model, 1, _highest(session, model), only))


def _highest(session: Session, model: type[Base]) -> int:
    """A bound for the ids of a table: its highest, or what is known of it from those that name it."""
    of = table(model)
    asked = [select(func.max(of.c.id))]
    for other in Base.metadata.tables.values():
        asked += [select(func.max(key.parent)) for key in other.foreign_keys if key.column is of.c.id]
    found = [0]
    for wanted in asked:
        try:
            found.append(session.scalar(wanted) or 0)
        except DAMAGE:
            continue
    return min(max(found), 10_000_000)


def _between(session: Session, model: type[Base], low: int, high: int, only: Sequence[Any]) -> Iterator[int]:
    of = table(model)
    if low > high:
        return
    try:
        yield from session.scalars(select(of.c.id).where(of.c.id.between(low, high), *only).order_by(of.c.id)).all()
    except DAMAGE:
        if low < high:
            middle = (low + high) // 2
            yield from _between(session, model, low, middle, only)
            yield from _between(session, model, middle + 1, high, only)


def wrong_file(path: Path) -> list[Finding]:
    """What SQLite itself finds in a database file: pages, indexes, references, and whether its tables are ours."""
    found: list[Finding] = []
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=30)) as connection:
            connection.execute("PRAGMA query_only=1")  # a connection opened to read only would leave its log behind
            lines = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({_SHOWN})")]
            found += [Finding("file", line) for line in lines if line != "ok"]
            broken = connection.execute("PRAGMA foreign_key_check").fetchmany(_SHOWN)
            found += [Finding("file", f"row {row} of {of} names a row of {to} that is not there")
                      for of, row, to, _ in broken]  # fmt: skip
            if _version(connection) == HEAD:
                odd = {(kind, name) for kind, name, _ in _made(connection) ^ _ours()}
                found += [Finding("file", f"{kind} {name} is not as Sparring makes it") for kind, name in sorted(odd)]
    except (sqlite3.Error, ValueError) as error:
        found.append(Finding("file", f"SQLite cannot read it: {said(error)}"))
    return found


def _version(connection: sqlite3.Connection) -> str:
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""


def _made(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Tables and indexes as they were declared; views are made anew whenever they differ."""
    kinds = "SELECT type, name, sql FROM sqlite_master WHERE type != 'view' AND sql IS NOT NULL"
    return {(kind, name, sql) for kind, name, sql in connection.execute(f"{kinds} AND name NOT LIKE 'sqlite_%'")}


@cache
def _ours() -> set[tuple[str, str, str]]:
    with Store.memory() as fresh, fresh.read() as session:
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return _made(driver)
