"""One writer per run: an flock on a file beside the database that names its owner. The kernel frees it on any death.

A child forked by a killed writer may keep the flock alive, so a lock whose owner is gone is taken over.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from sparring.scenarios.errors import RunBusy


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def born(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks since boot; ``None`` when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def here() -> tuple[str, str]:
    """This boot of this machine, and the namespace of its process ids: they mean nothing in another."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return _boot_id(), space


def _owner() -> dict[str, str | int | None]:
    """This process, so that another can tell whether it still lives."""
    boot, space = here()
    return {"pid": os.getpid(), "born": born(os.getpid()), "boot": boot, "space": space}


def _read(descriptor: int) -> dict[str, Any]:
    """The owner a lock file names; empty when it names none."""
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_here(owner: dict[str, Any]) -> bool:
    """Whether the owner's process id means something to this process."""
    me = _owner()
    return bool(owner.get("pid")) and (owner.get("boot"), owner.get("space")) == (me["boot"], me["space"])


def _lives(owner: dict[str, Any]) -> bool:
    return born(int(owner["pid"])) == owner.get("born")


def lock_path(database: Path, run: str) -> Path:
    """The lock file of a run (``r1``) of a database file."""
    return database.with_name(f"{database.name}.{run}.lock")


def is_held(database: Path, run: str) -> bool:
    """Whether a living process holds the right to write this run of this database file.

    An owner on another machine, before the last boot or in another container cannot be looked up: the flock decides.
    A lock that cannot be read counts as held.
    """
    try:
        descriptor = os.open(lock_path(database, run), os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        owner = _read(descriptor)
        if _is_here(owner):
            return _lives(owner)
        if not owner:
            return True  # its owner is just about to write its name
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class RunLock:
    """Exclusive right to write one run, from construction to ``release``. Raises ``RunBusy`` when another holds it."""

    def __init__(self, path: Path, run: str) -> None:
        """Take the lock at ``path``; ``run`` is for messages."""
        self.path = path
        for attempt in range(5):  # a lock file can be replaced between opening and locking it
            try:
                descriptor = self._try(run)
            except RunBusy:
                if attempt:
                    raise
                time.sleep(0.02)  # `is_held` may be looking at it just now
                continue
            if descriptor is not None:
                self._descriptor = descriptor
                return
        raise RunBusy(f"run {run} keeps changing hands ({path}); wait a moment and try again")

    def _try(self, run: str) -> int | None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                self._take_over(descriptor, run)
            finally:
                os.close(descriptor)
            return None
        if not self._is_current(descriptor):
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(_owner()).encode())
        return descriptor

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.stat(self.path).st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            return False

    def _take_over(self, descriptor: int, run: str) -> None:
        """Remove a lock whose owner is dead; raise ``RunBusy`` when it lives or cannot be known to be dead."""
        owner = _read(descriptor)
        here = _is_here(owner)
        if not here or _lives(owner):
            pid = owner.get("pid", "unknown")
            whose = "this process, through another store" if pid == os.getpid() and here else f"process {pid}"
            raise RunBusy(
                f"run {run} is being written by {whose} (lock {self.path}); stop it first, or start a new run"
            )
        with self.path.with_name(self.path.name + ".guard").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # two who both saw a dead owner must not remove each other's new lock
            if self._is_current(descriptor):
                os.unlink(self.path)

    def confirm(self, connection: object) -> None:
        """Nothing to ask: an flock is held until its holder ends."""

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor >= 0:
            if self._is_current(self._descriptor):
                os.unlink(self.path)
            os.close(self._descriptor)
            self._descriptor = -1
