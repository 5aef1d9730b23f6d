"""Stores to test with."""

import shutil
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


def _sample(file: Path) -> Path:
    """A database whose run r1 holds steps 0, 1 and 2 with four episodes each."""
    with Store(file) as store:
        store.start_run("sample", {"name": "sample", "training": {"steps": 2}}, "digest", 0)
        for number in range(3):
            store.save_step("r1", sample_step(number, episodes=4))
    return file


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That database, its run not at its end: to be copied."""
    return _sample(tmp_path_factory.mktemp("begun") / "sparring.db")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, begun: Path) -> Path:
    """That database, its run done: to be copied."""
    file = Path(shutil.copy(begun, tmp_path_factory.mktemp("whole") / "sparring.db"))
    with Store(file) as store:
        store.finish_run("r1", "done")
    return file


@pytest.fixture
def filled(file: Path, begun: Path) -> Iterator[Store]:
    """A store whose run r1 is being written and holds steps 0, 1 and 2 with four episodes each."""
    shutil.copy(begun, file)
    with Store(file) as opened:
        opened.finish_run("r1", "running")
        yield opened
