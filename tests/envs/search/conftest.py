"""A small corpus and its index; the standard library's documentation is built once, in a cache of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sparring.envs.search.documents import Corpus, Document
from sparring.envs.search.index import Index, build_index, open_index
from sparring.envs.search.pydoc import open_pydoc

TEXTS = {
    "whale": "Whales eat krill and sing in the deep sea. A blue whale weighs 150 tonnes.",
    "otter": "Otters hold hands while they sleep. An otter has 1000000 hairs on a square inch.",
    "heron": "Herons stand still for hours before they strike. A heron weighs 2 kilograms.",
    "badger": "Badgers dig setts that last for centuries. A sett may have 50 entrances.",
}


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Four animals."""
    return Corpus("animals", tuple(Document(name, name.title(), text) for name, text in TEXTS.items()))


@pytest.fixture(scope="session")
def index(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Their index, with vectors by spelling."""
    folder = tmp_path_factory.mktemp("indexes") / "animals"
    build_index(corpus, folder, dense="spelling")
    return open_index(folder)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def pydoc(_cache: None) -> Index:
    """The documentation of this Python."""
    return open_pydoc()


def folder_of(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path
