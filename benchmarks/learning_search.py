"""Does searching help? The scenario search-pydoc with its tool and without, several seeds, held-out accuracy.

    python benchmarks/learning_search.py FOLDER [--seeds 0 1 2] [--out scenarios/search-pydoc.results.md]

Without the tool the policy may only answer. It plays three times the episodes of the other way: in all it reads and
says more tokens (1.57 against 1.18 million), though fewer of them are its own and trained (see the table). Accuracy
is on 100 held-out tasks at temperature 1. Runs are kept in FOLDER, each in one of its own; those that are there and
finished are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

SCENARIO = "search-pydoc"
WAYS = {"with search": (), "without": ("environment.max_calls=0", "rollout.episodes=96")}


@dataclass(frozen=True)
class Result:
    """One run: accuracy by step, what it cost, and what the tool was used for at the end."""

    way: str
    seed: int
    curve: tuple[tuple[int, float], ...]
    minutes: float
    tokens: int
    searched: float


def play(folder: Path, way: str, seed: int) -> Path:
    """The run's database; made now unless it is there, gone on with where it was left."""
    path = folder / f"{way.replace(' ', '-')}-{seed}" / "run.db"  # checkpoints lie beside their database
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [word for value in (*WAYS[way], f"seed={seed}") for word in ("-s", value)]
    command = ["resume", "r1"] if path.exists() else ["run", SCENARIO, *options]
    if not path.exists() or not finished(path):
        subprocess.run([sys.executable, "-m", "sparring", *command, "--db", str(path)], check=True)
    return path


def finished(path: Path) -> bool:
    """Whether the run in this database came to its end."""
    with sqlite3.connect(path) as database:
        return bool(database.execute("select status = 'done' from runs").fetchone()[0])


def read(path: Path, way: str, seed: int) -> Result:
    """What a finished run's database says."""
    with sqlite3.connect(path) as database:
        steps = database.execute("select metrics, seconds from steps order by number").fetchall()
        curve = database.execute(
            "select at_step, value from evaluations where name = 'accuracy' and parameters = '{}' order by at_step"
        ).fetchall()
        said = database.execute(
            "select sum(said like '<search>%</search>') * 1.0 / count(*) from turns where node = 'ask'"
            " and engine != 'demonstration'"
        ).fetchone()
    figures = [json.loads(metrics) for metrics, _ in steps]
    tokens = int(sum(row.get("train/tokens") or 0 for row in figures))
    return Result(way, seed, tuple(curve), sum(took for _, took in steps) / 60, tokens, float(said[0] or 0.0))


def table(results: list[Result]) -> str:
    """Markdown: a row per run, then means."""
    at = sorted({step for result in results for step, _ in result.curve})
    heads = ["way", "seed", *(f"step {step}" for step in at), "searched", "tokens trained", "minutes"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for result in results:
        known = dict(result.curve)
        cells = [f"{known[step]:.2f}" if step in known else "" for step in at]
        end = [f"{result.searched:.2f}", f"{result.tokens:,}", f"{result.minutes:.1f}"]
        lines.append("| " + " | ".join([result.way, str(result.seed), *cells, *end]) + " |")
    lines.append("")
    for way in WAYS:
        last = [result.curve[-1][1] for result in results if result.way == way and result.curve]
        if last:
            lines.append(f"{way}: {statistics.fmean(last):.3f} at the end (from {min(last):.3f} to {max(last):.3f}).")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    results = [read(play(asked.folder, way, seed), way, seed) for way in asked.ways for seed in asked.seeds]
    text = table(results)
    print(text)
    if asked.out is not None:
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        head = f"# {SCENARIO}: with and without the tool\n\n{__doc__}\nMeasured {date.today()}, {machine}."
        asked.out.write_text(f"{head}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
