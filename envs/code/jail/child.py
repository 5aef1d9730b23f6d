"""The child: locks itself in, then becomes the program. Anything that fails before the program starts is our fault."""

from __future__ import annotations

import fcntl
import io
import os
import random
import resource
import sys
from dataclasses import dataclass
from typing import NoReturn

from . import answering, kernel, landlock, program
from .seccomp import Filter

READY = b"ready"
_STATUS, _FIRST_FREE = 4, 5
_HIGH = 16  # above the numbers they end at; low, so that a limit of 64 open files is enough
_ANY_FILE = 1 << 16
MOST_FILES = 1024


@dataclass(frozen=True)
class Layers:
    """What a child puts on. ``None`` and False leave a layer off: only tests and the tier called none do that."""

    landlock: int | None
    seccomp: Filter | None
    private: bool
    descriptors: bool
    limits: bool


@dataclass(frozen=True)
class Order:
    """One program to run: limits, the seed of ``random``, whether to trace, whether to stay and answer requests."""

    memory_bytes: int
    cpu_s: int
    seed: int
    trace: bool
    live: bool


def become(order: Order, layers: Layers, descriptors: list[int], status: int) -> NoReturn:
    """Lock down and run; never returns. ``descriptors``: source, stdin, stdout, stderr, trace or channel."""
    stage = "start"
    try:
        source = _read_all(descriptors[0])
        stage = "descriptors"
        _place_descriptors(descriptors[1:], status)
        status = _STATUS
        os.setsid()
        os.chdir("/")
        stage = "limits"
        kernel.die_with_parent()
        if layers.private:
            kernel.stay_private()
        if layers.landlock is not None:
            stage = "landlock"
            landlock.restrict(layers.landlock)
        if layers.descriptors:
            os.closerange(_FIRST_FREE, _ANY_FILE)
        stage = "limits"
        if layers.limits:
            _limit(order)
        _fresh_streams()
        random.seed(order.seed)
        if layers.seccomp is not None:
            stage = "seccomp"
            layers.seccomp.install()
        if order.live:
            os.write(program.EXTRA, answering.HELLO)
        os.write(_STATUS, READY)
        os.close(_STATUS)
    except BaseException as error:
        os.write(status, f"{stage}: {error}".encode("utf-8", "replace")[:400])
        os._exit(program.FAILED)
    os._exit(answering.serve(source) if order.live else program.run(source, order.trace))


def _read_all(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _place_descriptors(streams: list[int], status: int) -> None:
    """Put stdin, stdout, stderr, trace and status at 0..4, whatever numbers they came in with."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _HIGH) for descriptor in [*streams, status]]
    for target, descriptor in enumerate(high):
        os.dup2(descriptor, target, inheritable=False)


def _limit(order: Order) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_AS: order.memory_bytes,
    }
    for name, most in limits.items():
        resource.setrlimit(name, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (order.cpu_s, order.cpu_s + 1))


def _fresh_streams() -> None:
    streams = {"stdin": (0, "rb", "replace"), "stdout": (1, "wb", "strict"), "stderr": (2, "wb", "backslashreplace")}
    for name, (descriptor, mode, errors) in streams.items():
        file = open(descriptor, mode, closefd=False)  # noqa: SIM115 - lives as long as the program
        stream = io.TextIOWrapper(file, "utf-8", errors)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
