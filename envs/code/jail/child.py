"""The child: locks itself in, then becomes the program. Anything that fails before the program starts is our fault."""

from __future__ import annotations

import atexit
import builtins
import fcntl
import io
import os
import random
import resource
import sys
import traceback
from dataclasses import dataclass
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

from . import kernel, landlock
from .seccomp import Filter
from .tracer import Tracer

FAILED, MEMORY, MODULE, SYNTAX = 120, 121, 122, 123  # exit statuses; the reader believes FAILED only before "ready"
READY = b"ready"
_TRACE, _STATUS, _FIRST_FREE = 3, 4, 5
_HIGH = 100
_ANY_FILE = 1 << 16
MOST_FILES = 256


@dataclass(frozen=True)
class Layers:
    """What a child puts on. ``None`` leaves a layer off: only tests and the tier called none do that."""

    landlock: int | None
    seccomp: Filter | None
    parent_death: bool = True


@dataclass(frozen=True)
class Order:
    """One program to run: limits, the seed of ``random``, whether to trace."""

    memory_bytes: int
    cpu_s: int
    seed: int
    trace: bool


def become(order: Order, layers: Layers, descriptors: list[int], status: int) -> NoReturn:
    """Lock down and run; never returns. ``descriptors``: source, stdin, stdout, stderr, trace."""
    stage = "start"
    try:
        source = _read_all(descriptors[0])
        stage = "descriptors"
        _place_descriptors(descriptors[1:], status)
        status = _STATUS
        os.setsid()
        os.chdir("/")
        stage = "limits"
        if layers.parent_death:
            kernel.die_with_parent()
        kernel.stay_private()
        if layers.landlock is not None:
            stage = "landlock"
            landlock.restrict(layers.landlock)
        os.closerange(_FIRST_FREE, _ANY_FILE)
        stage = "limits"
        _limit(order)
        _fresh_streams()
        random.seed(order.seed)
        if layers.seccomp is not None:
            stage = "seccomp"
            layers.seccomp.install()
        os.write(_STATUS, READY)
        os.close(_STATUS)
    except BaseException as error:
        os.write(status, f"{stage}: {error}".encode("utf-8", "replace")[:400])
        os._exit(FAILED)
    os._exit(_run(source, order.trace))


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


def _run(source: bytes, trace: bool) -> int:
    """Compile and run as ``__main__``; the exit status says how it ended. Nothing here is believed outside the jail."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"], sys.argv = main, ["program.py"]
    stdout = sys.stdout
    try:
        code = compile(source, "program.py", "exec", dont_inherit=True)
    except BaseException as error:
        _report(error, None)
        return SYNTAX
    tracer = Tracer(code, main.__dict__) if trace else None
    status = _execute(code, main, tracer)
    if tracer is not None:
        tracer.stop()
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        stdout.flush()
    except BaseException as error:
        status = status or _status_of(error)
    if tracer is not None:
        os.write(_TRACE, "\n".join(tracer.entries).encode("utf-8", "backslashreplace"))
    return status


def _execute(code: CodeType, main: ModuleType, tracer: Tracer | None) -> int:
    try:
        if tracer is not None:
            tracer.start()
        exec(code, main.__dict__)
        return 0
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return (leaving.code or 0) & 0xFF
        return 1
    except BaseException as error:
        if tracer is not None:
            tracer.stop()
        own = error.__traceback__.tb_next if error.__traceback__ else None
        _report(error, own)
        return _status_of(error)


def _status_of(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        return MEMORY
    return MODULE if isinstance(error, ImportError) else 1


def _report(error: BaseException, own: TracebackType | None) -> None:
    try:
        traceback.print_exception(type(error), error, own, limit=20)
        sys.stderr.flush()
    except BaseException:  # an exception whose own text fails: the status still tells
        return
