"""Every dataset of reasoning-gym through the verifier audit: right answers, junk, echoes, constants mined from its own.

``python benchmarks/reasoning_gym.py > report.md`` plays all of them; names as arguments play those alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from sparring.envs.adapters.apart import ForeignError, apart
from sparring.envs.adapters.reasoning_gym import RIGHT, ReasoningGymEnvironment
from sparring.envs.audit import AuditReport, audit

FAR = apart("sparring.envs.adapters.reasoning_gym_entries")
SLOW_MS = 300.0  # an entry; slower datasets play two tasks and eight fresh ones
MOST = 0.25  # what `check` and `run` allow a cheap answer


@dataclass(frozen=True)
class Row:
    """What one dataset did. ``unsound``: entries whose own answer the library does not score 1; ``None``: no answer."""

    name: str
    levels: str
    report: AuditReport | None
    oracle_levels: str
    unsound: str
    entry_ms: float
    problem: str = ""

    @property
    def cheap(self) -> float:
        """Mean of the best cheap way."""
        return self.report.best.mean if self.report and self.report.best else 0.0


def entries(name: str, count: int) -> tuple[str, float]:
    """Share of entries the library contradicts itself on, and milliseconds per entry."""
    FAR.call("make", name, {}, None, 0, timeout_s=120.0)  # the process starts, the dataset reads its files
    unsound, without, failed, began = 0, 0, 0, time.perf_counter()
    rng = np.random.default_rng(0)
    for _ in range(count):
        try:
            made = FAR.call("make", name, {}, None, int(rng.integers(1 << 30)))
        except ForeignError:
            failed += 1
            continue
        without += made["proof"] is None
        unsound += made["proof"] is not None and made["proof"] < RIGHT
    milliseconds = 1000 * (time.perf_counter() - began) / count
    words = [f"{unsound}/{count}"] * bool(unsound) + [f"none kept {without}/{count}"] * bool(without)
    return ", ".join(words + [f"failed {failed}/{count}"] * bool(failed)) or "0", milliseconds


def by_level(environment: ReasoningGymEnvironment, count: int, limit_s: float) -> str:
    """Right answers at the lowest and the highest level, ``count`` tasks each."""
    levels = [level for level in environment.parameters["level"] if level != "default"]
    told = []
    for level in dict.fromkeys(levels[:1] + levels[-1:]):
        marks, unknown, began = [], 0, time.perf_counter()
        for seed in range(count):
            if time.perf_counter() - began > limit_s:
                break
            try:
                task = environment.sample({"level": level}, np.random.default_rng(seed))
                environment.reset(seed=seed, options={"task": task})
            except Exception as error:  # a level its makers' generators cannot fill is a finding
                told.append(f"{level}: {str(error).split('(')[-1].split(')')[0][:60]}")
                break
            answer = environment.oracle()
            unknown += answer is None
            if answer is not None:
                marks.append(float(environment.step(answer)[1]))
        if marks or unknown:
            shown = f"{np.mean(marks):.2f}" if marks else "-"
            told.append(f"{level}: {shown}" + (f" ({unknown} unknown)" if unknown else ""))
    return ", ".join(told) or "-"


def play(name: str, tasks: int, limit_s: float) -> Row:
    """One dataset."""
    try:
        unsound, milliseconds = entries(name, 25)
    except ForeignError as error:
        return Row(name, "-", None, "-", "-", 0.0, f"{error.how}: {error}"[:200])
    tasks = tasks if milliseconds < SLOW_MS else min(2, tasks)
    usable, claimed = FAR.call("levels", name), FAR.call("claimed", name)
    levels = str(usable) if usable == claimed else f"{usable} of {claimed}"
    try:
        environment = ReasoningGymEnvironment({"dataset": name, "timeout_s": limit_s})
        vars(environment)["parameters"] = {}  # the audit at the library's default difficulty
        report = audit(environment, tasks=tasks)
        vars(environment).pop("parameters")
        again = ReasoningGymEnvironment({"dataset": name, "timeout_s": limit_s})
        return Row(name, levels, report, by_level(again, 3, limit_s), unsound, milliseconds)
    except Exception as error:  # one dataset that does not work must not hide the others
        return Row(name, levels, None, "-", unsound, milliseconds, f"{type(error).__name__}: {error}"[:200])


def line(row: Row) -> str:
    """The row of the table."""
    if row.report is None or row.report.skipped:
        why = row.problem or (row.report.skipped if row.report else "")
        return f"| {row.name} | {row.levels} | - | - | - | - | - | {why} |"
    best = row.report.best
    example = " ".join(best.example.split()).replace("|", "\\|")[:50] if best and best.mean else ""
    way = f"`{example}`" if example else ""
    oracle = "unknown" if row.report.oracle is None else f"{row.report.oracle:.3f}"
    invalid = f"{row.report.invalid.value:.3f}"
    return (
        f"| {row.name} | {row.levels} | {oracle} | {row.oracle_levels} | {row.unsound} | {row.cheap:.3f} | "
        f"{invalid} | {row.entry_ms:.1f} | {way} |"
    )


def summary(rows: list[Row], seconds: float) -> Iterator[str]:
    """The figures above the table."""
    played = [row for row in rows if row.report is not None and not row.report.skipped]
    right = [row for row in played if row.report and row.report.oracle is not None]
    short = [row.name for row in right if row.report and row.report.oracle is not None and row.report.oracle < RIGHT]
    yield f"{len(rows)} datasets of reasoning-gym {version('reasoning-gym')}, {len(played)} played, {seconds:.0f} s.\n"
    yield f"* right answers earn 1.0 on {len(right) - len(short)} of {len(right)}; below: {', '.join(short) or 'none'}"
    yield f"* without a known right answer: {', '.join(r.name for r in played if r not in right) or 'none'}"
    cheap = sorted((row for row in played if row.cheap > MOST), key=lambda row: -row.cheap)
    yield f"* above {MOST} for a cheap answer, {len(cheap)}: {', '.join(f'{r.name} {r.cheap:.2f}' for r in cheap)}"
    invalid = [row.name for row in played if row.report and row.report.invalid.count]
    yield f"* scorers that raise or hang on some answer (score invalid): {', '.join(invalid) or 'none'}"
    unsound = [f"{row.name} {row.unsound}" for row in played if row.unsound[:1] not in ("0", "n")]
    yield f"* entries whose own answer the library does not score 1 (skipped): {', '.join(unsound) or 'none'}"
    broken = [row.name for row in rows if row not in played]
    yield f"* not played: {', '.join(broken) or 'none'}\n"


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="*")
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for one entry, one score")
    parser.add_argument("--jobs", type=int, default=2, help="datasets at once")
    asked = parser.parse_args()
    names: list[Any] = asked.datasets or FAR.call("names")
    FAR.close()  # every job starts its own
    began, rows = time.perf_counter(), []
    with ProcessPoolExecutor(asked.jobs) as jobs:
        played = [jobs.submit(play, name, asked.tasks, asked.limit) for name in names]
        for one in as_completed(played):
            rows.append(one.result())
            print(f"{time.perf_counter() - began:6.0f} s", line(rows[-1]), file=sys.stderr, flush=True)
    rows.sort(key=lambda row: row.name)
    print("\n".join(summary(rows, time.perf_counter() - began)))
    print(
        "| dataset | levels | oracle | oracle at levels | unsound entries | cheap | invalid | ms an entry | cheap way |"
    )
    print("|---|--:|--:|---|--:|--:|--:|--:|---|")
    print("\n".join(map(line, rows)))


if __name__ == "__main__":
    main()
