"""How a run ends, and what it may use: the closed set of outcomes, the limits, and how a report gets its name."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import StrEnum

from .jail import program as jailed
from .jail.child import READY
from .worker import Job, Report

_TRACE_LINE = re.compile(r"[A-Za-z_]\w{0,30}=[^\n]{1,80}", re.ASCII)
_TRACE_LINES = 200


class Outcome(StrEnum):
    """How a run ended. ``SANDBOX_ERROR`` is our failure; all others are the program's doing."""

    OK = "ok"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    CRASHED = "crashed"
    MODULE_UNAVAILABLE = "module_unavailable"
    PROTOCOL_VIOLATION = "protocol_violation"
    SANDBOX_ERROR = "sandbox_error"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use: seconds of wall clock and CPU, MiB of address space, bytes of standard output."""

    wall_s: float = 2.0
    cpu_s: float = 1.0
    memory_mb: int = 256
    output_bytes: int = 1 << 16

    def __post_init__(self) -> None:
        """Refuse limits under which nothing can run."""
        if min(self.wall_s, self.cpu_s, self.output_bytes) <= 0 or self.memory_mb < 64:
            raise ValueError(f"{self}: every limit must be positive, and memory_mb at least 64")


@dataclass(frozen=True, slots=True)
class Ran:
    """One run. ``stdout`` and ``trace`` come from the program: hostile data, bounded. ``exit_code`` < 0 is a signal.

    ``stderr_tail`` is the end of standard error or, for ``SANDBOX_ERROR``, what failed on our side.
    """

    outcome: Outcome
    stdout: str
    stderr_tail: str
    trace: tuple[str, ...]
    cpu_s: float
    wall_s: float
    tier: str
    exit_code: int = 0

    @property
    def syntax_error(self) -> bool:
        """Whether the program did not compile."""
        return self.outcome is Outcome.EXCEPTION and self.exit_code == jailed.SYNTAX


def classify(report: Report, job: Job, tier: str) -> Ran:
    """Name the ending. Only what the zygote itself says decides whether it was our failure."""
    if report.said != READY.decode():
        return our_failure(f"the child never reached the program: {report.said or f'status {report.status}'}", tier)
    return Ran(
        outcome=ending(report, job),
        stdout=report.stdout.decode("utf-8", "replace"),
        stderr_tail=report.stderr.decode("utf-8", "replace"),
        trace=_trace(report.trace),
        cpu_s=report.cpu_s,
        wall_s=report.wall_s,
        tier=tier,
        exit_code=report.status,
    )


def ending(report: Report, job: Job) -> Outcome:
    """The name of the way a program that was started has ended."""
    if report.overflowed:
        return Outcome.OUTPUT_LIMIT
    if report.stopped == "timeout" or report.status == -signal.SIGXCPU:
        return Outcome.TIMEOUT
    if report.status == -signal.SIGKILL:
        return Outcome.TIMEOUT if report.cpu_s >= job.cpu_s else Outcome.MEMORY
    if report.status < 0:
        return Outcome.CRASHED
    named = {0: Outcome.OK, jailed.MEMORY: Outcome.MEMORY, jailed.MODULE: Outcome.MODULE_UNAVAILABLE}
    return named.get(report.status, Outcome.EXCEPTION)


def our_failure(reason: str, tier: str) -> Ran:
    """A run that came to nothing through our fault."""
    return Ran(Outcome.SANDBOX_ERROR, "", reason, (), 0.0, 0.0, tier)


def _trace(raw: bytes) -> tuple[str, ...]:
    """Entries that look like ``name=value``; anything else a program wrote there is dropped."""
    lines = raw.decode("utf-8", "replace").split("\n", _TRACE_LINES)[:_TRACE_LINES]
    return tuple(line for line in lines if _TRACE_LINE.fullmatch(line))
