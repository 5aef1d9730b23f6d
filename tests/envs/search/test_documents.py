"""Reading a corpus: what is no text is left out and told, what is wrong is named with file and line."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.search.documents import Limits, passages, read_corpus
from sparring.envs.search.words import LONGEST_QUERY, query_words, words
from sparring.scenarios.errors import ScenarioError


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_files_that_hold_no_text_are_left_out_with_a_reason_each(tmp_path: Path) -> None:
    files = {
        "a.md": b"# Whales\nThey sing.",
        "empty": b" \n",
        "photo": b"\x89PNG\0\0",
        "old.txt": "señal".encode("latin1"),
    }
    fill(tmp_path, {**files, "big.txt": b"x" * 2000, "deep/b.txt": b"otters", ".git/config": b"hidden"})
    (tmp_path / "link").symlink_to(tmp_path / "a.md")
    corpus = read_corpus(tmp_path, Limits(file_bytes=1000))
    assert [(one.id, one.title) for one in corpus.documents] == [("a.md", "Whales"), ("deep/b.txt", "b")]
    reasons = {name: reason.split(" (")[0] for name, reason in corpus.skipped}
    assert reasons == {
        "big.txt": "too large", "empty": "empty", "link": "a link", "old.txt": "not UTF-8", "photo": "binary",
    }  # fmt: skip


@pytest.mark.parametrize("files", [{}, {"a": b""}, {"a": b"\0\0\0"}])
def test_a_corpus_with_nothing_left_is_an_error(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(ScenarioError, match="holds no text"):
        read_corpus(fill(tmp_path, files))


def test_more_text_than_the_limit_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    fill(tmp_path, {f"{n}.txt": b"x" * 100 for n in range(20)})
    with pytest.raises(ScenarioError, match="more than 1000 bytes"):
        read_corpus(tmp_path, Limits(total_bytes=1000))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "not JSON"),
        (b"[1]", "found a list"),
        (b'{"id": "a"}', "field 'text'"),
        (b'{"text": "x", "id": [1]}', "field 'id'"),
        (b'{"text": "x", "title": 3}', "field 'title'"),
        (b'{"text": "x", "id": "one"}', "taken by line 1"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (b'{"text": "' + b"x" * 2000 + b'"}', "longer than 1000 bytes"),
        (b"[" * 900, "not JSON"),
    ],
)
def test_a_wrong_line_is_named_with_file_and_number(tmp_path: Path, line: bytes, fault: str) -> None:
    file = tmp_path / "docs.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"id": "one", "text": "right"}\n\n' + line + b"\n")
    with pytest.raises(ScenarioError, match=rf"docs\.jsonl, line 3: .*{fault}"):
        read_corpus(file, Limits(file_bytes=1000))


def test_ids_are_line_numbers_where_none_are_given_and_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    file = tmp_path / "docs.jsonl"
    file.write_text(json.dumps({"text": "a \ud800 b"}) + "\n" + json.dumps({"text": "c", "id": 7}) + "\n")
    assert [(one.id, one.text) for one in read_corpus(file).documents] == [("1", "a ? b"), ("7", "c")]


@given(st.text(alphabet="ab \n\t", max_size=200), st.integers(1, 50))
def test_passages_hold_every_word_once_and_are_never_too_long(text: str, longest: int) -> None:
    spans = passages(text, longest)
    assert all(0 < end - start <= longest for start, end in spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())


def test_a_query_of_a_hundred_thousand_characters_is_cut() -> None:
    assert query_words("x" * 100_000) == ["x" * LONGEST_QUERY]
    assert len(query_words(" ".join(map(str, range(30_000))))) < LONGEST_QUERY


@given(st.text(max_size=100))
def test_words_are_lower_case_and_never_empty(text: str) -> None:
    assert all(word and word == word.lower() for word in words(text.lower()))
