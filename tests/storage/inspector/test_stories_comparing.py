"""Runs side by side, and two episodes up to where they part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sparring.storage.records import EvaluationRow
from sparring.storage.samples import sample_step
from sparring.storage.store import Store


def _run(store: Store, seed: int, accuracy: Mapping[int, float], lr: float) -> None:
    scenario = {"name": "sample", "seed": seed, "training": {"lr": lr}}
    run = store.start_run("sample", scenario, f"digest {seed} {lr}", seed).id
    for number, value in accuracy.items():
        step = replace(
            sample_step(number, episodes=2, seed=seed), evaluations=(EvaluationRow(number, "accuracy", value, 9),)
        )
        store.save_step(run, step)
    store.finish_run(run, "done")


@pytest.fixture
def pair(ask: Any, tmp_path: Path) -> TestClient:
    """Two seeds at one learning rate (r1, r2) and two at another (r3, r4)."""
    with Store(tmp_path / "c.db") as store:
        for seed, lr, last in ((1, 0.1, 0.5), (2, 0.1, 0.6), (1, 0.2, 0.7), (2, 0.2, 0.9)):
            _run(store, seed, {0: 0.1, 1: last}, lr)
    reader: TestClient = ask(tmp_path / "c.db")
    return reader


def test_runs_that_differ_by_seed_only_are_one_side_with_a_band(pair: TestClient) -> None:
    told = pair.get("/compare.json", params={"runs": "r1,r2,r3,r4"}).json()
    assert [side["runs"] for side in told["sides"]] == [["r1", "r2"], ["r3", "r4"]]
    last = [serie["values"][-1] for serie in told["curve"]["series"]]
    assert last == pytest.approx([0.55, 0.8])
    assert all(serie["low"][-1] < serie["values"][-1] < serie["high"][-1] for serie in told["curve"]["series"])
    assert told["finals"][0]["differences"] == pytest.approx([0.25])
    assert told["contrasts"][0]["how"] == "paired by seed"


def test_scenarios_are_told_key_by_key(pair: TestClient) -> None:
    told = pair.get("/compare.json", params={"runs": "r1,r3"}).json()
    assert told["keys"] == [{"key": "training.lr", "values": ["0.1", "0.2"]}]
    assert "0.1" in pair.get("/compare", params={"runs": "r1,r3"}).text


def test_curves_of_training_are_means_over_the_runs_of_a_side(pair: TestClient) -> None:
    told = pair.get("/compare.json", params={"runs": "r1,r2"}).json()
    reward = next(one for one in told["curves"] if one["title"] == "Reward")
    assert reward["series"][0]["values"] == [0.5, 0.5]  # what the sample's groups have
    assert len(told["sides"]) == 1 and told["contrasts"] == []


@pytest.mark.parametrize(
    "query", [{}, {"runs": "r1"}, {"runs": "r1,r1,,"}, {"runs": "r2,r4,r1,r3", "metric": "accuracy"}]
)
def test_any_number_of_runs_makes_a_page(pair: TestClient, query: dict[str, str]) -> None:
    assert pair.get("/compare", params=query).status_code == 200


@pytest.mark.parametrize("query", [{"runs": "r9"}, {"runs": "x"}, {"runs": "r1", "metric": "nothing"}])
def test_an_unknown_run_or_figure_leads_to_those_there_are(pair: TestClient, query: dict[str, str]) -> None:
    page = pair.get("/compare", params=query)
    assert page.status_code == 404 and "/compare?runs=r1" in page.text


def test_two_episodes_are_told_up_to_where_they_part(pair: TestClient) -> None:
    told = pair.get("/diff.json", params={"a": "r1/0/0", "b": "r2/0/0"}).json()
    (parting, *_), sides = told["partings"], told["partings"][0]["sides"]
    assert (told["found"]["same_turns"], parting["author"]) == (0, "teacher")
    assert sides[0]["same"] == sides[1]["same"] and sides[0]["other"] != sides[1]["other"]


def test_an_episode_beside_itself_does_not_part(pair: TestClient) -> None:
    page = pair.get("/diff", params={"a": "r1/0/0", "b": "r1/0/0"})
    assert "17 turns are the same; nothing read, said or done differs" in " ".join(page.text.split())


def test_the_same_episode_of_equal_runs_is_the_same(pair: TestClient) -> None:
    told = pair.get("/diff.json", params={"a": "r1/0/0", "b": "r3/0/0"}).json()
    assert told["found"] == {"same_turns": 17, "partings": 0, "scored": 0}


@pytest.mark.parametrize("other", ["x", "r1", "r1/0", "r1/0/99", "r1/99/0", "r99/0/0", "r1/0/0/0"])
def test_an_episode_that_is_not_there_is_said(pair: TestClient, other: str) -> None:
    assert pair.get("/diff", params={"a": "r1/0/0", "b": other}).status_code == 404
    assert pair.get("/diff", params={"a": "r1/0/0"}).status_code == 200
