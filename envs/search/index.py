"""An index on disk: build it from a corpus, open it, search it by words (BM25), by vectors, or by both.

A folder with a manifest; written under another name and moved into place whole, read-only and memory-mapped after.
"""

from __future__ import annotations

import json
import mmap
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sparring.scenarios.errors import MissingExtra, ScenarioError

from .dense import Embedder, embedder, unit
from .documents import Corpus, Document, passages
from .manifest import FORMAT, MANIFEST, Manifest, check_files, files_of, read_manifest
from .words import LONGEST_QUERY, query_words, words

Way = Literal["bm25", "dense", "hybrid"]
RRF = 60  # reciprocal rank fusion: Cormack, Clarke and Büttcher 2009
DEPTH = 100  # ranks of each list that are fused
BATCH = 64  # texts embedded in one call

Scores = npt.NDArray[np.float32]


class Hit(NamedTuple):
    """A document found: its best passage, ``start`` where that begins in the text, and a score (higher is better)."""

    id: str
    title: str
    passage: str
    start: int
    score: float


def build_index(corpus: Corpus, to: Path, dense: str | None = None, replace: bool = False) -> Manifest:
    """Write the index of ``corpus`` to folder ``to``; all of it or nothing.

    ``dense`` names an embedder. ``replace``: put it in place of an index that is there, never of anything else. Raises
    ``ScenarioError`` where something is in the way, and whatever the embedder raises.
    """
    taken = to.exists() and any(to.iterdir()) if to.is_dir() else to.exists()
    if taken and not (to / MANIFEST).is_file():
        raise ScenarioError(f"{to} is there and is no index; choose another place with --to")
    if taken and not replace:
        raise ScenarioError(f"{to} already holds an index; add --replace, or choose another place with --to")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as scratch:
        made = Path(scratch) / "index"
        manifest = _write(corpus, made, embedder(dense) if dense else None)
        _move(made, to, Path(scratch) / "old")
    return manifest


def _move(made: Path, to: Path, aside: Path) -> None:
    """Put ``made`` in the place of ``to``; another process that was quicker keeps the place."""
    if to.exists():
        to.rename(aside)
    try:
        made.rename(to)
    except OSError:
        if not (to / MANIFEST).is_file():
            raise


def _write(corpus: Corpus, to: Path, by: Embedder | None) -> Manifest:
    to.mkdir()
    spans = [passages(document.text) for document in corpus.documents]
    table = np.array([(at, *span) for at, cut in enumerate(spans) for span in cut], dtype=np.int64).reshape(-1, 3)
    np.save(to / "passages.npy", table)
    _write_documents(corpus.documents, to)
    texts = [f"{corpus.documents[at].title}\n{corpus.documents[at].text[start:end]}" for at, start, end in table]
    _write_words(texts, to / "bm25")
    size = _write_vectors(texts, to / "vectors.npy", by) if by is not None else 0
    manifest = Manifest(
        format=FORMAT,
        source=corpus.source,
        documents=len(corpus.documents),
        passages=len(table),
        characters=sum(len(document.text) for document in corpus.documents),
        dense=by.name if by is not None else None,
        dimensions=size,
        skipped=[[name, reason] for name, reason in corpus.skipped],
        files=files_of(to),
    )
    (to / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    return manifest


def _write_documents(documents: tuple[Document, ...], to: Path) -> None:
    offsets = [0]
    with (to / "documents.jsonl").open("wb") as file:
        for document in documents:
            row = {"id": document.id, "title": document.title, "text": document.text}
            offsets.append(offsets[-1] + file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n"))
    np.save(to / "offsets.npy", np.array(offsets, dtype=np.int64))
    (to / "ids.json").write_text(json.dumps([document.id for document in documents]), encoding="utf-8")


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError:
        raise MissingExtra("a search index needs bm25s: pip install 'sparring[search]'") from None
    return bm25s


def _write_words(texts: list[str], to: Path) -> None:
    # a passage of signs holds the empty word, which no query does: the formula divides by a length
    vocabulary: dict[str, int] = {"": 0}
    ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in words(text)] or [0] for text in texts]
    ranker = _bm25s().BM25(method="lucene", k1=1.2, b=0.75, backend="numpy", csc_backend="numpy")
    ranker.index((ids, vocabulary), show_progress=False)
    ranker.save(to, show_progress=False)


def _write_vectors(texts: list[str], to: Path, by: Embedder) -> int:
    rows = [
        unit(by.embed(part), len(part), by.name)
        for part in (texts[at : at + BATCH] for at in range(0, len(texts), BATCH))
    ]
    vectors = np.concatenate(rows)
    np.save(to, vectors)  # float32: halves would be widened again for every query
    return int(vectors.shape[1])


