"""The index: what it finds, that it is written whole or not at all, and refused when it is not what was written."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.search.dense import Spelling, unit
from sparring.envs.search.documents import Corpus, Document
from sparring.envs.search.index import Index, Way, build_index, open_index
from sparring.scenarios.errors import EngineError, ScenarioError
from sparring.scenarios.registry import embedders


@pytest.mark.parametrize("way", ["bm25", "dense", "hybrid"])
def test_the_document_that_a_query_is_about_comes_first(index: Index, way: Way) -> None:
    assert index.search("who eats krill in the sea", 2, way)[0].id == "whale"
    assert index.search("Herons strike", 1, way)[0].id == "heron"


def test_spelling_finds_what_words_miss_and_hybrid_adds_both_up(index: Index) -> None:
    assert index.search("sleepings", 1) == []
    assert index.search("sleepings", 1, "dense")[0].id == "otter"
    assert index.search("sleepings", 1, "hybrid")[0].score == pytest.approx(1 / 61)


@given(query=st.text(max_size=60), k=st.integers(0, 9))
def test_any_query_gives_at_most_k_documents_best_first_and_none_twice(index: Index, query: str, k: int) -> None:
    ways: tuple[Way, ...] = ("bm25", "dense", "hybrid")
    for way in ways:
        hits = index.search(query, k, way)
        assert len({hit.id for hit in hits}) == len(hits) <= k
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_long_document_is_found_by_its_last_passage_and_counts_once(tmp_path: Path) -> None:
    text = "\n\n".join([*["filler words again and again"] * 200, "the needle is here"])
    build_index(Corpus("x", (Document("long", "", text), Document("other", "", "nothing here"))), tmp_path / "i")
    hits = open_index(tmp_path / "i").search("needle filler", 5)
    assert [hit.id for hit in hits] == ["long"]
    assert text[hits[0].start :].startswith(hits[0].passage[:50])


def test_signs_without_a_single_word_make_an_index_that_finds_nothing(tmp_path: Path) -> None:
    build_index(Corpus("x", (Document("a", "", "!!! ???"),)), tmp_path / "i")
    assert open_index(tmp_path / "i").search("anything", 3) == []


def test_an_interrupted_build_leaves_the_old_index_as_it_was(corpus: Corpus, tmp_path: Path) -> None:
    build_index(corpus, tmp_path / "i")

    class Breaks:
        name = "breaks"

        def __init__(self, argument: str) -> None: ...

        def embed(self, texts: Sequence[str]) -> np.ndarray:
            raise KeyboardInterrupt

    embedders.add("breaks", Breaks)
    with pytest.raises(KeyboardInterrupt):
        build_index(Corpus("new", corpus.documents[:1]), tmp_path / "i", dense="breaks", replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["i"]
    assert len(open_index(tmp_path / "i")) == 4


def test_nothing_but_an_index_is_ever_replaced(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ScenarioError, match="is no index"):
        build_index(corpus, tmp_path / "mine", replace=True)
    build_index(corpus, tmp_path / "i")
    with pytest.raises(ScenarioError, match="--replace"):
        build_index(corpus, tmp_path / "i")


def damage(folder: Path, how: str) -> None:
    if how == "cut":
        file = folder / "documents.jsonl"
        file.write_bytes(file.read_bytes()[:-10])
    elif how == "changed":
        file = folder / "documents.jsonl"
        file.write_bytes(file.read_bytes().replace(b"krill", b"squid"))
    elif how == "missing":
        (folder / "passages.npy").unlink()
    elif how == "manifest":
        (folder / "manifest.json").write_text("{")
    else:
        kept = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(kept | {"format": 99}))


@pytest.mark.parametrize("how", ["cut", "changed", "missing", "manifest", "version"])
def test_a_damaged_index_is_refused_with_the_command_that_makes_it_anew(index: Index, tmp_path: Path, how: str) -> None:
    shutil.copytree(index.path, tmp_path / "i")
    damage(tmp_path / "i", how)
    with pytest.raises(ScenarioError, match=r"sparring index build .* --replace"):
        open_index(tmp_path / "i")


def test_an_index_without_vectors_says_how_to_get_them(corpus: Corpus, tmp_path: Path) -> None:
    build_index(corpus, tmp_path / "i")
    with pytest.raises(ScenarioError, match="--dense"):
        open_index(tmp_path / "i").search("whale", 1, "hybrid")


def test_threads_that_share_an_index_find_the_same(index: Index) -> None:
    alone = [index.search(name, 3, "hybrid") for name in ("whale", "otter", "hours")]
    found: list[object] = []

    def look() -> None:
        for _ in range(20):
            found.append([index.search(name, 3, "hybrid") for name in ("whale", "otter", "hours")])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 80


@pytest.mark.parametrize("rows", [np.zeros((1, 3)), np.zeros(2), np.full((2, 3), np.nan), np.zeros((2, 0))])
def test_vectors_of_another_shape_or_not_finite_are_refused_by_the_embedders_name(rows: np.ndarray) -> None:
    with pytest.raises(EngineError, match="embedder odd"):
        unit(rows, 2, "odd")


def test_spelling_puts_like_words_nearer_than_unlike_ones() -> None:
    one, near, far = unit(Spelling().embed(["colour", "colours", "zebra"]), 3, "spelling")
    assert one @ near > 0.5 > one @ far
