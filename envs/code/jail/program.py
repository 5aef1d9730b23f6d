"""Runs a program as ``__main__`` and sums up its end in an exit status. Nothing here is believed outside the jail."""

from __future__ import annotations

import atexit
import builtins
import os
import sys
import traceback
from types import CodeType, ModuleType, TracebackType

from .tracer import Tracer

FAILED, MEMORY, MODULE, SYNTAX = 120, 121, 122, 123  # exit statuses; the reader believes FAILED only before "ready"
EXTRA = 3  # the descriptor for the trace or, of a live child, the channel


def fresh_main() -> ModuleType:
    """An empty ``__main__`` in the place of ours."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"], sys.argv = main, ["program.py"]
    return main


def run(source: bytes, trace: bool) -> int:
    """Compile and run; the exit status says how it ended."""
    main = fresh_main()
    stdout = sys.stdout
    try:
        code = compile(source, "program.py", "exec", dont_inherit=True)
    except BaseException as error:
        report(error, None)
        return SYNTAX
    tracer = Tracer(code, main.__dict__) if trace else None
    status = execute(code, main, tracer)
    if tracer is not None:
        tracer.stop()
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        stdout.flush()
    except BaseException as error:
        status = status or status_of(error)
    if tracer is not None:
        os.write(EXTRA, "\n".join(tracer.entries).encode("utf-8", "backslashreplace"))
    return status


def execute(code: CodeType, main: ModuleType, tracer: Tracer | None = None) -> int:
    """Run the code; its exit status."""
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
        report(error, own)
        return status_of(error)


def status_of(error: BaseException) -> int:
    """The exit status that names this error."""
    if isinstance(error, MemoryError):
        return MEMORY
    return MODULE if isinstance(error, ImportError) else 1


def report(error: BaseException, own: TracebackType | None) -> None:
    """Print the traceback from ``own`` on, as Python does."""
    try:
        traceback.print_exception(type(error), error, own, limit=20)
        sys.stderr.flush()
    except BaseException:  # an exception whose own text fails: the status still tells
        return
