"""What the pages of a run show, and what they do with hostile words and numbers that are none."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sparring.storage.records import AlarmRow
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

HOSTILE = "</script><img src=x onerror=alert(1)> \u202eabc \x1b[31m {{ 7*7 }} \ud800"


@pytest.fixture
def running(tmp_path: Path) -> Store:
    """A store that writes run r1."""
    store = Store(tmp_path / "live.db")
    store.start_run("live", {"name": "live", "training": {"steps": 9}, "roles": {"solver": {}, "critic": {}}}, "d", 7)
    return store


def test_a_run_that_is_written_is_live_and_a_finished_one_is_not(ask: Any, running: Store, tmp_path: Path) -> None:
    reader = ask(tmp_path / "live.db")
    for step in range(2):
        running.save_step("r1", sample_step(step, episodes=2))
        page = reader.get("/runs/r1")
        assert "data-live" in page.text and reader.get("/runs/r1.json").json()["run"]["last_step"] == step
    running.finish_run("r1", "done")
    assert "data-live" not in reader.get("/runs/r1").text
    running.close()


def test_steps_that_a_resumed_run_writes_anew_are_read_anew(ask: Any, running: Store, tmp_path: Path) -> None:
    reader = ask(tmp_path / "live.db")
    for step in range(3):
        running.save_step("r1", sample_step(step, episodes=2))
    before = reader.get("/runs/r1/steps.json").json()
    running.resume_point("r1")
    last = running.run("r1").last_step
    again = 0 if last is None else last + 1
    running.save_step("r1", replace(sample_step(again, episodes=2), seconds=123.0))
    after = reader.get("/runs/r1/steps.json").json()
    running.close()
    assert [one["step"] for one in before["steps"]] == [2, 1, 0]
    assert after["steps"][0]["step"] == again and after["steps"][0]["seconds"] == 123.0


def test_numbers_that_are_none_are_null_and_leave_a_gap(ask: Any, running: Store, tmp_path: Path) -> None:
    values = (0.5, math.nan, math.inf, 0.25)
    for step, value in enumerate(values):
        metrics = {"entropy/solver": value, "train/grad_norm": math.nan}
        running.save_step("r1", replace(sample_step(step, episodes=2), metrics=metrics))
    running.close()
    reader = ask(tmp_path / "live.db")
    told = reader.get("/runs/r1.json")
    cards = {card["title"]: card for card in json.loads(told.text, parse_constant=pytest.fail)["curves"]}
    assert cards["Entropy"]["series"][0]["values"] == [0.5, None, None, 0.25]
    assert "Gradient norm" not in cards
    assert reader.get("/runs/r1").status_code == reader.get("/runs/r1/figures").status_code == 200


def test_what_a_model_says_is_shown_and_never_obeyed(ask: Any, running: Store, tmp_path: Path) -> None:
    record = sample_step(0, episodes=2)
    first = record.episodes[0]
    turns = tuple(replace(turn, said=HOSTILE) for turn in first.turns)
    hostile = replace(first, turns=turns, error=HOSTILE, parameters={HOSTILE: HOSTILE})
    running.save_step("r1", replace(record, episodes=(hostile, *record.episodes[1:])))
    running.close()
    reader = ask(tmp_path / "live.db")
    for path in ("/", "/runs/r1", "/runs/r1/episodes", "/search?q=onerror", "/search?q=onerror&where=tasks"):
        page = reader.get(path)
        assert page.status_code == 200
        assert "<img src=x" not in page.text and "\u202e" not in page.text and "\x1b" not in page.text
    found = reader.get("/search?q=onerror").text
    assert "&lt;img src=x" in found and "{{ 7*7 }}" in found and "\\u202e" in found and "\\ud800" in found


def test_alarms_stand_on_the_run_and_in_the_list(ask: Any, running: Store, tmp_path: Path) -> None:
    alarm = AlarmRow("entropy/solver", 0.01, 0.05, "hardly any choice is left")
    running.save_step("r1", replace(sample_step(0, episodes=2), alarms=(alarm,)))
    running.close()
    reader = ask(tmp_path / "live.db")
    assert "hardly any choice is left" in reader.get("/runs/r1").text
    assert reader.get("/runs.json").json()["runs"][0]["alarms"] == 1


def test_episodes_are_chosen_by_ending_and_put_in_order_by_reward(reader: TestClient) -> None:
    best = [one["reward"] for one in reader.get("/runs/r1/episodes.json?order=best").json()["episodes"]]
    worst = [one["reward"] for one in reader.get("/runs/r1/episodes.json?order=worst").json()["episodes"]]
    known = [one for one in best if one is not None]
    assert known == sorted(known, reverse=True) and len(best) == 12
    assert [one for one in worst if one is not None] == sorted(known)
    done = reader.get("/runs/r1/episodes.json?ending=done").json()["episodes"]
    assert done and {one["ending"] for one in done} == {"done"}
    assert reader.get("/runs/r1/episodes?order=sideways").status_code == 404


def test_lists_are_paged_without_losing_or_doubling_a_row(ask: Any, tmp_path: Path) -> None:
    with Store(tmp_path / "long.db") as store:
        store.start_run("long", {"name": "long"}, "d", 0)
        for step in range(120):
            store.save_step("r1", sample_step(step, episodes=1))
    reader = ask(tmp_path / "long.db")
    steps, before = [], ""
    while before is not None:
        page = reader.get(f"/runs/r1/steps.json?before={before}").json()
        steps += [one["step"] for one in page["steps"]]
        before = page["next"]
    assert steps == list(range(119, -1, -1))
    episodes, more = [], {"skip": 0}
    while more:
        page = reader.get("/runs/r1/episodes.json", params=more).json()
        assert reader.get("/runs/r1/episodes", params=more).status_code == 200
        episodes += [one["step"] for one in page["episodes"]]
        windows = {"before": page["before"]} if page["before"] is not None else {}
        more = more | {"skip": page["next"]} if page["next"] is not None else windows
    assert episodes == list(range(119, -1, -1))


def test_a_figure_can_be_looked_at_alone(reader: TestClient) -> None:
    listed = [one["name"] for one in reader.get("/runs/r1/figures.json").json()["figures"]]
    chosen = reader.get("/runs/r1/figures.json", params={"name": listed[0]}).json()["chosen"]
    assert chosen["title"] == listed[0] and chosen["x"] == [0, 1, 2]
    assert reader.get("/runs/r1/figures?name=nonsense").status_code == 404


def test_a_page_left_open_is_made_again_only_when_something_was_written(
    ask: Any, running: Store, tmp_path: Path
) -> None:
    reader = ask(tmp_path / "live.db")
    running.save_step("r1", sample_step(0, episodes=1))
    seen = []
    for change in (lambda: running.save_step("r1", sample_step(1, episodes=1)), lambda: running.close()):
        page = reader.get("/runs/r1").text
        tag = unescape(re.search(r'data-tag="([^"]*)"', page)[1])  # type: ignore[index]  # a live page has one
        unchanged = reader.get("/runs/r1", headers={"if-none-match": tag})
        assert (unchanged.status_code, unchanged.text) == (304, "")
        change()
        assert reader.get("/runs/r1", headers={"if-none-match": tag}).status_code == 200
        seen.append(tag)
    assert len(set(seen)) == 2
    assert reader.get("/runs/r1.json").json()["run"]["status"] == "killed"  # its writer went without ending it
