"""Who keeps the log beside a SQLite file from being folded in: a reader that stays in one transaction makes it grow."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from .dialects import masked

LIMIT = 64 * 2**20  # bytes; a log without such a reader stays well below, see PRAGMAS
_MARKS = range(123, 128)  # bytes of the -shm file a reader locks: one of five marks, for the length of its transaction
_TWICE = 2
_WORDS = 3  # of a command line: what follows may be anybody's secret


class Process(NamedTuple):
    """A process of this machine, and the first words of its command."""

    pid: int
    command: str


class Readers:
    """Watches the size of the log and tells, once each time it grows past ``limit`` bytes, who holds it up."""

    def __init__(self, path: Path | None, limit: int = LIMIT) -> None:
        """``path`` is the database file; nothing is watched where there is none. ``tell`` may be replaced."""
        self.path, self.limit = path, limit
        self.tell: Callable[[str], None] = logging.getLogger("sparring.storage").warning
        self._held = 0  # how many looks in a row found the log too large and held up

    def look(self) -> None:
        """Cheap enough for every step: the size of one file, and more only while it is too large.

        A large step makes a large log too, and one that comes and goes holds it up for a moment: what is told was so
        twice in a row.
        """
        if self.path is None:
            return
        size = _size(beside(self.path, "-wal"))
        self._held = self._held + 1 if size > self.limit and _is_held_up(self.path) else 0
        if self._held == _TWICE:
            self.tell(grown(self.path, size))


def grown(path: Path, size: int) -> str:
    """What to say about a log of ``size`` bytes."""
    found = readers(path)
    if found:
        who = " and ".join(_named(process) for process in found[:3])
        who += f" and {len(found) - 3} more" if len(found) > 3 else ""
        why = f"because {who} keeps reading the database as it was: end that transaction, or the program"
    else:
        why = "because a program that cannot be named from here keeps reading the database as it was: close it"
    return (
        f"the log beside {path} has grown to {size / 2**20:.0f} MB, {why}; "
        "nothing is lost, and the log shrinks once that reader has left"
    )


def _is_held_up(path: Path) -> bool:
    """Whether part of the log cannot be folded into the file; folds in what can be."""
    try:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            _, log, folded = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:
        return False  # another process is folding it in
    return bool(folded < log)


def _named(process: Process) -> str:
    return "this process itself" if process.pid == os.getpid() else f"process {process.pid} ({process.command})"


def readers(path: Path) -> list[Process]:
    """The processes inside a read transaction on a SQLite file; where locks cannot be read, those that have it open."""
    pids = _locking(beside(path, "-shm")) or (_opening(path) - {os.getpid()})
    return [Process(pid, _command(pid)) for pid in sorted(pids)]


def beside(path: Path, ending: str) -> Path:
    """A file SQLite keeps beside a database: ``-wal`` or ``-shm``."""
    return path.with_name(path.name + ending)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _locking(shared: Path) -> set[int]:
    """Ids of the processes that hold a reader's mark, by ``/proc/locks``."""
    found = set[int]()
    try:
        inode, lines = shared.stat().st_ino, Path("/proc/locks").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.split()
        if len(words) == 8 and words[5].rpartition(":")[2] == str(inode) and words[6].isdigit():
            first, last, pid = int(words[6]), int(words[7]) if words[7].isdigit() else int(words[6]), int(words[4])
            if pid > 0 and any(mark in range(first, last + 1) for mark in _MARKS) and shared in _open_files(pid):
                found.add(pid)
    return found


def _opening(path: Path) -> set[int]:
    """Ids of the processes that have a database or its log open."""
    mine = {path.resolve(), beside(path.resolve(), "-wal")}
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")] if Path("/proc").is_dir() else []
    return {pid for pid in pids if mine & _open_files(pid)}


def _open_files(pid: int) -> set[Path]:
    found = set[Path]()
    with suppress(OSError):  # gone meanwhile, or somebody else's
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(Path(os.readlink(entry)))
    return found


def _command(pid: int) -> str:
    """The first words of a process's command line, without anything that could move a cursor."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return "its command cannot be read"
    line = masked(" ".join(word for word in words[:_WORDS] if word))
    return "".join(sign if sign.isprintable() else "?" for sign in line)[:100]
