"""Search: what is found, how far it looked, and how it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sparring.storage.inspector.pages import search
from sparring.storage.samples import sample_step
from sparring.storage.store import Store


def spoken(step: int, words: str) -> Any:
    """A step whose every turn says the same."""
    record = sample_step(step, episodes=2)
    episodes = tuple(replace(e, turns=tuple(replace(turn, said=words) for turn in e.turns)) for e in record.episodes)
    return replace(record, episodes=episodes)


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    """Run r1 says one thing, run r2 another, in turn."""
    with Store(tmp_path / "two.db") as store:
        for name in ("one", "two"):
            store.start_run(name, {"name": name}, name, 0)
        for step in range(3):
            store.save_step("r1", spoken(step, f"Häuser cost 50% of a_b in step {step}"))
            store.save_step("r2", spoken(step, "nothing of the kind"))
    return tmp_path / "two.db"


def found(reader: TestClient, **query: Any) -> dict[str, Any]:
    answer = reader.get("/search.json", params=query)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["found"]
    return result


@pytest.mark.parametrize(("q", "hits"), [("50%", True), ("5%0", False), ("a_b", True), ("axb", False), ("COST", True)])
def test_signs_of_patterns_mean_themselves_and_case_does_not_matter(
    ask: Any, two_runs: Path, q: str, hits: bool
) -> None:
    rows = found(ask(two_runs), q=q)["rows"]
    assert bool(rows) == hits
    assert all(row["hit"].lower() == q.lower() and row["run"] == "r1" for row in rows)


def test_a_run_can_be_searched_alone(ask: Any, two_runs: Path) -> None:
    reader = ask(two_runs)
    assert {row["run"] for row in found(reader, q="o")["rows"]} == {"r1", "r2"}
    assert {row["run"] for row in found(reader, q="o", run="r2")["rows"]} == {"r2"}
    assert found(reader, q="50%", run="r2")["rows"] == []


@pytest.mark.parametrize("where", ["turns", "tasks", "criteria"])
def test_going_on_finds_every_row_once_and_says_how_far_it_looked(
    ask: Any, two_runs: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ask(two_runs)
    monkeypatch.setattr(search, "PER_PAGE", 1_000)
    whole = found(reader, q="a", where=where)
    monkeypatch.setattr(search, "AT_ONCE", 7)
    monkeypatch.setattr(search, "PER_PAGE", 3)
    rows: list[Any] = []
    looked, before = 0, dict[str, int]()
    while True:
        part = found(reader, q="a", where=where, **before)
        rows, looked = rows + part["rows"], looked + part["looked_at"]
        assert len(part["rows"]) <= 3 and part["looked_at"] <= 7
        if part["next"] is None:
            break
        before = {"before": part["next"]}
    assert whole["next"] is None and len(rows) > 6
    assert (looked, rows) == (whole["looked_at"], whole["rows"])


def test_results_lead_to_the_turn_that_said_it(ask: Any, two_runs: Path) -> None:
    reader = ask(two_runs)
    first = found(reader, q="50%")["rows"][0]
    address = f"/runs/r1/steps/{first['step']}/episodes/{first['episode']}"
    assert f'href="{address}#turn-{first["turn"]}"' in reader.get("/search?q=50%25").text
    assert f'id="turn-{first["turn"]}"' in reader.get(address).text


def test_a_question_that_means_nothing_is_answered(ask: Any, two_runs: Path) -> None:
    reader = ask(two_runs)
    for query in ({"q": ""}, {"q": "\x00\ud7ff"}, {"q": "x" * 5_000}, {"q": "a", "before": "-1"}, {"q": "escaped:"}):
        assert reader.get("/search", params=query).status_code == 200, query
    for query in ({"q": "a", "where": "secrets"}, {"q": "a", "run": "r9"}, {"q": "a", "run": "x"}):
        assert reader.get("/search", params=query).status_code == 404, query
