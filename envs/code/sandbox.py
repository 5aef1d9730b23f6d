"""Runs programs a model wrote, isolated, and says how they ended. Thread-safe; a pool of zygotes does the work.

What each tier covers, and what no tier does, is told in ``docs/sandbox.md``.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import signal
import threading
import time
import weakref
from collections import defaultdict
from types import TracebackType

from sparring.scenarios.errors import SandboxUnavailable

from . import probe
from .jail.zygote import PRELOAD
from .live import Live, Reply
from .outcome import Limits, Outcome, Ran, classify, our_failure
from .worker import TIERS, Job, Zygote, ZygoteFailed

__all__ = ["AUTO", "MODULES", "Limits", "Live", "Outcome", "Ran", "Reply", "Sandbox", "borrow", "classify", "give_back"]

AUTO = ("namespaces", "landlock", "compute-only")  # strongest first
MODULES = tuple(name for name in PRELOAD if "." not in name and not name.startswith("_"))  # importable on every tier
_RETRIES = 2
_MOST_LIVE = 128  # live children at once; each holds four descriptors here and three in its zygote
_PATIENCE_S = 60.0  # how long one more waits for another to close

_REMEDIES = {
    "namespaces": "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, or"
    " kernel.apparmor_restrict_unprivileged_userns=0), or use another tier",
    "landlock": "use a kernel from 5.13 with landlock among its security modules, and a container runtime that"
    " lets the landlock calls through",
    "compute-only": "use Linux on x86_64 or aarch64, and a container runtime that lets prctl(PR_SET_SECCOMP) through",
}


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
                " the scenario (--i-understand-model-code-runs-as-me, in Python allow_unsafe=True); or choose"
                " sandbox: auto"
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
        self._hosts: dict[int, Zygote] = {}
        self._lives: weakref.WeakSet[Live] = weakref.WeakSet()
        self._opening = 0
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

    def open(self, source: str, *, limits: Limits | None = None, variant: int = 0) -> Live:
        """Run ``source`` as ``__main__`` in a jailed child that then answers requests; see ``Live``.

        ``limits``: ``wall_s`` and ``output_bytes`` hold for each request, ``cpu_s`` and ``memory_mb`` for the whole
        life. At most 128 children live at once per sandbox: one more waits up to a minute for another to close, then
        ``SandboxUnavailable`` is raised. Nothing else is raised for what a program does: ask ``started`` and ``ended``.
        """
        if not 0 <= variant < 1 << 32:
            raise ValueError(f"variant is {variant}; it is a hash seed, 0 to 4294967295")
        limits = limits or Limits()
        job = _job(source, "", False, limits, variant)
        self._await_room()
        try:
            for _ in range(_RETRIES):
                live = self._launch(job, limits, variant)
                if live is not None and live.started.outcome is not Outcome.SANDBOX_ERROR:
                    break
                self.restarts += 1
            else:
                live = self._launch(job, limits, variant)
        finally:
            with self._changed:
                self._opening -= 1
        if live is None:
            raise SandboxUnavailable(f"sandbox {self.tier}: its zygote ended three times in a row; open another")
        return live

    def processes(self) -> list[int]:
        """Process ids of the zygotes' keepers."""
        with self._changed:
            idle = [zygote for zygotes in self._idle.values() for zygote in zygotes]
            return [zygote.pid for zygote in (*idle, *self._busy, *self._hosts.values())]

    def close(self) -> None:
        """End every zygote and whatever it runs; safe to call twice. Later runs raise ``SandboxUnavailable``."""
        with self._changed:
            self._closed = True
            held = [zygote for zygotes in self._idle.values() for zygote in zygotes]
            held += self._hosts.values()
            self._idle.clear()
            self._hosts.clear()
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

    def _await_room(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        with self._changed:
            while sum(not live.closed for live in self._lives) + self._opening >= _MOST_LIVE:
                if not self._changed.wait(min(0.05, deadline - time.monotonic())) and time.monotonic() > deadline:
                    raise SandboxUnavailable(f"{_MOST_LIVE} live children are open; close one, or open another sandbox")
            self._opening += 1

    def _launch(self, job: Job, limits: Limits, variant: int) -> Live | None:
        """One attempt; None when there is no zygote, a dead one being forgotten so that the next attempt starts one."""
        host = self._host(variant)
        if host is None:
            return None
        try:
            live = Live(host.launch(job), job, limits, self.tier)
        except ZygoteFailed:
            with self._changed:
                if self._hosts.get(variant) is host:
                    del self._hosts[variant]
            host.close()
            return None
        with self._changed:
            self._lives.add(live)
        return live

    def _host(self, variant: int) -> Zygote | None:
        with self._changed:
            self._after_fork()
            if self._closed:
                raise SandboxUnavailable("this sandbox is closed; open another")
            self.executions += 1
            if variant not in self._hosts:
                with contextlib.suppress(ZygoteFailed):
                    self._hosts[variant] = Zygote(TIERS[self.tier], variant)
            return self._hosts.get(variant)

    def _once(self, job: Job, variant: int) -> Ran:
        try:
            zygote = self._borrow(variant)
        except ZygoteFailed as failed:
            return our_failure(str(failed), self.tier)
        try:
            report = zygote.run(job)
        except ZygoteFailed as failed:
            self._give_back(zygote, variant, usable=False)
            return our_failure(str(failed), self.tier)
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
        for zygote in [*(zygote for zygotes in self._idle.values() for zygote in zygotes), *self._hosts.values()]:
            zygote.forget()
        self._hosts.clear()
        self._lives.clear()
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
