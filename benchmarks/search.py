"""The index of the standard library's documentation: how long, how large, how fast, and how often it finds the page.

    python benchmarks/search.py [--out benchmarks/results/DATE-search.md] [--dense EMBEDDER]

Queries are masked questions as they stand, blank left out, every one the corpus gives (none is dropped for being hard).
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from sparring.envs.search.index import Index, Way, build_index, open_index
from sparring.envs.search.masking import HOPS, KINDS, Question, clue, questions
from sparring.envs.search.pydoc import read_pydoc

WAYS: tuple[Way, ...] = ("bm25", "dense", "hybrid")
AT = 5


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rate(index: Index, asked: Sequence[str], way: Way, n_threads: int) -> float:
    """Queries per second of all threads together."""

    def look() -> None:
        for query in asked:
            index.search(query, AT, way)

    threads = [threading.Thread(target=look) for _ in range(n_threads)]

    def all_of_them() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return n_threads * len(asked) / timed(all_of_them)


def recalls(index: Index, asked: Sequence[Question], way: Way) -> tuple[float, float]:
    """Share of questions whose document comes first, and is among the first five."""
    ranks = []
    for question in asked:
        found = [hit.id for hit in index.search(clue(question.text, 80), AT, way)]
        ranks.append(found.index(question.document) if question.document in found else AT)
    return float(np.mean([rank == 0 for rank in ranks])), float(np.mean([rank < AT for rank in ranks]))


def sizes(index: Index) -> dict[str, int]:
    """Bytes by what they are for."""
    found = {"documents": 0, "words": 0, "vectors": 0, "the rest": 0}
    for name, note in index.manifest.files.items():
        part = name.split("/")[0].split(".")[0]
        found[{"documents": "documents", "bm25": "words", "vectors": "vectors"}.get(part, "the rest")] += note.bytes
    return found


def measure(dense: str, folder: Path) -> list[str]:
    """The report's lines."""
    lines: list[str] = []
    corpus = read_pydoc()
    reading = min(timed(read_pydoc) for _ in range(3))
    building = {name: folder / name for name in ("bm25", "both")}
    seconds = {
        "bm25": min(timed(lambda: build_index(corpus, building["bm25"], replace=True)) for _ in range(3)),
        "both": timed(lambda: build_index(corpus, building["both"], dense)),
    }
    opening = timed(lambda: open_index(building["bm25"]))
    index = open_index(building["both"])
    about = index.manifest
    lines += [
        f"{about.documents:,} documents, {about.passages:,} passages, {about.characters:,} characters.",
        "",
        "| | |",
        "| --- | --- |",
        f"| read the docstrings (child process), s | {reading:.2f} |",
        f"| build, BM25 alone, s | {seconds['bm25']:.2f} |",
        f"| build with vectors ({about.dense}), s | {seconds['both']:.2f} |",
        f"| open and check, ms | {1000 * opening:.1f} |",
        *(f"| {what}, bytes | {size:,} |" for what, size in sizes(index).items()),
        "",
    ]
    return lines + _rates(index) + _table(index)


def _rates(index: Index) -> list[str]:
    asked = [clue(question.text, 80) for question in questions(index, "name", 1)[:500]]
    rows = []
    for way in WAYS:
        one, two = (max(rate(index, asked, way, n) for _ in range(3)) for n in (1, 2))
        rows.append(f"| {way} | {one:,.0f} | {two:,.0f} |")
    return ["| queries per second | 1 thread | 2 threads |", "| --- | --- | --- |", *rows, ""]


def _table(index: Index) -> list[str]:
    head = "| masked question | questions | " + " | ".join(f"{way} @1 | {way} @{AT}" for way in WAYS) + " |"
    rows = [head, "| --- | --- |" + " --- | --- |" * len(WAYS)]
    for hops in HOPS:
        for kind in KINDS:
            asked = questions(index, kind, hops)
            shares = [f"{share:.3f}" for way in WAYS for share in recalls(index, asked, way)]
            rows.append(f"| {kind}, {hops} {'hop' if hops == 1 else 'hops'} | {len(asked)} | {' | '.join(shares)} |")
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dense", default="spelling", help="what makes the vectors")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        body = measure(chosen.dense, Path(scratch))
    load = os.getloadavg()[0]
    where = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load:.1f}"
    head = (__doc__ or "").split("\n", 1)
    text = "\n".join(
        ["# Search: the index of the standard library's documentation", "", head[0], head[1].rstrip(), "",
         f"Measured {date.today()}, {where}.", "", *body, ""]
    )  # fmt: skip
    sys.stdout.write(text)
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
