"""The trusted end of one zygote: start it, hand it a program, collect bounded output, end it."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ALWAYS = ("private", "descriptors", "limits", "clock")
TIERS: dict[str, tuple[str, ...]] = {
    "namespaces": (*_ALWAYS, "namespaces", "user", "landlock", "seccomp", "paths"),
    "landlock": (*_ALWAYS, "user", "landlock", "seccomp", "paths"),
    "compute-only": (*_ALWAYS, "user", "seccomp"),
    "none": _ALWAYS,
}
STDERR_TAIL = 4096  # bytes kept
STDERR_MOST = 1 << 20
_TRACE_MOST = 1 << 16
_START_S = 20.0  # a loaded machine; 0.3 s is usual
GRACE_S = 10.0  # past the wall limit the zygote itself must be stuck
_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); import jail.zygote as z; "
    "sys.path.pop(); z.main(sys.argv[2], int(sys.argv[3]))"
)


class ZygoteFailed(Exception):
    """The zygote could not start, died or stopped answering. ``errno`` is 0 when no system call is to blame."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Report:
    """What came back: the zygote's word on how the child ended, and the bytes the child wrote (hostile)."""

    status: int
    stopped: str
    said: str
    cpu_s: float
    wall_s: float
    stdout: bytes
    stderr: bytes
    trace: bytes
    overflowed: bool


@dataclass(frozen=True, slots=True)
class Job:
    """One program and its limits, in the units the kernel takes."""

    source: bytes
    stdin: bytes
    wall_s: float
    cpu_s: int
    memory_bytes: int
    output_bytes: int
    seed: int
    trace: bool


@dataclass(frozen=True, slots=True)
class Wires:
    """Our ends of a live child: ``line`` to its zygote, ``channel`` to itself, its standard output and error."""

    line: socket.socket
    channel: socket.socket
    stdout: int
    stderr: int

    def close(self) -> None:
        """Close all; the zygote ends a child whose line is closed."""
        self.line.close()
        self.channel.close()
        os.close(self.stdout)
        os.close(self.stderr)


class Zygote:
    """One running zygote. Not thread-safe: a pool lends it to one thread at a time."""

    def __init__(self, layers: tuple[str, ...], hash_seed: int, python: str | None = None) -> None:
        """Start it; raises ``ZygoteFailed`` with the layer that could not be set up."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = json.dumps({"layers": list(layers)})
        command = [python or interpreter(), "-s", "-S", "-P", "-B", "-c", _BOOT, str(Path(__file__).parent)]
        self._socket = ours
        with theirs:
            self._process = _start([*command, settings, str(theirs.fileno())], theirs.fileno(), hash_seed, ours)
        try:
            hello = receive(self._socket, _START_S)
        except ZygoteFailed:
            self.close()
            raise
        if "failed" in hello:
            self.close()
            raise ZygoteFailed(str(hello["failed"]), int(hello["errno"]))

    @property
    def pid(self) -> int:
        """Process id of the keeper; killing it ends the zygote and what it runs."""
        return self._process.pid

    def run(self, job: Job) -> Report:
        """Run one program to its end. Raises ``ZygoteFailed``; the zygote must then be closed."""
        with contextlib.ExitStack() as stack:
            source, stdin = (_sealed(stack, content) for content in (job.source, job.stdin))
            readers, writers = [], []
            for _ in range(3):
                reader, writer = os.pipe()
                readers.append(stack.enter_context(os.fdopen(reader, "rb", buffering=0)))
                writers.append(writer)
            try:
                self._send(job, [source, stdin, *writers], job.wall_s)
            finally:
                for writer in writers:
                    os.close(writer)
            streams = Streams([reader.fileno() for reader in readers], (job.output_bytes, STDERR_MOST, _TRACE_MOST))
            reply = self._collect(streams, time.monotonic() + job.wall_s + GRACE_S)
        stdout, stderr, trace = streams.take()
        return read_report(reply, stdout, stderr, trace, streams.overflowed)

    def launch(self, job: Job) -> Wires:
        """Start a child that runs ``job.source`` when asked to and then stays. Several may live at once; thread-safe.

        Its wall clock is for the caller to watch. Raises ``ZygoteFailed``.
        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            source, stdin = (_sealed(theirs, content) for content in (job.source, b""))
            channel, their_channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            line, their_line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end in (their_channel, their_line):
                theirs.enter_context(end)
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            readers, writers = zip(*(os.pipe() for _ in range(2)), strict=True)
            for descriptor in writers:
                theirs.callback(os.close, descriptor)
            wires = Wires(line, channel, *readers)
            ours.callback(wires.close)
            self._send(job, [source, stdin, *writers, their_channel.fileno(), their_line.fileno()], None)
            ours.pop_all()
            return wires

    def close(self) -> None:
        """End the zygote and everything below it; safe to call twice."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Let go without killing: after a fork the zygote belongs to the parent."""
        self._socket.close()
        self._process.returncode = 0

    def _send(self, job: Job, descriptors: list[int], wall_s: float | None) -> None:
        request = {
            "wall_s": wall_s,
            "cpu_s": job.cpu_s,
            "memory_bytes": job.memory_bytes,
            "seed": job.seed,
            "trace": job.trace,
        }
        rights = array.array("i", descriptors)
        try:
            self._socket.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError as error:
            raise ZygoteFailed(f"the zygote is gone: {error.strerror}", error.errno or 0) from error

    def _collect(self, streams: Streams, deadline: float) -> dict[str, Any]:
        """Read all streams until the zygote reports the end; tell it to kill when one has given too much."""
        told = False
        poller = select.poll()
        for descriptor in [self._socket.fileno(), *streams.open]:
            poller.register(descriptor, select.POLLIN)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise ZygoteFailed("the zygote is stuck: no report long after the wall limit")
            ready = {descriptor for descriptor, _ in poller.poll(left_s * 1000)}
            for descriptor in ready & streams.open:
                if not streams.read(descriptor):
                    poller.unregister(descriptor)
            if streams.overflowed and not told:
                told = True
                with contextlib.suppress(OSError):
                    self._socket.send(b"kill")
            if self._socket.fileno() in ready:
                reply = receive(self._socket, 1.0)
                streams.drain()
                return reply


