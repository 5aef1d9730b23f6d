"""The database under load: ``python benchmarks/storage.py [--steps 40] [--million FILE] [--only PART ...]``.

``rate``     rows a second through ``Store.save_step`` against plain sqlite3 that writes the same rows (``storage_raw``)
``size``     bytes a turn against the tokens' own bytes and the text
``polling``  what a reader of the page costs a run that writes
``commands`` whole commands on a database of a million turns (``million``; made once, in a minute)

Sides take turns within a round and the median of the rounds' ratios counts, so a busy machine cancels in part.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from html import unescape
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError

from million import default_file, million
from storage_raw import RawWriter
from storage_steps import ATTEMPTS, long_step, own_bytes

from sparring.storage.records import StepRecord
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

COMMANDS = ("--version", "runs", "show r1", "show r1/1200", "show r1/1200/3", "why r1/1200", "why r1/1200/3")
POLLED = ("/runs", "/runs/r1")
BLOCK = 10  # steps saved with and without a reader in turn


def told(values: Sequence[float], form: str = ".1f") -> str:
    """Median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall milliseconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return 1000 * (time.process_time() - cpu), 1000 * (time.perf_counter() - wall)


def count(record: StepRecord) -> int:
    """Rows of a step of ``long_step``: turns, scores, advantages, segments, episodes, tasks, groups and three more."""
    turns = sum(len(episode.turns) for episode in record.episodes)
    return turns + len(record.advantages) * 2 + len(record.episodes) * 4 + 3


