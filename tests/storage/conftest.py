"""Stores to test with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sparring.storage.samples import sample_step
from sparring.storage.store import Store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sparring.db"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    with Store(file) as opened:
        yield opened


@pytest.fixture
def filled(store: Store) -> Store:
    """A store whose run r1 holds steps 0, 1 and 2 with four episodes each."""
    store.start_run("sample", {"name": "sample"}, "digest", 0)
    for number in range(3):
        store.save_step("r1", sample_step(number, episodes=4))
    return store
