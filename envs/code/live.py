"""A live child seen from the trusted side: requests go in, bounded plain data comes out, all else is its own fault."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import select
import socket
import struct
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .jail import answering, plain, program
from .jail.child import READY
from .outcome import Limits, Outcome, ending
from .worker import GRACE_S, STDERR_MOST, Job, Report, Streams, Wires, ZygoteFailed, read_report, receive

_LONGEST = answering.ID_BYTES + 1 + plain.MOST_BYTES + 16
_CREDENTIALS = struct.Struct("3i")  # process, user, group
_SCM_CREDENTIALS = 2
_SAID = {
    answering.OK: Outcome.OK,
    answering.RAISED: Outcome.EXCEPTION,
    answering.TOO_MUCH: Outcome.OUTPUT_LIMIT,
    program.MEMORY: Outcome.MEMORY,
    program.MODULE: Outcome.MODULE_UNAVAILABLE,
    program.SYNTAX: Outcome.EXCEPTION,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request came to. ``value``: plain data of exact types, from the program and so hostile; None unless OK.

    ``stdout`` and the last 4 KiB of standard error are what was written since the reply before. ``cpu_s`` is the
    kernel's count for this request (nan where it does not tell), ``wall_s`` ours. For ``SANDBOX_ERROR``,
    ``stderr_tail`` says what failed on our side.
    """

    outcome: Outcome
    value: Any
    stdout: str
    stderr_tail: str
    cpu_s: float
    wall_s: float


