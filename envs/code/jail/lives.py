"""The live children of a zygote: each has its own line to whoever opened it, and ends with a word or with the line."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from dataclasses import dataclass

_BLIND_MS = 20.0  # how often to look where the kernel has no pidfd


def report(pid: int, reason: str, status_reader: int, started: float) -> bytes:
    """Collect an ended child: how it ended, what it said before the program began, what it used."""
    _, wait_status, usage = os.wait4(pid, 0)
    said = os.read(status_reader, 512)
    os.close(status_reader)
    answer = {
        "status": os.waitstatus_to_exitcode(wait_status),
        "stopped": reason,
        "said": said.decode("utf-8", "replace"),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.monotonic() - started,
    }
    return json.dumps(answer).encode()


@dataclass
class _Life:
    pid: int
    line: socket.socket
    handle: int | None
    status_reader: int
    started: float
    reason: str = ""


class Lives:
    """All live children; ``attend`` is given descriptors that became readable."""

    def __init__(self, poller: select.poll) -> None:
        """``poller``: where to register lines and process handles."""
        self._poller = poller
        self._by_descriptor: dict[int, _Life] = {}
        self._blind: list[_Life] = []

    @property
    def patience_ms(self) -> float | None:
        """How long a poll may take."""
        return _BLIND_MS if self._blind else None

    def add(self, pid: int, line: int, status_reader: int, started: float) -> None:
        """Watch over a child that has just been forked. ``line``: a socket to report its end on."""
        try:
            handle: int | None = os.pidfd_open(pid)
        except OSError:  # some kernels and emulations lack it
            handle = None
        life = _Life(pid, socket.socket(fileno=line), handle, status_reader, started)
        for descriptor in [line] if handle is None else [line, handle]:
            self._by_descriptor[descriptor] = life
            self._poller.register(descriptor, select.POLLIN)
        if handle is None:
            self._blind.append(life)

    def attend(self, descriptor: int) -> None:
        """The line says (or, closing, implies) that the child must go; the handle that it is gone."""
        life = self._by_descriptor.get(descriptor)
        if life is None:  # ended a moment ago, in the same poll
            return
        if descriptor == life.handle:
            self._end(life)
            return
        with contextlib.suppress(OSError):
            life.line.recv(64, socket.MSG_DONTWAIT)
        life.reason = "told"
        self._forget(descriptor)
        os.kill(life.pid, signal.SIGKILL)  # not waited for yet, so the number is still its own

    def look(self) -> None:
        """Find ended children without a handle."""
        for life in list(self._blind):
            if os.waitid(os.P_PID, life.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self._blind.remove(life)
                self._end(life)

    def _end(self, life: _Life) -> None:
        for descriptor in [life.line.fileno(), life.handle]:
            if descriptor in self._by_descriptor:
                self._forget(descriptor)
        if life.handle is not None:
            os.close(life.handle)
        answer = report(life.pid, life.reason, life.status_reader, life.started)
        with life.line, contextlib.suppress(OSError):  # nobody may be listening any more
            life.line.send(answer, socket.MSG_DONTWAIT)

    def _forget(self, descriptor: int) -> None:
        del self._by_descriptor[descriptor]
        self._poller.unregister(descriptor)
