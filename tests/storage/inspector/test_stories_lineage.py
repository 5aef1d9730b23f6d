"""Lineage as a picture, and its layout."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from sparring.storage.inspector.picture import TALL, WIDE, Edge, Node, picture
from sparring.storage.samples import sample_step

PAGE = "/runs/r1/lineage"
STEP = sample_step(1, episodes=4)
NAMES = [f"layer {number}" for number in range(8)]


def _node(at: int, layer: int) -> Node:
    return Node(f"n{at}", layer, "task", f"n{at}", "", f"n{at}")


@settings(max_examples=60)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=30), st.data())
def test_no_two_boxes_lie_upon_each_other_and_all_lie_inside(layers: list[int], data: st.DataObject) -> None:
    nodes = [_node(at, layer) for at, layer in enumerate(layers)]
    ends = st.sampled_from([node.id for node in nodes])
    edges = [Edge(a, b) for a, b in data.draw(st.lists(st.tuples(ends, ends), max_size=40))]
    drawn = picture(nodes, edges, NAMES)
    for one, other in combinations(drawn.nodes, 2):
        assert abs(one.x - other.x) >= WIDE or abs(one.y - other.y) >= TALL
    for one in drawn.nodes:
        assert 0 <= one.x <= drawn.width - WIDE and 0 <= one.y <= drawn.height - TALL
    assert len(drawn.nodes) == len(nodes) and len(drawn.curves) == len(edges)


def test_columns_stand_in_the_order_of_influence_and_empty_ones_take_no_room() -> None:
    drawn = picture([_node(0, 6), _node(1, 1), _node(2, 3)], [Edge("n1", "n2"), Edge("n2", "n0")], NAMES)
    assert [name for _, name in drawn.columns] == ["layer 1", "layer 3", "layer 6"]
    x = {one.node.id: one.x for one in drawn.nodes}
    assert x["n1"] < x["n2"] < x["n0"]


def test_neighbours_in_a_straight_line_stand_beside_each_other() -> None:
    drawn = picture([_node(at, at) for at in range(4)], [Edge(f"n{at}", f"n{at + 1}") for at in range(3)], NAMES)
    assert len({one.y for one in drawn.nodes}) == 1


def _kinds(told: dict[str, Any]) -> list[str]:
    return [one["node"]["kind"] for one in told["picture"]["nodes"]]


def test_a_step_is_led_to_by_the_turns_that_pulled_it_hardest(reader: TestClient) -> None:
    told = reader.get(f"{PAGE}.json", params={"step": "1"}).json()
    hardest = sorted(STEP.advantages, key=lambda row: -abs(row.pull))[:5]
    pulls = [abs(one["pull"]) for one in told["outline"]]
    assert sorted(pulls, reverse=True) == pytest.approx([abs(row.pull) for row in hardest])
    assert told["more"] == len(STEP.advantages) - 5
    assert _kinds(told).count("advantage") == 5 and _kinds(told).count("step") == 1


def test_without_a_question_the_newest_step_is_in_the_middle(reader: TestClient) -> None:
    assert reader.get(f"{PAGE}.json").json()["centre"] == "step:r1/2"


def test_a_turn_leads_back_to_its_task_and_the_task_it_was_made_from(reader: TestClient) -> None:
    told = reader.get(f"{PAGE}.json", params={"episode": "1/0", "turn": "3"}).json()
    given_task, made = STEP.episodes[0].tasks
    (strand,) = told["outline"]
    assert [one["key"] for one in strand["tasks"]] == [made.key, given_task.key]
    assert told["centre"] == "turn:r1/1/0#3"
    assert {"criterion", "score", "advantage", "step"} <= set(_kinds(told))
    rubric = next(score for score in strand["scores"] if score["name"] == "rubric")
    assert [item["text"] for item in rubric["criteria"]] == [one.text for one in STEP.episodes[0].rubrics[2].criteria]


def test_a_task_is_shown_with_what_was_made_from_it(reader: TestClient) -> None:
    given_task, made = STEP.episodes[0].tasks
    parent = reader.get(f"{PAGE}.json", params={"task": given_task.key}).json()
    titles = {one["node"]["title"] for one in parent["picture"]["nodes"]}
    assert any(made.key[:8] in title for title in titles)
    child = reader.get(f"{PAGE}.json", params={"task": made.key[:12]}).json()
    tails = [one["node"]["id"] for one in child["picture"]["nodes"] if one["node"]["layer"] == 0]
    assert tails == [f"task:{given_task.key}"]


@pytest.mark.parametrize(
    "query", ["step=1", "episode=1/0", "episode=1/0&turn=3", f"task={STEP.episodes[0].tasks[0].key}"]
)
def test_every_box_leads_to_a_page_that_is_there(reader: TestClient, query: str) -> None:
    page = reader.get(f"{PAGE}?{query}")
    svg = re.search(r"<svg class=\"lineage-picture\".*?</svg>", page.text, re.DOTALL)
    assert svg is not None
    root = ElementTree.fromstring(svg[0])
    links = {link.get("href") or "" for link in root.iter("a")}
    assert links and all(reader.get(link).status_code == 200 for link in links)
    assert all(link.get("aria-label") for link in root.iter("a"))


@pytest.mark.parametrize("query", ["step=x", "step=99", "episode=1", "episode=9/9", "episode=1/0&turn=99", "task=zz"])
def test_what_is_not_there_is_said(reader: TestClient, query: str) -> None:
    assert reader.get(f"{PAGE}?{query}").status_code == 404


def test_a_run_without_a_step_has_an_empty_picture(ask: Any, tmp_path: Path) -> None:
    from sparring.storage.store import Store

    with Store(tmp_path / "e.db") as store:
        store.start_run("empty", {"name": "empty"}, "digest", 0)
    page = ask(tmp_path / "e.db").get(PAGE)
    assert page.status_code == 200 and "has no step yet" in page.text
