"""Power loss at any write: every step that was saved is there afterwards, whole, and weaker settings lose steps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparring.scenarios.errors import StoreError
from sparring.storage import database, queries
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

from .power import Disk

STEPS, CHANGES = 40, 60  # steps of a run; roughly how many writes and syncs one step makes


@dataclass(frozen=True)
class Loss:
    """What a disk held when the power went, and the newest step that had been saved by then (-1: none)."""

    folder: Path
    saved: int


def losses(root: Path, points: int, seed: int) -> Iterator[Loss]:
    """A run whose disk loses power ``points`` times, at random changes; half of them keep no unsynced sector."""
    rng, disk, saved, found = random.Random(seed), Disk(), -1, list[Loss]()

    def moment() -> None:
        if rng.random() < chance and len(found) < points:
            folder = root / f"loss-{len(found)}"
            folder.mkdir()
            disk.lose_power(folder, rng.choice((0.0, 0.5)), rng)
            found.append(Loss(folder, saved))

    chance = 1.1 * points / (STEPS * CHANGES)
    with disk.lend(), Store(root / "sparring.db") as store:
        store.start_run("sample", {}, "digest", 0)
        if not disk.changes:
            pytest.skip("this Python carries a SQLite of its own, whose file methods cannot be reached")
        disk.moment = moment  # type: ignore[method-assign]  # it is there to be replaced
        for number in range(10 * STEPS):
            if len(found) == points:
                break
            store.save_step("r1", sample_step(number % STEPS if number < STEPS else number, episodes=1))
            saved = number
    return iter(found)


def held(loss: Loss) -> tuple[int, list[str]]:
    """How many saved steps are gone after a loss, and what is wrong with what is left."""
    try:
        with Store(loss.folder / "sparring.db") as store:
            last, wrong = store.run("r1").last_step, queries.damaged(store, "r1")
            if queries.select_rows(store, "PRAGMA integrity_check").rows != (("ok",),):
                wrong.append("integrity")
            there = queries.select_rows(store, "SELECT count(*) FROM steps").rows[0][0]
            whole = there == (-1 if last is None else last) + 1
            return max(0, loss.saved - (-1 if last is None else last)), wrong + ([] if whole else ["a hole"])
    except StoreError as error:
        return loss.saved + 1, [str(error)]


def lose(root: Path, points: int, seed: int = 0) -> tuple[int, int, int]:
    """Of ``points`` losses: how many cost saved steps, how many steps those were, how many left something wrong."""
    found = [held(loss) for loss in losses(root, points, seed)]
    assert len(found) == points
    return sum(gone > 0 for gone, _ in found), sum(gone for gone, _ in found), sum(bool(wrong) for _, wrong in found)


def test_power_lost_at_twenty_moments_costs_no_saved_step(tmp_path: Path) -> None:
    assert lose(tmp_path, 20) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("pages", [1_000, 100])
def test_power_lost_at_two_hundred_moments_costs_no_saved_step(
    tmp_path: Path, pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As shipped, and with the log folded into the file ten times as often, so that more losses meet that."""
    monkeypatch.setitem(database.PRAGMAS, "wal_autocheckpoint", pages)
    assert lose(tmp_path, 200) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["NORMAL", "OFF"])
def test_weaker_settings_lose_steps_in_at_least_half_of_two_hundred_losses(
    tmp_path: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard taken away is ``synchronous=FULL``: without it the test above would fail."""
    monkeypatch.setitem(database.PRAGMAS, "synchronous", setting)
    assert lose(tmp_path, 200)[0] >= 100


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["NORMAL", "OFF"])
def test_weaker_settings_lose_steps(tmp_path: Path, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which shows that the losses above are losses."""
    monkeypatch.setitem(database.PRAGMAS, "synchronous", setting)
    assert lose(tmp_path, 20)[0] >= 10