class Streams:
    """Pipes with a cap each, the second being standard error; all are drained past it, so no child is blocked by us."""

    def __init__(self, descriptors: list[int], most: tuple[int, ...]) -> None:
        self.open = set(descriptors)
        self.contents = [bytearray() for _ in descriptors]
        self.overflowed = False
        self._index = {descriptor: index for index, descriptor in enumerate(descriptors)}
        self._most = most
        self._seen = [0 for _ in descriptors]
        for descriptor in descriptors:
            os.set_blocking(descriptor, False)

    def read(self, descriptor: int) -> bool:
        """Take what is there; ``False`` once the other end is closed."""
        try:
            chunk = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return True
        if not chunk:
            self.open.discard(descriptor)
            return False
        index = self._index[descriptor]
        self._seen[index] += len(chunk)
        content, most = self.contents[index], self._most[index]
        if index == 1:  # of stderr the end is what tells
            content += chunk
            del content[: max(0, len(content) - STDERR_TAIL)]
        else:
            content += chunk[: max(0, most - len(content))]
        self.overflowed = self.overflowed or self._seen[index] > most
        return True

    def take(self) -> list[bytes]:
        """What was read since the last time; the caps begin anew."""
        taken = [bytes(content) for content in self.contents]
        for content in self.contents:
            content.clear()
        self._seen = [0] * len(taken)
        return taken

    def drain(self) -> None:
        """What the ended child left in the pipes: at most a pipe's capacity each."""
        for descriptor in list(self.open):
            while descriptor in self.open:
                before = sum(self._seen)
                if not self.read(descriptor) or sum(self._seen) == before:
                    break


def read_report(
    reply: dict[str, Any], stdout: bytes = b"", stderr: bytes = b"", trace: bytes = b"", overflowed: bool = False
) -> Report:
    """The zygote's word together with what the child wrote."""
    return Report(
        status=int(reply["status"]),
        stopped=str(reply["stopped"]),
        said=str(reply["said"]),
        cpu_s=float(reply["cpu_s"]),
        wall_s=float(reply["wall_s"]),
        stdout=stdout,
        stderr=stderr,
        trace=trace,
        overflowed=overflowed,
    )


def receive(line: socket.socket, timeout_s: float) -> dict[str, Any]:
    """One message of a zygote, which is trusted; raises ``ZygoteFailed``."""
    line.settimeout(timeout_s)
    try:
        try:
            message = line.recv(8192)
        except ConnectionResetError:  # it closed with a word of ours unread, which hides its own last one once
            message = line.recv(8192)
    except TimeoutError:
        raise ZygoteFailed(f"the zygote did not answer within {timeout_s:.0f} s") from None
    except OSError as error:
        raise ZygoteFailed(f"the zygote is gone: {error.strerror}", error.errno or 0) from error
    if not message:
        raise ZygoteFailed("the zygote ended without a word")
    answer: dict[str, Any] = json.loads(message)
    return answer


def interpreter() -> str:
    """The Python that programs run in: the one behind the virtual environment, if there is one we may execute."""
    behind = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    return behind if os.access(behind, os.X_OK) else sys.executable


def _start(command: list[str], control: int, hash_seed: int, ours: socket.socket) -> subprocess.Popen[bytes]:
    """The zygote's process: nothing of our environment, descriptors, terminal or session."""
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[control],
            env={"PYTHONHASHSEED": str(hash_seed)},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise ZygoteFailed(f"{command[0]} does not start: {error.strerror}", error.errno or 0) from error


def _sealed(stack: contextlib.ExitStack, content: bytes) -> int:
    """A descriptor holding ``content`` that nobody can change or grow."""
    descriptor = os.memfd_create("program", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, descriptor)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor
