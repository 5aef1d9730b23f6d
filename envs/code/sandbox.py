"""Runs programs a model wrote, isolated, and says how they ended. Thread-safe; a pool of zygotes does the work.

What each tier covers, and what no tier does, is told in ``docs/sandbox.md``.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import re
import signal
import threading
import weakref
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType

from sparring.scenarios.errors import SandboxUnavailable

from . import probe
from .jail import child as jailed
from .worker import TIERS, Job, Report, Zygote, ZygoteFailed

AUTO = ("namespaces", "landlock", "compute-only")  # strongest first
_RETRIES = 2
_TRACE_LINE = re.compile(r"[A-Za-z_]\w{0,30}=[^\n]{1,80}", re.ASCII)
_TRACE_LINES = 200

_REMEDIES = {
    "namespaces": "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, or"
    " kernel.apparmor_restrict_unprivileged_userns=0), or use another tier",
    "landlock": "use a kernel from 5.13 with landlock among its security modules, and a container runtime that"
    " lets the landlock calls through",
    "compute-only": "use Linux on x86_64 or aarch64, and a container runtime that lets prctl(PR_SET_SECCOMP) through",
}


class Outcome(StrEnum):
    """How a run ended. ``SANDBOX_ERROR`` is our failure; all others are the program's doing."""

    OK = "ok"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    CRASHED = "crashed"
    MODULE_UNAVAILABLE = "module_unavailable"
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


class Sandbox:
    """A pool of zygotes of one isolation tier, self-tested when it opens."""

    def __init__(self, tier: str = "auto", workers: int = 2, *, allow_unsafe: bool = False) -> None:
        """``tier``: ``auto`` or one of ``TIERS``; at most ``workers`` programs run at once per variant.

        ``none`` isolates nothing and needs ``allow_unsafe`` as well. Raises ``SandboxUnavailable``.
        """
        if tier not in ("auto", *TIERS):
            raise SandboxUnavailable(f"no sandbox tier named {tier!r}; known: auto, {', '.join(TIERS)}")
        if tier == "none" and not allow_unsafe:
            raise SandboxUnavailable(
                "sandbox: none runs what a model wrote with your own rights; it must be allowed a second time, outside"
                " the scenario (allow_unsafe=True), or choose sandbox: auto"
            )
        self.workers = workers
        self.executions = 0
        self.restarts = 0
        self._changed = threading.Condition()
        self._owner = os.getpid()
        self._closed = False
        self._idle: defaultdict[int, list[Zygote]] = defaultdict(list)
        self._busy: set[Zygote] = set()
        self._counts: defaultdict[int, int] = defaultdict(int)
        self.tier, first = _first_passing(AUTO if tier == "auto" else (tier,))
        self._idle[0].append(first)
        self._counts[0] = 1
        _open.add(self)

    def run(
        self, source: str, *, stdin: str = "", trace: bool = False, limits: Limits | None = None, variant: int = 0
    ) -> Ran:
        """Run ``source`` as ``__main__``. ``variant`` chooses the string-hash seed and the seed of ``random``.

        Never raises for what the program does; our own failures are tried again twice, then are ``SANDBOX_ERROR``.
        """
        if not 0 <= variant < 1 << 32:
            raise ValueError(f"variant is {variant}; it is a hash seed, 0 to 4294967295")
        job = _job(source, stdin, trace, limits or Limits(), variant)
        ran = self._once(job, variant)
        for _ in range(_RETRIES):
            if ran.outcome is not Outcome.SANDBOX_ERROR:
                break
            self.restarts += 1
            ran = self._once(job, variant)
        return ran

    def processes(self) -> list[int]:
        """Process ids of the zygotes' keepers."""
        with self._changed:
            return [zygote.pid for zygotes in self._idle.values() for zygote in zygotes] + [z.pid for z in self._busy]

    def close(self) -> None:
        """End every zygote and whatever it runs; safe to call twice. Later runs raise ``SandboxUnavailable``."""
        with self._changed:
            self._closed = True
            held = [zygote for zygotes in self._idle.values() for zygote in zygotes]
            self._idle.clear()
            busy, self._busy = self._busy, set()
            self._changed.notify_all()
        ours = self._owner == os.getpid()
        for zygote in held:
            zygote.close() if ours else zygote.forget()
        for zygote in busy if ours else ():
            with contextlib.suppress(ProcessLookupError):  # its borrower sees the end and cleans up
                os.kill(zygote.pid, signal.SIGKILL)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _once(self, job: Job, variant: int) -> Ran:
        try:
            zygote = self._borrow(variant)
        except ZygoteFailed as failed:
            return _our_failure(str(failed), self.tier)
        try:
            report = zygote.run(job)
        except ZygoteFailed as failed:
            self._give_back(zygote, variant, usable=False)
            return _our_failure(str(failed), self.tier)
        except BaseException:
            self._give_back(zygote, variant, usable=False)
            raise
        self._give_back(zygote, variant, usable=True)
        return classify(report, job, self.tier)

    def _borrow(self, variant: int) -> Zygote:
        with self._changed:
            self._after_fork()
            while not self._closed and not self._idle[variant] and self._counts[variant] >= self.workers:
                self._changed.wait()
            if self._closed:
                raise SandboxUnavailable("this sandbox is closed; open another")
            self.executions += 1
            if self._idle[variant]:
                zygote = self._idle[variant].pop()
                self._busy.add(zygote)
                return zygote
            self._counts[variant] += 1
        try:
            zygote = Zygote(TIERS[self.tier], variant)
        except BaseException:
            with self._changed:
                self._counts[variant] -= 1
                self._changed.notify()
            raise
        with self._changed:
            self._busy.add(zygote)
        return zygote

    def _give_back(self, zygote: Zygote, variant: int, usable: bool) -> None:
        with self._changed:
            self._busy.discard(zygote)
            keep = usable and not self._closed
            if keep:
                self._idle[variant].append(zygote)
            else:
                self._counts[variant] -= 1
            self._changed.notify()
        if not keep:
            zygote.close()

    def _after_fork(self) -> None:
        """In a forked copy of this process the zygotes belong to the original: start afresh."""
        if self._owner == os.getpid():
            return
        for zygote in [zygote for zygotes in self._idle.values() for zygote in zygotes]:
            zygote.forget()
        self._idle.clear()
        self._busy.clear()
        self._counts.clear()
        self._owner = os.getpid()


