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
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sparring.envs.search.index import Index, Way, build_index, open_index
from sparring.envs.search.masking import HOPS, KINDS, Question, clue, questions
from sparring.envs.search.pydoc import read_pydoc

WAYS: tuple[Way, ...] = ("bm25", "dense", "hybrid")
AT = 5


class Took(NamedTuple):
    """Seconds on the clock, and of processor time, children included: the one to trust on a busy machine."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Took:
    """How long ``work`` takes."""
    before, began = sum(os.times()[:4]), time.perf_counter()
    work()
    return Took(time.perf_counter() - began, sum(os.times()[:4]) - before)


def rate(index: Index, asked: Sequence[str], way: Way) -> Took:
    """Per query, in one thread."""
    took = timed(lambda: [index.search(query, AT, way) for query in asked])
    return Took(took.wall / len(asked), took.cpu / len(asked))


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
    corpus = read_pydoc()
    places = {name: folder / name for name in ("words", "both")}
    rows = {
        "read the docstrings in a child process": timed(read_pydoc),
        "build, BM25 alone": timed(lambda: build_index(corpus, places["words"])),
        f"build, with vectors ({dense})": timed(lambda: build_index(corpus, places["both"], dense)),
        "open, with check of every file": timed(lambda: open_index(places["words"])),
    }
    index = open_index(places["both"])
    about = index.manifest
    return [
        f"{about.documents:,} documents, {about.passages:,} passages, {about.characters:,} characters;"
        f" vectors: {about.dense}, {about.dimensions} numbers each.",
        "",
        "| | seconds | CPU seconds |",
        "| --- | --- | --- |",
        *(f"| {what} | {took.wall:.2f} | {took.cpu:.2f} |" for what, took in rows.items()),
        "",
        "| part of the index | bytes |",
        "| --- | --- |",
        *(f"| {what} | {size:,} |" for what, size in sizes(index).items()),
        "",
        *_rates(index),
        *_table(index),
    ]


def _rates(index: Index) -> list[str]:
    asked = [clue(question.text, 80) for question in questions(index, "name", 1)[:400]]
    rows = []
    for way in WAYS:
        took = min((rate(index, asked, way) for _ in range(2)), key=lambda one: one.cpu)
        rows.append(f"| {way} | {1 / took.wall:,.0f} | {1 / took.cpu:,.0f} |")
    return ["| queries of one thread | per second | per CPU second |", "| --- | --- | --- |", *rows, ""]


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
