"""A run of a small scenario that goes on for as long as wanted, watched from outside: what grows, what slows down.

``python tests/survival/soak.py --minutes 120`` prints a line a minute and ends with 1 when memory grows by 1 MB an hour
or more after the first quarter, descriptors grow, SQLite's log is larger than it may get, steps take 10% more of the
processor at the end than at the beginning, or rows are not what so many steps make.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import kill  # type: ignore[import-not-found]  # the script beside this one
import numpy as np
import torch

from sparring.scenarios.load import load
from sparring.storage import queries
from sparring.storage.sqlite import PRAGMAS
from sparring.storage.store import Store
from sparring.training.cli.running import hush
from sparring.training.policy import load_policy

WARM = 0.25  # of the time: allocators, caches and the log fill
LOG_MB = 1.25 * int(PRAGMAS["journal_size_limit"]) / 2**20  # what one large step may add before it is folded in
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Seen:
    """The run at one moment: seconds since it began, memory and log in MB, processor seconds, whole steps."""

    seconds: float
    memory: float
    descriptors: int
    log: float
    cpu: float
    steps: int


def look(pid: int, database: Path, began: float) -> Seen:
    """What ``/proc`` and the database say of the run."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    log = Path(f"{database}-wal")
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as plain:
        steps = plain.execute("SELECT count(*) FROM steps").fetchone()[0]
    return Seen(
        time.monotonic() - began,
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(os.listdir(f"/proc/{pid}/fd")),
        log.stat().st_size / 2**20 if log.exists() else 0.0,
        (int(fields[11]) + int(fields[12])) / TICKS,
        steps,
    )


def begin(folder: Path) -> int:
    """The command line's own ``main`` in a fork, its output in a file; the process's number."""
    said = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT)
    pid = os.fork()
    if pid == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for end in (1, 2):
            os.dup2(said, end)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.chdir(folder)
        sys.argv = ["sparring", *kill.RUN, "-s", "training.steps=10000000", "-s", "evaluation.every=50"]
        code = 1
        try:
            kill.sparring()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(said)
    return pid


def watch(pid: int, database: Path, minutes: float, every: float) -> list[Seen]:
    """The run at every moment from its first step on."""
    began, seen = time.monotonic(), list[Seen]()
    while not database.exists() or not _rows(database, "steps"):
        if time.monotonic() - began > 120:
            raise SystemExit("the run did not begin; see said.txt")
        time.sleep(0.2)
    began = told = time.monotonic()
    while time.monotonic() - began < 60 * minutes:
        time.sleep(every)
        seen.append(look(pid, database, began))
        if time.monotonic() - told >= 60:
            told = time.monotonic()
            now = seen[-1]
            print(f"{now.seconds / 60:5.1f} min  {now.memory:7.1f} MB  {now.descriptors} descriptors  "
                  f"log {now.log:.1f} MB  {now.steps} steps", flush=True)  # fmt: skip
    return seen


def _rows(database: Path, table: str) -> int:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as plain:
            return int(plain.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.OperationalError:  # its schema is being made
        return 0


def figures(seen: list[Seen]) -> dict[str, Any]:
    """What came of it, from the end of the warm-up on."""
    warm = [one for one in seen if one.seconds >= WARM * seen[-1].seconds]
    hours = np.array([one.seconds / 3600 for one in warm])
    memory = np.array([one.memory for one in warm])
    third = max(1, len(warm) // 3)
    cost = [_cost(warm[:third]), _cost(warm[-third:])]
    return {
        "minutes": round(seen[-1].seconds / 60, 1),
        "steps": seen[-1].steps,
        "MB": round(float(memory.mean()), 1),
        "MB an hour": round(float(np.polyfit(hours, memory, 1)[0]), 2),
        "MB from third to third": round(float(memory[-third:].mean() - memory[:third].mean()), 2),
        "descriptors": [min(one.descriptors for one in warm), max(one.descriptors for one in warm)],
        "more descriptors": _held(warm[-third:]) - _held(warm[:third]),
        "log MB": round(max(one.log for one in seen), 1),
        "ms of processor a step": [round(1000 * one, 1) for one in cost],
        "slower": round(cost[1] / cost[0] - 1, 3),
    }


def _cost(seen: list[Seen]) -> float:
    """Processor seconds a step: wall time says more about whoever shares the machine."""
    return (seen[-1].cpu - seen[0].cpu) / max(1, seen[-1].steps - seen[0].steps)


def _held(seen: list[Seen]) -> int:
    """Descriptors the run never let go of: a file that was just being read or written says nothing."""
    return min(one.descriptors for one in seen)


def whole(folder: Path) -> list[str]:
    """What is wrong with what the run left."""
    with Store(folder / "sparring.db") as store:
        row, wrong = store.run("r1"), [str(place) for place in queries.damaged(store, "r1")]
    steps, episodes, turns = (_rows(folder / "sparring.db", name) for name in ("steps", "episodes", "turns"))
    wrong += [] if row.status == "stopped" else [f"status {row.status}"]
    wrong += [] if steps == (row.last_step or 0) + 1 else [f"{steps} steps, the last is {row.last_step}"]
    wrong += [] if episodes == 2 * (steps - 1) else [f"{episodes} episodes of {steps} steps"]
    wrong += [] if turns == 10 * episodes else [f"{turns} turns of {episodes} episodes"]
    kept = sorted(path.name for path in (folder / "checkpoints" / "r1").iterdir())
    return wrong + ([] if len(kept) <= 3 else [f"checkpoints {kept}"])


def main() -> int:
    """Run, watch, end, judge."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--minutes", type=float, default=120.0)
    asked.add_argument("--every", type=float, default=5.0, help="seconds between two looks")
    asked.add_argument("--folder", type=Path, help="where the run is made; the default goes away afterwards")
    asked.add_argument("--slope", type=float, default=1.0, help="MB an hour that memory may grow")
    asked.add_argument("--slower", type=float, default=0.1, help="share by which a step may cost more at the end")
    given = asked.parse_args()
    torch.set_num_threads(1)
    hush()
    with kill.scratch(given.folder) as folder:
        (place := folder / "run").mkdir()
        kill.make_place(place, 20)
        checked = load(place / "survival.yaml")
        load_policy(checked.policy, checked.base)
        pid = begin(place)
        try:
            seen = watch(pid, place / "sparring.db", given.minutes, given.every)
        finally:
            os.kill(pid, signal.SIGTERM)
            _, status = os.waitpid(pid, 0)
        found, wrong = figures(seen), whole(place)
        code = os.waitstatus_to_exitcode(status)
    wrong += [] if code == 128 + signal.SIGTERM else [f"ended with {code}"]
    wrong += [] if found["MB an hour"] < given.slope else ["memory grows"]
    wrong += [] if found["more descriptors"] <= 0 else ["descriptors grow"]
    wrong += [] if found["log MB"] <= LOG_MB else ["SQLite's log grows"]
    wrong += [] if found["slower"] < given.slower else ["steps get slower"]
    print(json.dumps(found | {"wrong": wrong, "last": asdict(seen[-1])}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