_open: weakref.WeakSet[Sandbox] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for sandbox in list(_open):
        sandbox.close()


def _job(source: str, stdin: str, trace: bool, limits: Limits, variant: int) -> Job:
    return Job(
        source=source.encode("utf-8", "surrogatepass"),
        stdin=stdin.encode("utf-8", "surrogatepass"),
        wall_s=limits.wall_s,
        cpu_s=math.ceil(limits.cpu_s),
        memory_bytes=limits.memory_mb << 20,
        output_bytes=limits.output_bytes,
        seed=variant,
        trace=trace,
    )


def _first_passing(tiers: tuple[str, ...]) -> tuple[str, Zygote]:
    """The first tier whose self-test finds nothing, with its zygote. Raises ``SandboxUnavailable``."""
    refusals = []
    for tier in tiers:
        try:
            zygote = Zygote(TIERS[tier], 0)
        except ZygoteFailed as failed:
            refusals.append(f"  {tier}: {failed} (errno {failed.errno}). To use it: {_REMEDIES.get(tier, '')}")
            continue
        try:
            found = [] if tier == "none" else probe.findings(zygote)
        except ZygoteFailed as failed:
            found = [str(failed)]
        if not found:
            return tier, zygote
        zygote.close()
        refusals.append(f"  {tier}: its self-test failed: {'; '.join(found)}. To use it: {_REMEDIES[tier]}")
    lines = "\n".join(refusals)
    raise SandboxUnavailable(
        f"no sandbox tier passes its self-test here, so programs written by a model will not be run:\n{lines}\n"
        "A virtual machine of your own plus sandbox: none (allowed a second time outside the scenario) also works."
    )


def classify(report: Report, job: Job, tier: str) -> Ran:
    """Name the ending. Only what the zygote itself says decides whether it was our failure."""
    if report.said != jailed.READY.decode():
        return _our_failure(f"the child never reached the program: {report.said or f'status {report.status}'}", tier)
    return Ran(
        outcome=_outcome(report, job),
        stdout=report.stdout.decode("utf-8", "replace"),
        stderr_tail=report.stderr.decode("utf-8", "replace"),
        trace=_trace(report.trace),
        cpu_s=report.cpu_s,
        wall_s=report.wall_s,
        tier=tier,
        exit_code=report.status,
    )


def _outcome(report: Report, job: Job) -> Outcome:
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


def _our_failure(reason: str, tier: str) -> Ran:
    return Ran(Outcome.SANDBOX_ERROR, "", reason, (), 0.0, 0.0, tier)


def _trace(raw: bytes) -> tuple[str, ...]:
    """Entries that look like ``name=value``; anything else a program wrote there is dropped."""
    lines = raw.decode("utf-8", "replace").split("\n", _TRACE_LINES)[:_TRACE_LINES]
    return tuple(line for line in lines if _TRACE_LINE.fullmatch(line))


_shared: dict[tuple[str, int], tuple[Sandbox, int]] = {}
_sharing = threading.Lock()


def borrow(tier: str, workers: int, *, allow_unsafe: bool = False) -> Sandbox:
    """The process-wide sandbox of this tier and size, opened on first use; pair with ``give_back``."""
    with _sharing:
        sandbox, users = _shared.get((tier, workers), (None, 0))
        if sandbox is None:
            sandbox = Sandbox(tier, workers, allow_unsafe=allow_unsafe)
        _shared[tier, workers] = (sandbox, users + 1)
        return sandbox


def give_back(sandbox: Sandbox) -> None:
    """End a borrowed sandbox once its last user has given it back."""
    with _sharing:
        for key, (held, users) in list(_shared.items()):
            if held is sandbox:
                if users > 1:
                    _shared[key] = (held, users - 1)
                    return
                del _shared[key]
    sandbox.close()
