"""A step's page: what pulled, what was compared, what was decided."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from sparring.storage.inspector.pulled import changed
from sparring.storage.samples import sample_step

STEP = sample_step(1, episodes=4)


@pytest.fixture
def told(reader: TestClient) -> dict[str, Any]:
    """The twin of the page of step 1."""
    found: dict[str, Any] = reader.get("/runs/r1/steps/1.json").json()
    return found


def _solver(told: dict[str, Any]) -> dict[str, Any]:
    return next(role for role in told["why"] if role["role"] == "solver")


def test_episodes_are_ordered_by_how_hard_they_pulled(told: dict[str, Any]) -> None:
    pulls: dict[int, float] = {}
    for row in STEP.advantages:
        pulls[row.episode] = pulls.get(row.episode, 0.0) + abs(row.pull)
    expected = sorted(pulls, key=lambda number: -pulls[number])
    assert [one["episode"] for one in told["episodes"]] == [f"r1/1/{number}" for number in expected]
    assert [one["pull"] for one in told["episodes"]] == pytest.approx([pulls[number] for number in expected])
    assert told["counts"]["pull"] == pytest.approx(sum(pulls.values()))


def test_the_hardest_turns_of_each_role_come_with_their_criteria(told: dict[str, Any]) -> None:
    shares = [role["share"] for role in told["why"]]
    assert shares == sorted(shares, reverse=True)
    assert {role["role"]: len(role["turns"]) for role in told["why"]} == {"critic": 3, "solver": 3, "teacher": 3}
    assert sum(role["share"] for role in told["why"]) == pytest.approx(1.0)
    rubric = next(score for score in _solver(told)["turns"][0]["scores"] if score["name"] == "rubric")
    assert {item["written_by"] for item in rubric["criteria"]} == {"rubric_writer"}


def test_more_turns_of_each_role_may_be_asked_for(reader: TestClient) -> None:
    more = reader.get("/runs/r1/steps/1.json", params={"turns": "12"}).json()
    assert sorted(len(role["turns"]) for role in more["why"]) == [4, 12, 12]
    most = reader.get("/runs/r1/steps/1.json", params={"turns": "999999"}).json()
    assert sorted(len(role["turns"]) for role in most["why"]) == [4, 21, 21]


def test_groups_tell_what_was_compared_and_what_was_kept(told: dict[str, Any]) -> None:
    assert told["counts"]["groups"] == len(STEP.groups) == told["counts"]["groups_kept"]
    first, saved = told["groups"][1], STEP.groups[1]
    assert (first["role"], first["scope"], first["size"], first["mean"]) == (saved.role, saved.scope, saved.size, 0.5)
    assert first["turns"] == sum(row.group == 1 for row in STEP.advantages)


def test_a_criterion_is_told_with_what_it_gave_to_turns_made_likelier(told: dict[str, Any]) -> None:
    rows = [row for row in STEP.advantages if row.role != "teacher"]
    shares: dict[bool, list[float]] = {True: [], False: []}
    for row in rows:
        rubric = STEP.episodes[row.episode].score(row.turn, "rubric")
        assert rubric is not None
        if row.pull:
            shares[row.pull > 0].append(rubric.criteria[0].share or 0.0)
    told_of = next(one for one in told["criteria"] if one["text"] == "says 12")
    assert (told_of["turns"], told_of["written_by"]) == (len(rows), "rubric_writer")
    assert told_of["up"] == pytest.approx(sum(shares[True]) / len(shares[True]))
    assert told_of["down"] == pytest.approx(sum(shares[False]) / len(shares[False]))


def test_curriculum_decisions_and_what_they_taught_are_told(told: dict[str, Any]) -> None:
    assert [one["arm"] for one in told["picks"]] == [pick.arm for pick in STEP.picks]
    assert sum(one["episodes"] for one in told["picks"]) == len(STEP.episodes)
    assert sum(one["refused"] for one in told["picks"]) == 1
    after = {one["path"]: one["after"] for one in told["changes"]}
    assert after["values.0"] == STEP.curriculum_state["values"][0] and after["step"] == 1


@given(st.dictionaries(st.text(max_size=3), st.integers()), st.dictionaries(st.text(max_size=3), st.integers()))
def test_changes_are_exactly_the_leaves_that_differ(before: dict[str, int], after: dict[str, int]) -> None:
    found, more = changed(before, after, 1_000)
    assert more == 0
    keys = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert {one["path"] for one in found} == keys
    assert len(changed(before, after, 1)[0]) == min(1, len(keys))


def test_held_out_figures_stand_beside_what_was_measured_before(reader: TestClient) -> None:
    first = reader.get("/runs/r1/steps/0.json").json()
    assert [(one["name"], one["before"]) for one in first["evaluations"]] == [("accuracy", None)]


def test_a_step_leads_on_and_an_absent_one_to_those_near_it(reader: TestClient) -> None:
    told = reader.get("/runs/r1/steps/1.json").json()
    assert (told["before"], told["after"]) == ("/runs/r1/steps/0", "/runs/r1/steps/2")
    page = reader.get("/runs/r1/steps/9")
    assert page.status_code == 404 and "its last is 2" in page.text and 'href="/runs/r1/steps/2"' in page.text
    assert reader.get("/runs/r1/steps/-1").status_code == 404
    assert reader.get("/runs/r1/steps/99999999999999999999").status_code == 404