def rate(folder: Path, steps: int) -> None:
    """Rows a second, ours, by hand, and by hand with the rows made beforehand."""
    sides: dict[str, list[tuple[float, float]]] = {"sparring": [], "sqlite3": [], "sqlite3, rows ready": []}
    by_hand, ready = RawWriter(folder / "raw.db"), RawWriter(folder / "ready.db")
    with Store(folder / "ours.db") as store:
        store.start_run("benchmark", {}, "benchmark", 0)
        for number in range(steps):
            record = long_step(number)
            rows = ready.rows(record)
            turns: list[tuple[str, Callable[[], object]]] = [
                ("sparring", lambda record=record: store.save_step("r1", record)),
                ("sqlite3", lambda record=record: by_hand.save(record)),
                ("sqlite3, rows ready", lambda rows=rows: ready.insert(rows)),
            ]
            for name, work in turns[number % 3 :] + turns[: number % 3]:  # nobody always goes first
                sides[name].append(timed(work))
    by_hand.close(), ready.close()
    rows_of_step = count(record)
    print(f"\n## Rows a second: {steps} steps of {rows_of_step} rows, {16 * ATTEMPTS} turns of 512 tokens\n")
    print("| | rows/s, wall | wall ms a step | CPU ms a step | of sqlite3's rate, wall | CPU |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, spent in sides.items():
        cpu, wall = ([one[place] for one in spent] for place in (0, 1))
        ratios = [
            [hand[place] / own[place] for own, hand in zip(spent, sides["sqlite3"], strict=True)] for place in (1, 0)
        ]
        speed = f"{1000 * rows_of_step / statistics.median(wall):,.0f}"
        print(f"| {name} | {speed} | {told(wall)} | {told(cpu)} | {_quartiles(ratios[0])} | {_quartiles(ratios[1])} |")


def _quartiles(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} (quartiles {low:.2f}, {high:.2f})"


def size(folder: Path, steps: int) -> None:
    """Bytes a turn, for turns of several lengths."""
    print("\n## Bytes a turn, against token ids and log-probs at four bytes each and the text, once\n")
    print("| tokens a turn | own bytes a turn | stored bytes a turn | ratio |")
    print("|--:|--:|--:|--:|")
    for length in (64, 128, 256, 512, 1024, 2048):
        file = folder / f"size{length}.db"
        records = [long_step(number, n_tokens=length) for number in range(steps)]
        with Store(file) as store:
            store.start_run("benchmark", {}, "benchmark", 0)
            for record in records:
                store.save_step("r1", record)
        turns = sum(len(record.advantages) for record in records)
        own, stored = sum(map(own_bytes, records)) / turns, file.stat().st_size / turns
        print(f"| {length:,} | {own:,.0f} | {stored:,.0f} | {stored / own:.2f} |")


def polling(folder: Path, steps: int) -> None:
    """Steps with and without a reader of the page, block by block."""
    file = folder / "polled.db"
    print("\n## A reader of the page while a run saves steps, blocks of ten steps with and without in turn\n")
    print("| reader asks | pages read | wall ms a step without | with | slowdown, median of block pairs |")
    print("|---|--:|--:|--:|--:|")
    with Store(file) as store, _served(file) as home:
        store.start_run("benchmark", {"training": {"steps": 9999}}, "benchmark", 0)
        number = 0
        for label, every in (("every 2 s", 2.0), ("without a pause", 0.0)):
            free: list[float] = []
            read: list[float] = []
            pages = 0
            for _ in range(max(4, steps // BLOCK)):
                for polled, spent in ((False, free), (True, read)):
                    reader = _Reader(home, every) if polled else None
                    begun = time.perf_counter()
                    for _ in range(BLOCK):
                        store.save_step("r1", sample_step(number, 16))
                        time.sleep(0.25)  # a run also plays and learns; the reader gets its turn
                        number += 1
                    spent.append(1000 * (time.perf_counter() - begun) / BLOCK)
                    pages += reader.stop() if reader is not None else 0
            slower = [100 * (b / a - 1) for a, b in zip(free, read, strict=True)]
            print(f"| {label} | {pages} | {told(free)} | {told(read)} | {told(slower)} % |", flush=True)
        store.finish_run("r1", "done")


class _Reader:
    """Asks for pages until it is stopped, as an open page does: it names what it holds and may hear of nothing new."""

    def __init__(self, home: str, every: float) -> None:
        self.home, self.every, self.pages = home, every, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        tags: dict[str, str] = {}
        while not self.over.is_set():
            for page in POLLED:
                asked = urllib.request.Request(self.home + page, headers={"If-None-Match": tags.get(page, "none")})
                try:
                    with urllib.request.urlopen(asked, timeout=60) as answer:
                        found = re.search(r'data-tag="([^"]*)"', answer.read().decode())
                        tags[page] = unescape(found[1]) if found else "none"
                except HTTPError as error:
                    if error.code != HTTPStatus.NOT_MODIFIED:
                        raise
                self.pages += 1
            self.over.wait(self.every)

    def stop(self) -> int:
        """How many pages it read."""
        self.over.set()
        self.thread.join()
        return self.pages


class _served:
    """``sparring ui`` in a process of its own."""

    def __init__(self, file: Path) -> None:
        self.words = [sys.executable, "-m", "sparring", "ui", "--port", "0", "--db", str(file)]

    def __enter__(self) -> str:
        self.process = subprocess.Popen(self.words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        return "http://" + self.process.stdout.readline().partition("http://")[2].partition("/ ")[0]

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def commands(file: Path, rounds: int = 5) -> None:
    """Whole processes, start-up included; ``--version`` is start-up alone."""
    million(file)
    print(f"\n## Whole commands on a million turns ({file.stat().st_size / 2**20:,.0f} MiB), {rounds} rounds\n")
    print("| sparring | CPU s | wall s |")
    print("|---|--:|--:|")
    spent: dict[str, list[tuple[float, float]]] = {words: [] for words in COMMANDS}
    for _ in range(rounds):
        for words in COMMANDS:
            before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            line = [sys.executable, "-m", "sparring", *words.split()]
            subprocess.run(line, env={**os.environ, "SPARRING_DB": str(file)}, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            spent[words].append((cpu, time.perf_counter() - begun))
    for words, found in spent.items():
        cpus, walls = ([one[place] for one in found] for place in (0, 1))
        print(f"| {words} | {told(cpus, '.2f')} | {told(walls, '.2f')} |", flush=True)


def main() -> None:
    """Print the tables that are asked for."""
    parts = ("rate", "size", "polling", "commands")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--million", type=Path, default=default_file())
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start")
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("rate", rate), ("size", size), ("polling", polling)):
            if name in asked.only:
                part(Path(folder), asked.steps if name != "size" else asked.steps // 2)
    if "commands" in asked.only:
        commands(asked.million)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
