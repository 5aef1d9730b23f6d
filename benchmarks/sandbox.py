"""Sandbox speed: ``python benchmarks/sandbox.py`` prints three tables in two minutes. Needs no model and no root.

``--soak 10000`` instead runs that many programs in a row, attacks among controls, and prints what hung or leaked.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sparring.envs.code.sandbox import AUTO, Outcome, Sandbox
from sparring.envs.code.worker import interpreter
from sparring.scenarios.errors import SandboxUnavailable

PROGRAM = "print(sum(range(10)))"
FUNCTION = "def f(x): return x + 1"
ROUNDS, RUNS, CALLS = 12, 40, 500
PLAIN = "subprocess"


@dataclass
class Figures:
    """Per round: programs per second on one and two workers, ms of CPU a run, and every wall time on one worker."""

    alone: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    walls_ms: list[float] = field(default_factory=list)
    calls_ms: list[float] = field(default_factory=list)
    starts_ms: list[float] = field(default_factory=list)
    starts_cpu_ms: list[float] = field(default_factory=list)


def main() -> None:
    """Speed, or the soak."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--soak", type=int, metavar="PROGRAMS")
    words.add_argument("--tier", default="auto")
    wanted = words.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores, Python {sys.version.split()[0]}")
    _soak(wanted.soak, wanted.tier) if wanted.soak else _speed()


def _speed() -> None:
    with contextlib.ExitStack() as stack:
        boxes = dict(_boxes(stack))
        figures = {name: Figures() for name in (*boxes, PLAIN)}
        with ThreadPoolExecutor(2) as threads:
            for name in boxes:  # both workers up
                list(threads.map(_in_sandbox, [boxes[name]] * 20))
            for _ in range(ROUNDS):  # taking turns, so that a busy neighbour slows all alike
                for name, box in boxes.items():
                    _measure(figures[name], partial(_in_sandbox, box), partial(_cpu_s, box), threads)
                    _call(figures[name], box)
                    if name != "none":
                        _start(figures[name], name)
                _measure(figures[PLAIN], _in_subprocess, _cpu_s, threads)
    _print(figures)


def _boxes(stack: contextlib.ExitStack) -> Iterator[tuple[str, Sandbox]]:
    for tier in (*AUTO, "none"):
        try:
            yield tier, stack.enter_context(Sandbox(tier, workers=2, allow_unsafe=True))
        except SandboxUnavailable as refused:
            print(str(refused).splitlines()[1].strip())


def _measure(
    figures: Figures, run: Callable[[], float], cpu_s: Callable[[], float], threads: ThreadPoolExecutor
) -> None:
    spent, began = cpu_s(), time.perf_counter()
    walls = [run() for _ in range(RUNS)]
    figures.alone.append(RUNS / (time.perf_counter() - began))
    figures.cpu_ms.append(1000 * (cpu_s() - spent) / RUNS)
    figures.walls_ms += [1000 * wall for wall in walls]
    began = time.perf_counter()
    list(threads.map(lambda _: run(), range(RUNS)))
    figures.both.append(RUNS / (time.perf_counter() - began))


def _in_sandbox(box: Sandbox) -> float:
    began = time.perf_counter()
    ran = box.run(PROGRAM)
    assert ran.outcome is Outcome.OK, ran
    return time.perf_counter() - began


def _in_subprocess() -> float:
    began = time.perf_counter()
    done = subprocess.run(
        [interpreter(), "-I", "-S", "-c", PROGRAM], capture_output=True, preexec_fn=_limit, env={}, check=True
    )
    assert done.stdout == b"45\n"
    return time.perf_counter() - began


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _cpu_s(box: Sandbox | None = None) -> float:
    """Seconds of CPU of this process, the ended processes it started, and the zygotes with their ended children."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = time.process_time() + ended.ru_utime + ended.ru_stime
    return spent + (_ticks_s(_below(box.processes())) if box is not None else 0)


def _ticks_s(pids: list[int]) -> float:
    """Seconds of CPU of these processes and of the children they have seen end, in the kernel's hundredths."""
    spent = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        spent += sum(int(ticks) for ticks in fields[11:15])
    return spent / os.sysconf("SC_CLK_TCK")


def _below(keepers: list[int]) -> list[int]:
    return [
        int(pid) for keeper in keepers for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    ]


def _call(figures: Figures, box: Sandbox) -> None:
    with box.open(FUNCTION) as live:
        for number in range(CALLS):
            began = time.perf_counter()
            reply = live.call("f", [number])
            figures.calls_ms.append(1000 * (time.perf_counter() - began))
            assert reply.value == number + 1


def _start(figures: Figures, tier: str) -> None:
    began, own = time.perf_counter(), time.process_time()
    with Sandbox(tier, workers=1) as box:
        figures.starts_ms.append(1000 * (time.perf_counter() - began))
        spent = time.process_time() - own + _ticks_s([*box.processes(), *_below(box.processes())])
        figures.starts_cpu_ms.append(1000 * spent)


def _print(figures: dict[str, Figures]) -> None:
    print(f"\nmedian of {ROUNDS} rounds of {RUNS} programs (lowest to highest round); `{PROGRAM}`\n")
    print("| | 1 worker /s | 2 workers /s | CPU ms a run | p50 ms | p99 ms | against subprocess, 2 workers |")
    print(f"|{'---|' * 7}")
    plain = figures[PLAIN].both
    for name, found in figures.items():
        ratios = [mine / other for mine, other in zip(found.both, plain, strict=True)]
        cells = [_spread(found.alone), _spread(found.both), _spread(found.cpu_ms, 1), *_points(found.walls_ms)]
        print(f"| {name} | {' | '.join(cells)} | {_spread(ratios, 1)} |")
    print("\n| | `Live.call` p50 ms | p99 ms | start with self-test ms | CPU ms of it |\n|---|---|---|---|---|")
    for name, found in figures.items():
        if found.calls_ms:
            start = f"{_spread(found.starts_ms)} | {_spread(found.starts_cpu_ms)}" if found.starts_ms else "no test | "
            print(f"| {name} | {' | '.join(_points(found.calls_ms, 3))} | {start} |")


def _spread(values: list[float], digits: int = 0) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _points(values: list[float], digits: int = 1) -> list[str]:
    ordered = sorted(values)
    return [f"{ordered[int(len(ordered) * share)]:.{digits}f}" for share in (0.5, 0.99)]


def _soak(programs: int, tier: str) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "sandbox"))
    from soak import soak

    done = soak(programs, tier=tier)
    for name, value in vars(done).items():
        print(f"{name}: {value}")
    print(f"faults: {done.faults() or 'none'}")
    sys.exit(bool(done.faults()))


if __name__ == "__main__":
    main()
