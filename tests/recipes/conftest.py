"""What tests of recipes share: a few small steps of one, played in a database of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from sparring.scenarios.load import load
from sparring.storage.store import Store
from sparring.training.loop import learn
from sparring.training.session import Session, start

Play = Callable[[Path, Sequence[str]], Session]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """``play(recipe, overrides)``: the whole run, its session still open."""
    sessions: list[Session] = []

    def played(recipe: Path, overrides: Sequence[str]) -> Session:
        store = Store(tmp_path_factory.mktemp(recipe.stem) / "sparring.db")
        sessions.append(start(load(recipe, overrides), store))
        asyncio.run(learn(sessions[-1]))
        return sessions[-1]

    yield played
    for session in sessions:
        session.close()
