"""Pages to ask, over databases with and without runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from sparring.storage.inspector.app import app

HERE = "http://127.0.0.1"
Ask = Callable[..., TestClient]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """``ask(database)``: a reader of its pages."""
    opened: list[TestClient] = []

    def start(database: Path, base: str = HERE, **options: object) -> TestClient:
        made = app(database, **options)  # type: ignore[arg-type]  # the test's own words, as app takes them
        opened.append(TestClient(made, base_url=base, follow_redirects=False))
        return opened[-1]

    yield start
    for client in opened:
        client.app.state.opened.close()  # type: ignore[attr-defined]  # Starlette's state, behind the client
        client.close()


@pytest.fixture
def database(tmp_path: Path, whole: Path) -> Path:
    """A database whose run r1 is over and holds three steps of four episodes."""
    return Path(shutil.copy(whole, tmp_path / "sparring.db"))


@pytest.fixture
def reader(ask: Ask, database: Path) -> TestClient:
    """A reader of that database."""
    return ask(database)
