"""The standard library's documentation as a corpus: equal every time, nothing opened, built once."""

from __future__ import annotations

import sys

from sparring.envs.search.index import Index
from sparring.envs.search.pydoc import open_corpus, open_pydoc, pydoc_folder, read_pydoc

LOUD = {"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "test", "lib2to3", "ensurepip"}


def test_it_is_the_same_corpus_every_time_and_holds_what_python_documents(pydoc: Index) -> None:
    again = read_pydoc()
    assert [pydoc.at(place) for place in range(len(pydoc))] == list(again.documents)
    names = {document.id for document in again.documents}
    assert {"json.dumps", "str.split", "collections.OrderedDict.move_to_end", "shutil"} <= names
    assert len(names) == len(again.documents) > 3000
    assert not any(" at 0x" in one.text or sys.prefix in one.text for one in again.documents)


def test_no_module_that_does_something_when_imported_is_read_and_none_is_imported_here() -> None:
    before = set(sys.modules)
    corpus = read_pydoc()
    assert not {document.id.partition(".")[0] for document in corpus.documents} & LOUD
    assert not {name for name in set(sys.modules) - before if name.startswith(("xmlrpc", "mailbox"))}


def test_it_is_built_once_and_then_opened(pydoc: Index) -> None:
    written = (pydoc_folder() / "manifest.json").stat().st_mtime_ns
    assert open_pydoc() is pydoc is open_corpus(None)
    assert (pydoc_folder() / "manifest.json").stat().st_mtime_ns == written
    assert pydoc.search("Serialize obj to a JSON formatted str", 1)[0].id in ("json.dumps", "json.JSONEncoder.encode")
