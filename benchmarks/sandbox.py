"""Sandbox speed per tier: ``python benchmarks/sandbox.py`` prints one table. Needs no model and about 20 seconds."""

from __future__ import annotations

import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from sparring.envs.code.sandbox import AUTO, Outcome, Sandbox
from sparring.envs.code.worker import interpreter
from sparring.scenarios.errors import SandboxUnavailable

PROGRAM = "print(sum(range(10)))"
RUNS = 300


def main() -> None:
    """Measure start with self-test, then runs one after another and two at a time."""
    print(f"| tier | start + self-test s | 1 at a time /s | p50 ms | p99 ms | CPU ms | 2 at a time /s |\n|{'---|' * 7}")
    for tier in (*AUTO, "none"):
        print("| " + " | ".join(_row(tier)) + " |", flush=True)
    print(f"| fresh interpreter each | | {_plain():.0f} | | | | |")


def _row(tier: str) -> list[str]:
    began = time.perf_counter()
    try:
        sandbox = Sandbox(tier, workers=2, allow_unsafe=True)
    except SandboxUnavailable as refused:
        return [tier, str(refused).splitlines()[1].strip(), "", "", "", "", ""]
    started = time.perf_counter() - began
    with sandbox, ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: _timed(sandbox), range(20)))
        began = time.perf_counter()
        runs = [_timed(sandbox) for _ in range(RUNS)]
        alone = RUNS / (time.perf_counter() - began)
        began = time.perf_counter()
        list(threads.map(lambda _: _timed(sandbox), range(RUNS)))
        together = RUNS / (time.perf_counter() - began)
    walls = sorted(1000 * wall for wall, _ in runs)
    figures = (alone, statistics.median(walls), walls[int(RUNS * 0.99)], 1000 * statistics.mean(cpu for _, cpu in runs))
    return [tier, f"{started:.2f}", *(f"{figure:.1f}" for figure in figures), f"{together:.0f}"]


def _timed(sandbox: Sandbox) -> tuple[float, float]:
    began = time.perf_counter()
    ran = sandbox.run(PROGRAM)
    assert ran.outcome is Outcome.OK, ran
    return time.perf_counter() - began, ran.cpu_s


def _plain() -> float:
    began = time.perf_counter()
    for _ in range(20):
        subprocess.run([interpreter(), "-I", "-S", "-c", PROGRAM], check=True, stdout=subprocess.DEVNULL)
    return 20 / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