class _Ended(Exception):
    """Inside a request: the child is gone or must go. ``outcome`` None: its report decides."""

    def __init__(self, outcome: Outcome | None = None) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Live:
    """A jailed child that has run its program and answers requests one at a time; ``close`` or ``with`` ends it.

    ``started`` is the reply to the program's own run. Once the child has ended, by whatever way, ``ended`` names it and
    every later request returns it: nothing a program does raises here. Requests of several threads wait in line.
    """

    def __init__(self, wires: Wires, job: Job, limits: Limits, tier: str) -> None:
        """For ``Sandbox.open``. Runs the program; ``started`` is ``SANDBOX_ERROR`` if it was never reached."""
        self.tier = tier
        self.ended: Outcome | None = None
        self._wires, self._job, self._limits = wires, job, limits
        self._streams = Streams([wires.stdout, wires.stderr], (limits.output_bytes, STDERR_MOST))
        self._let_go = weakref.finalize(self, wires.close)  # an abandoned child must end as well
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._closed = False
        self._pid = 0
        self._hears = True  # whether the channel is open at its other end
        self._received = bytearray()
        self._poller = select.poll()
        for descriptor in (wires.channel.fileno(), wires.line.fileno(), wires.stdout, wires.stderr):
            self._poller.register(descriptor, select.POLLIN)
        self.started = self._ask(answering.START, b"")
        if self.started.outcome is not Outcome.OK and self.ended is None:
            self.ended, _, _ = self._conclude(self.started.outcome, 0.0)

    def call(self, name: str, arguments: Sequence[Any] = ()) -> Reply:
        """Call a function of the program; its result is the value. ``ValueError`` when the arguments are not plain.

        What the function raises is ``EXCEPTION`` with the traceback in ``stderr_tail``; the child lives on.
        """
        return self._ask(answering.CALL, plain.encode([name, list(arguments)]))

    def run(self, code: str) -> Reply:
        """Run a cell in the program's namespace; the value is the ``repr`` of a last expression that is not None."""
        try:
            payload = plain.encode(code)
        except plain.NotPlain as too_long:  # the text is the model's, so this is its error and not the caller's
            return Reply(Outcome.EXCEPTION, None, "", f"this cell is too long: {too_long}", 0.0, 0.0)
        return self._ask(answering.CELL, payload)

    @property
    def closed(self) -> bool:
        """Whether ``close`` has been called."""
        return self._closed

    def close(self) -> None:
        """End the child and wait until it is gone; safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self.ended is None and self._owner == os.getpid():  # in a forked copy the child is not ours to end
                with contextlib.suppress(ZygoteFailed):
                    self._stop()
                self.ended = Outcome.CRASHED
            self._let_go()

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, kind: int, payload: bytes) -> Reply:
        with self._lock:
            if self._closed:
                raise ValueError("this live child is closed; open another")
            if self.ended is not None:
                return Reply(self.ended, None, "", f"the program has ended before: {self.ended}", 0.0, 0.0)
            began, cpu_s = time.monotonic(), self._cpu()
            try:
                outcome, value = self._exchange(kind, payload, began + self._limits.wall_s)
                used = self._cpu() - cpu_s
            except _Ended as end:
                outcome, value, used = self._conclude(end.outcome, cpu_s)
            return self._reply(outcome, value, used, time.monotonic() - began)

    def _reply(self, outcome: Outcome, value: Any, cpu_s: float, wall_s: float) -> Reply:
        stdout, stderr = (content.decode("utf-8", "replace") for content in self._streams.take())
        if outcome is Outcome.SANDBOX_ERROR:
            return Reply(outcome, None, "", str(value), cpu_s, wall_s)
        return Reply(outcome, value, stdout, stderr, cpu_s, wall_s)

    def _exchange(self, kind: int, payload: bytes, deadline: float) -> tuple[Outcome, Any]:
        """Send the request, wait for its reply and for nothing else. Raises ``_Ended``."""
        identity = secrets.token_bytes(answering.ID_BYTES)
        left = self._send(memoryview(answering.frame(identity, kind, payload)))
        body = None
        while body is None:
            ready = self._ready(deadline)
            if self._wires.channel.fileno() in ready:
                body = self._read(identity)
            for descriptor in ready:
                if descriptor in self._streams.open and not self._streams.read(descriptor):
                    self._poller.unregister(descriptor)
            if self._streams.overflowed:
                raise _Ended(Outcome.OUTPUT_LIMIT)
            if body is None and self._wires.line.fileno() in ready:
                raise _Ended
            left = self._send(left) if left else left
        if left:
            raise _Ended(Outcome.PROTOCOL_VIOLATION)  # an answer to a question not yet heard
        self._settle(deadline)
        return _understood(body)

    def _ready(self, deadline: float) -> set[int]:
        left_ms = (deadline - time.monotonic()) * 1000
        if left_ms <= 0:
            raise _Ended(Outcome.TIMEOUT)
        return {descriptor for descriptor, _ in self._poller.poll(left_ms)}

    def _send(self, message: memoryview) -> memoryview:
        """What could not be sent yet; the poller then also waits for room."""
        channel = self._wires.channel
        try:
            message = message[channel.send(message, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            pass
        except OSError:  # the child closed it: its end, or the clock, will tell
            return message[:0]
        if self._hears:
            self._poller.modify(channel, select.POLLIN | (select.POLLOUT if message else 0))
        return message

    def _read(self, identity: bytes) -> bytes | None:
        """The reply's status and payload once all of it is here. Anything but that reply ends the child."""
        received = self._received
        while self._pid or self._greeted():
            try:
                chunk = self._wires.channel.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                chunk = b""
            if not chunk:
                self._deaf()
                return None
            received += chunk
            body = _body(received, identity)
            if body is not None:
                received.clear()
                return body
        return None

    def _greeted(self) -> bool:
        """Take the child's first byte, to which the kernel adds the sender's process number as we know it."""
        channel = self._wires.channel
        try:
            hello, extra, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            hello, extra = b"", []
        if not hello:
            self._deaf()
            return False
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        self._pid = next((_CREDENTIALS.unpack(data)[0] for _, kind, data in extra if kind == _SCM_CREDENTIALS), -1)
        return True

    def _deaf(self) -> None:
        self._hears = False
        self._poller.unregister(self._wires.channel)

    def _settle(self, deadline: float) -> None:
        """Take what was written before the reply; a byte after it on the channel ends the child."""
        while ready := [descriptor for descriptor, _ in self._poller.poll(0)]:
            if self._wires.channel.fileno() in ready and self._read(b"") is None and self._hears:
                raise _Ended(Outcome.PROTOCOL_VIOLATION)
            for descriptor in ready:
                if descriptor in self._streams.open and not self._streams.read(descriptor):
                    self._poller.unregister(descriptor)
            if self._streams.overflowed:
                raise _Ended(Outcome.OUTPUT_LIMIT)
            if not self._streams.open.intersection(ready):
                return
            if time.monotonic() > deadline:  # a signal handler that never stops writing
                raise _Ended(Outcome.TIMEOUT)

    def _conclude(self, outcome: Outcome | None, cpu_s: float) -> tuple[Outcome, Any, float]:
        """End the child if it has not ended, and name how. Only the zygote's word can make it our failure."""
        try:
            report = self._stop()
        except ZygoteFailed as failed:
            self.ended = Outcome.SANDBOX_ERROR
            return self.ended, str(failed), 0.0
        if report.said != READY.decode():
            self.ended = Outcome.SANDBOX_ERROR
            return self.ended, f"the child never reached the program: {report.said or report.status}", 0.0
        self._streams.drain()
        self.ended = outcome or (Outcome.OUTPUT_LIMIT if self._streams.overflowed else _death(report, self._job))
        return self.ended, None, report.cpu_s - cpu_s

    def _stop(self) -> Report:
        with contextlib.suppress(OSError):
            self._wires.line.send(b"kill")
        return read_report(receive(self._wires.line, GRACE_S))

    def _cpu(self) -> float:
        """Seconds of CPU the child has used, by the kernel's clock for its process number."""
        if not self._pid:
            return 0.0
        try:
            return time.clock_gettime((~self._pid << 3) | 2)
        except OSError:
            return math.nan


def _body(received: bytearray, identity: bytes) -> bytes | None:
    """Status and payload of a whole frame; None while it is only a beginning. Raises ``_Ended``."""
    if len(received) < 4:
        return None
    length = int.from_bytes(received[:4], "big")
    head = received[4 : 4 + answering.ID_BYTES]
    wrong = not answering.ID_BYTES < length <= _LONGEST or not identity.startswith(head)
    if wrong or len(received) > 4 + length:
        raise _Ended(Outcome.PROTOCOL_VIOLATION)
    return bytes(received[4 + answering.ID_BYTES :]) if len(received) == 4 + length else None


def _understood(body: bytes) -> tuple[Outcome, Any]:
    outcome, payload = _SAID.get(body[0]), body[1:]
    if outcome is None or bool(payload) != (outcome is Outcome.OK):
        raise _Ended(Outcome.PROTOCOL_VIOLATION)
    try:
        return outcome, plain.decode(payload) if payload else None
    except plain.Malformed:
        raise _Ended(Outcome.PROTOCOL_VIOLATION) from None


def _death(report: Report, job: Job) -> Outcome:
    """A child that ended unasked: its exit status proves nothing, so a clean one is a crash as well."""
    outcome = ending(report, job)
    return Outcome.CRASHED if outcome in (Outcome.OK, Outcome.EXCEPTION) else outcome
