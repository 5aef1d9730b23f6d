"""A database of a million turns, to measure pages and commands on: ``python benchmarks/million.py [FILE] [TURNS]``.

Three runs of the shape a four-role run has (``storage.samples``): 16 episodes of nine turns a step, tasks with parents,
rubrics, scores, criteria and advantages. Forty steps are saved by the store, their rows are then copied under new ids,
steps and task keys. The text of copies repeats, and so their episodes' hashes do not hold; nothing else tells them from
saved ones. It takes minutes, so it is made once: a file that is there already is kept.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sparring.storage import samples
from sparring.storage.schema import HEAD
from sparring.storage.store import Store
from sparring.storage.tables import Base

RUNS = 3
TEMPLATES = 40
EPISODES = 16
ATTEMPTS = 3
_LEFT_OUT = ("scenarios", "runs", "policy_versions", "states")  # not of one step alone, or pruned
Rows = dict[str, list[tuple[Any, ...]]]


def default_file() -> Path:
    """Where the database is kept between benchmarks."""
    return Path(tempfile.gettempdir()) / f"sparring-million-{HEAD}.db"


def million(file: Path | None = None, turns: int = 1_000_000) -> Path:
    """The database file, made now where it is absent."""
    file = file or default_file()
    if not file.exists():
        begun = time.perf_counter()
        half_made = file.with_name(file.name + ".part")
        half_made.unlink(missing_ok=True)
        _Copies(half_made).make(turns)
        half_made.rename(file)
        print(f"made {file} in {time.perf_counter() - begun:.0f} s: {file.stat().st_size / 2**20:,.0f} MiB", flush=True)
    return file


def _foreign_keys() -> dict[str, dict[str, str]]:
    """Of each table, the columns that hold another row's id: column -> table."""
    return {
        name: {
            key.parent.name: key.column.table.name
            for constraint in table.foreign_key_constraints
            if len(constraint.elements) == 1
            for key in constraint.elements
        }
        for name, table in Base.metadata.tables.items()
    }


class _Copies:
    """Copies of a few saved steps, in one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.templates, self.columns = _templates()
        self.keys = _foreign_keys()
        self.next: Counter[str] = Counter()
        self.rng = random.Random(0)

    def make(self, turns: int) -> None:
        """Write whole steps, run by run, until there are that many turns."""
        with Store(self.file) as store:
            for number in range(RUNS):
                settings = {"training": {"steps": 10_000}, "name": "million"}
                store.start_run("million", settings, "million", number, {"command": "sparring run million"})
                store.finish_run(f"r{number + 1}", "done")
        connection = sqlite3.connect(self.file, isolation_level=None)
        for pragma in ("foreign_keys=0", "journal_mode=OFF", "synchronous=OFF", "cache_size=-400000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        for run in range(1, RUNS + 1):
            self.versions = run * 1_000_000
            self._version(connection, run, 0, None)
            step = 0
            while self.next["turns"] < turns * run / RUNS:
                self._step(connection, run, step)
                step += 1
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()

    def _version(self, connection: sqlite3.Connection, run: int, number: int, step_id: int | None) -> None:
        row = (self.versions + number, run, number, f"{run}{number:015x}", step_id or 1 + self.next["steps"])
        connection.execute(
            "INSERT INTO policy_versions (id, run_id, number, weights_sha, step_id) VALUES (?,?,?,?,?)", row
        )

    def _step(self, connection: sqlite3.Connection, run: int, step: int) -> None:
        rows = self.templates[step % TEMPLATES]
        shift = {table: self.next[table] + 1 - (rows[table][0][0] if rows[table] else 1) for table in rows}
        for table, found in rows.items():
            if found:
                marks = ",".join("?" * len(found[0]))
                names = ",".join(f'"{name}"' for name in self.columns[table])
                made = self._copied(table, found, shift, run, step)
                connection.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', made)
                self.next[table] += len(found)
        self._version(connection, run, step + 1, self.next["steps"])

    def _copied(
        self, table: str, rows: list[tuple[Any, ...]], shift: dict[str, int], run: int, step: int
    ) -> Iterator[list[Any]]:
        names, keys = self.columns[table], self.keys[table]
        for row in rows:
            new = list(row)
            for place, name in enumerate(names):
                value = row[place]
                if name == "id":
                    new[place] = value + shift[table]
                elif name == "policy_version_id":
                    new[place] = self.versions + step
                elif name == "run_id":
                    new[place] = run
                elif name == "at_step":
                    new[place] = step
                elif name in keys and value is not None:
                    new[place] = value + shift[keys[name]]
                elif name in ("key", "parent_key", "task_key") and value is not None:
                    new[place] = hashlib.blake2b(f"{run}/{step}/{value}".encode(), digest_size=8).hexdigest()
            yield self._step_row(new, step) if table == "steps" else new

    def _step_row(self, row: list[Any], step: int) -> list[Any]:
        loss, entropy = self.rng.random() / (1 + step / 500), 2 / (1 + step / 1000) + 0.1 * self.rng.random()
        metrics = f'{{"accuracy":{1 - loss},"entropy":{entropy},"kl":{self.rng.random()},"loss":{loss},"update_s":0.2}}'
        columns = self.columns["steps"]
        for name, value in (("number", step), ("policy_version", step + 1), ("metrics", metrics)):
            row[columns.index(name)] = value
        return row


def _templates() -> tuple[list[Rows], dict[str, list[str]]]:
    """The rows of some steps, each saved as a run of its own, by table; and the columns of every table."""
    tables = [name for name in Base.metadata.tables if name not in _LEFT_OUT]
    top: Counter[str] = Counter()
    found: list[Rows] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sparring.db"
        with Store(file) as store, closing(sqlite3.connect(file)) as connection:
            columns = {name: [row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')] for name in tables}
            for number in range(TEMPLATES):
                run = store.start_run("template", {}, "template", 0).id
                store.save_step(run, samples.sample_step(number, EPISODES, 0, number % 10 == 0, ATTEMPTS))
                rows: Rows = {}
                for name in tables:
                    sql = f'SELECT * FROM "{name}" WHERE id > {top[name]} ORDER BY id'
                    rows[name] = connection.execute(sql).fetchall()
                    top[name] = rows[name][-1][0] if rows[name] else top[name]
                found.append(rows)
    return found, columns


if __name__ == "__main__":
    made = million(Path(sys.argv[1]) if len(sys.argv) > 1 else None, *(int(turns) for turns in sys.argv[2:3]))
    print(made)
