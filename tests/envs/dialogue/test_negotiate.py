"""Negotiation: offers that can be kept, deals by acceptance alone, and what a deal is worth to either party."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.envs.dialogue.env import DialogueEnvironment
from sparring.envs.dialogue.negotiate import Table, read_offer, say_offer
from sparring.envs.types import Task


@pytest.fixture
def goods() -> Task:
    """Two zib and two kol; the first party likes zib, the second kol."""
    values = {"first": [4, 1], "second": [1, 4]}
    return Task("dialogue", {"items": {"zib": 2, "kol": 2}}, {"values": values, "walk": {"first": 4, "second": 5}})


def bargain(sit: Any, goods: Task, *turns: str, **options: Any) -> Any:
    return sit(task=goods, mode="negotiate", partner="role", **options).say(*turns)


def earned(table: Any, name: str) -> dict[str, float]:
    return {seat: next(s.value for s in scores if s.name == name) for seat, scores in table.by_seat.items()}


def test_each_party_reads_its_own_worths_alone(sit: Any, goods: Task) -> None:
    table = bargain(sit, goods)
    assert table.heard == "2 zib, worth 4 each\n2 kol, worth 1 each\nno deal: 4"
    assert table.say("Hello").heard.startswith("2 zib, worth 1 each\n2 kol, worth 4 each\nno deal: 5\n")
    assert table.say("<offer>2 kol</offer> fair?").heard == "<offer>2 kol</offer> fair?"


def test_accepting_gives_the_rest_of_the_others_offer(sit: Any, goods: Task) -> None:
    table = bargain(sit, goods, "<offer>2 zib</offer>", "<accept>")
    assert table.over and earned(table, "value") == {"first": 0.8, "second": 0.8}
    assert earned(table, "pareto") == {"first": 1.0, "second": 1.0}


def test_a_deal_that_wastes_something_is_not_efficient(sit: Any, goods: Task) -> None:
    table = bargain(sit, goods, "<offer>2 kol</offer>", "<accept>")
    assert earned(table, "pareto") == {"first": 0.0, "second": 0.0}
    assert earned(table, "verifier")["first"] < 0  # worse than no deal


@pytest.mark.parametrize(
    "turns",
    [
        ["<walk>"],
        ["<accept>", "<walk>"],
        ["<offer>2 zib</offer>", "hm", "<walk>"],
        ["<offer>3 zib</offer>", "<accept>", "<walk>"],
    ],
)
def test_no_deal_leaves_the_walk_away_value(sit: Any, goods: Task, turns: list[str]) -> None:
    table = bargain(sit, goods, *turns)
    assert table.over and not table.truncated
    assert earned(table, "value") == {"first": 0.4, "second": 0.5} and set(earned(table, "verifier").values()) == {0.0}


def test_nobody_accepts_an_offer_of_its_own(sit: Any, goods: Task) -> None:
    assert not bargain(sit, goods, "<offer>2 zib</offer>", "hm", "<accept>").over


def test_time_is_up_after_max_turns_of_each(sit: Any, goods: Task) -> None:
    table = bargain(sit, goods, "a", "b", "c", max_turns=2)
    assert not table.over and table.say("d").truncated and earned(table, "value")["first"] == 0.4


def test_turns_before_the_last_count_nothing_and_the_last_counts_once(sit: Any, goods: Task) -> None:
    table = bargain(sit, goods, "<offer>2 zib</offer>")
    seen: dict[str, list[float]] = {"first": [], "second": []}
    for turn in ("<offer>2 kol, 1 zib</offer>", "<offer>2 zib</offer>", "<accept>"):
        table.say(turn)
        for seat, scores in table.by_seat.items():
            seen[seat] += [score.value for score in scores if score.name == "value"]
    assert seen == {"first": [0.0, 0.8], "second": [0.0, 0.8]}


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("<offer>2 zib, 1 kol</offer>", (2, 1)),
        ("<offer>1 ZIB</offer>", (1, 0)),
        ("<offer>1 zib 1 zib</offer>", (2, 0)),
        ("<offer>3 zib</offer>", None),
        ("<offer>1 gold</offer>", None),
        ("<offer></offer>", None),
        ("<offer>2 zib", None),
        ("2 zib", None),
    ],
)
def test_an_offer_names_what_there_is(goods: Task, said: str, read: Any) -> None:
    assert read_offer(said, goods) == read


@settings(max_examples=30)
@given(seed=st.integers(0, 200), items=st.integers(2, 4))
def test_every_generated_task_has_a_deal_that_is_good_for_both(seed: int, items: int) -> None:
    task = DialogueEnvironment({"mode": "negotiate"}).sample({"items": items}, np.random.default_rng(seed))
    table = Table(tuple(task.payload["items"].values()), task.secret["values"], task.secret["walk"])
    assert {table.value(seat, table.counts) for seat in ("first", "second")} == {10}
    good = [
        share for share in table.shares
        if table.value("first", share) >= table.walk["first"]
        and table.value("second", table.rest(share)) >= table.walk["second"]
    ]  # fmt: skip
    assert good and all(read_offer(say_offer(share, task), task) == share for share in table.shares if any(share))


@settings(max_examples=30)
@given(seed=st.integers(0, 200), turns=st.integers(1, 6))
def test_a_scripted_party_never_goes_below_its_walk_away_value(seed: int, turns: int) -> None:
    environment = DialogueEnvironment({"mode": "negotiate", "max_turns": turns})
    environment.reset(seed=seed)
    assert environment.task is not None
    items = environment.task.payload["items"]
    greedy = "<offer>" + ", ".join(f"{count} {name}" for name, count in items.items()) + "</offer>"
    for _ in range(turns):
        said, _, over, truncated, _ = environment.step(greedy)
    assert truncated and not over and said == "no deal"