@dataclass(frozen=True, eq=False)
class Index:
    """An index on disk, opened to be read by any number of threads; ``open_index`` makes one."""

    path: Path
    manifest: Manifest
    ranker: Any
    vectors: npt.NDArray[np.float32] | None
    table: npt.NDArray[np.int64]  # per passage: document, start, end
    offsets: npt.NDArray[np.int64]
    places: Mapping[str, int]
    raw: mmap.mmap

    def __len__(self) -> int:
        return len(self.places)

    def document(self, name: str) -> Document | None:
        """The document with this id, or ``None``."""
        at = self.places.get(name)
        return None if at is None else self.at(at)

    def at(self, place: int) -> Document:
        """The document at this place, counted from 0 in the order of the source."""
        row = json.loads(self.raw[int(self.offsets[place]) : int(self.offsets[place + 1])])
        return Document(row["id"], row["title"], row["text"])

    def search(self, query: str, k: int = 3, way: Way = "bm25") -> list[Hit]:
        """At most ``k`` documents, best first; ties go to the earlier one. The query's first 2,000 characters count.

        ``hybrid`` adds up 1 / (60 + rank) over both lists of 100. Raises ``ScenarioError`` where there are no vectors.
        """
        asked = query[:LONGEST_QUERY]
        if way == "bm25":
            return self._hits(self._by_words(asked), k)
        if way == "dense":
            return self._hits(self._by_vector(asked), k)
        fused = np.zeros(len(self.table), dtype=np.float32)
        for scores in (self._by_words(asked), self._by_vector(asked)):
            best = self._order(scores, DEPTH)
            fused[best] += 1.0 / (RRF + 1 + np.arange(len(best), dtype=np.float32))
        return self._hits(fused, k)

    def _by_words(self, query: str) -> Scores:
        known = [self.ranker.vocab_dict[word] for word in query_words(query) if word in self.ranker.vocab_dict]
        if not known:
            return np.zeros(len(self.table), dtype=np.float32)
        scores: Scores = self.ranker.get_scores_from_ids(known)
        return scores

    def _by_vector(self, query: str) -> Scores:
        if self.vectors is None or self.manifest.dense is None:
            raise ScenarioError(f"the index {self.path} has no vectors; build it again with --dense, or use bm25")
        one = unit(_embedder(self.manifest.dense).embed([query]), 1, self.manifest.dense)[0]
        if one.shape[0] != self.vectors.shape[1]:
            raise ScenarioError(
                f"the index {self.path} has vectors of {self.vectors.shape[1]} numbers, {self.manifest.dense} now gives"
                f" {one.shape[0]}; build the index again with --replace"
            )
        scores: Scores = self.vectors @ one
        return scores

    def _order(self, scores: Scores, n: int) -> npt.NDArray[np.int64]:
        """Passages with a score above 0, best first, ``n`` of them at most; equal scores in the order of the corpus."""
        found = np.flatnonzero(scores > 0)
        if len(found) > 4 * n:
            least = np.partition(scores[found], len(found) - n)[len(found) - n]
            found = found[scores[found] >= least]
        order: npt.NDArray[np.int64] = found[np.argsort(-scores[found], kind="stable")][:n]
        return order

    def _hits(self, scores: Scores, k: int) -> list[Hit]:
        hits: dict[int, Hit] = {}
        n = max(k, 1)
        while True:  # several passages of one document count once, so more of them may be needed
            order = self._order(scores, 8 * n)
            for at in order:
                place, start, end = (int(number) for number in self.table[at])
                if place not in hits:
                    document = self.at(place)
                    passage = document.text[start:end]
                    hits[place] = Hit(document.id, document.title, passage, start, float(scores[at]))
                if len(hits) >= k:
                    return list(hits.values())[: max(k, 0)]
            if len(order) < 8 * n:
                return list(hits.values())
            n *= 4


@lru_cache(maxsize=8)
def _embedder(spec: str) -> Embedder:
    return embedder(spec)


def open_index(path: Path) -> Index:
    """The index in folder ``path``, shared by everyone in this process who asks for it.

    Raises ``ScenarioError`` with the command to type when it is no index, of another version, or damaged.
    """
    place = path.resolve()
    manifest = read_manifest(place)
    return _open(place, (place / MANIFEST).stat().st_mtime_ns, manifest.source)


@lru_cache(maxsize=16)
def _open(path: Path, written: int, source: str) -> Index:
    manifest = read_manifest(path)
    check_files(path, manifest)
    ranker = _bm25s().BM25.load(path / "bm25", mmap=True, show_progress=False)
    vectors = np.load(path / "vectors.npy", mmap_mode="r") if manifest.dense is not None else None
    ids = json.loads((path / "ids.json").read_text(encoding="utf-8"))
    with (path / "documents.jsonl").open("rb") as file:
        raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Index(
        path,
        manifest,
        ranker,
        vectors,
        np.load(path / "passages.npy", mmap_mode="r"),
        np.load(path / "offsets.npy", mmap_mode="r"),
        {name: at for at, name in enumerate(ids)},
        raw,
    )
