"""An episode's page: the tree, the shading, the quotes, hostile words."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from sparring.envs.types import Episode, Segment, Turn
from sparring.storage import queries
from sparring.storage.inspector.pages import episodes
from sparring.storage.inspector.pages.episodes import BUDGET, episode_page
from sparring.storage.inspector.passages import Quoted, by_advantage, quoted, tokenwise, whole
from sparring.storage.inspector.registry import NotThere, plain
from sparring.storage.inspector.spelling import spelt
from sparring.storage.inspector.threads import Thread, threads, way
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

PAGE = "/runs/r1/steps/1/episodes/0"


def _byte(ids: Any, _skip: bool) -> str:
    return bytes(ids).decode("utf-8", "replace")


def _every(thread: Thread) -> list[int]:
    below = [turn for fork in thread.forks for branch in fork.branches for turn in _every(branch.thread)]
    return [*thread.turns, *below]


def _chain(parents: list[int | None]) -> list[Turn]:
    return [Turn(at, parent, "n", "solver", f"turn {at}") for at, parent in enumerate(parents)]


@given(st.lists(st.integers(0, 50), max_size=40))
def test_every_turn_of_a_tree_stands_in_exactly_one_thread(choices: list[int]) -> None:
    parents: list[int | None] = [None, *(choice % at for at, choice in enumerate(choices, 1))]
    tree = threads(_chain(parents), ())
    assert sorted(_every(tree)) == list(range(len(parents)))


def test_a_conversation_of_ten_thousand_turns_is_one_thread() -> None:
    tree = threads(_chain([None, *range(9_999)]), ())
    assert tree.turns == tuple(range(10_000)) and tree.forks == ()


def test_only_the_branches_on_the_way_to_the_turn_in_focus_are_open(filled: Store) -> None:
    episode = queries.episode(filled, "r1", "r1/1/0")
    last = episode.turns[-1].index
    tree = threads(episode.turns, way(episode.turns, last))
    (attempts,) = [fork for fork in tree.forks if fork.node == "solve"]
    assert [branch.open for branch in attempts.branches] == [False] * 6 + [True]
    assert [branch.size for branch in attempts.branches] == [2] * 7


@given(st.text(max_size=60), st.data())
def test_pieces_of_a_quoted_turn_give_back_what_was_said(said: str, data: st.DataObject) -> None:
    edges = st.integers(0, len(said))
    quotes = [said[min(a, b) : max(a, b)] for a, b in data.draw(st.lists(st.tuples(edges, edges), max_size=4))]
    places = quoted(said, quotes)
    texts = spelt(said, said.encode(), _byte)
    assert texts is not None
    count = len(said.encode())
    for passages in (
        whole(said, places, "", None),
        tokenwise(texts, said.encode(), [0.0] * count, None, places, [""] * count),
    ):
        assert "".join(piece.text for one in passages for piece in one.pieces) == said
        for number, place in enumerate(places):
            marked = "".join(piece.text for one in passages if number in one.quotes for piece in one.pieces)
            assert place is None or marked == said[place.start : place.end]


def test_the_passage_a_verdict_quotes_is_marked_and_ends_with_its_number() -> None:
    passages = whole("the answer is 12 indeed", [Quoted(4, 16), None, Quoted(14, 16)], "", None)
    marked = [("".join(p.text for p in one.pieces), one.quotes, one.ends) for one in passages if one.anchor is not None]
    assert marked == [("answer is ", (0,), ()), ("12", (0, 2), (0, 2))]


def test_tokens_that_do_not_spell_what_was_said_are_not_taken_for_it() -> None:
    assert spelt("twelve", b"thirteen", _byte) is None
    ended = spelt("12", b"12\n", _byte)
    assert ended is not None and (ended.texts, ended.start, ended.end) == (("1", "2", "\n"), 0, 2)
    half = spelt("é", "é".encode(), _byte)
    assert half is not None and half.texts == ("", "é")


def test_a_stronger_advantage_is_never_shaded_weaker() -> None:
    shades = [by_advantage(value / 20, 1.0) for value in range(1, 21)]
    assert shades == sorted(shades) and {shades[0], shades[-1]} == {"up-1", "up-4"}


def test_an_episode_page_tells_scores_validity_and_credit_of_every_turn(filled: Store) -> None:
    model = plain(episode_page(filled, "r1", 1, 0))
    stored = queries.episode(filled, "r1", "r1/1/0")
    assert [turn["said"] for turn in model["turns"]] == [turn.said for turn in stored.turns]
    for turn in model["turns"]:
        told = [(score["name"], score["value"], score["validity"], score["by"]) for score in turn["scores"]]
        given_scores = stored.scores.get(turn["index"], ())
        assert told == [(one.name, one.value, str(one.validity), one.by) for one in given_scores]
    moved = {turn["index"]: turn["credits"][0]["advantage"] for turn in model["turns"] if turn["credits"]}
    saved = {row.turn: row.value for row in sample_step(1, episodes=4).advantages if row.episode == 0}
    assert moved == saved


def test_a_context_that_was_read_before_is_named_not_told_again(filled: Store) -> None:
    turns = plain(episode_page(filled, "r1", 1, 0))["turns"]
    solvers = [turn for turn in turns if turn["node"] == "solve"]
    assert {turn["context"]["same_as"] for turn in solvers} == {2}


def test_turns_past_the_budget_are_shaded_whole_until_they_are_asked_for(store: Store) -> None:
    words = "x" * (BUDGET // 2)
    _save(store, [words, words, words])
    assert [turn["spelt"] for turn in episode_page(store, "r1", 0, 0, turn=2)["turns"]] == [None] * 3  # no tokenizer
    turns = queries.episode(store, "r1", "r1/0/0").turns
    assert episodes._within_budget(turns, None) == {0, 1}
    assert episodes._within_budget(turns, 2) == {2, 0}


def _save(store: Store, words: list[str]) -> None:
    """Run r1 with one episode in which a role says these words, one sample each."""
    step = sample_step(0, episodes=2)
    first = step.episodes[0]
    turns = tuple(
        Turn(
            at, None, "solve", "solver", said, at, None, Segment(said, (1,)), None,
            tuple(said.encode("utf-8", "surrogatepass")), (-1.0,) * len(said.encode("utf-8", "surrogatepass")),
        )
        for at, said in enumerate(words)
    )  # fmt: skip
    bare = Episode(0, first.pick, {}, turns, (), {}, {}, {}, first.ending)
    store.start_run("hostile", {"name": "hostile"}, "digest", 0)
    store.save_step("r1", replace(step, episodes=(bare,), groups=(), advantages=()))


HOSTILE = [
    "</div><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }} {% raw %}",
    "nul \x00 escape \x1b[2J turned \u202eback",
    "lone \ud800 surrogate",
    "\r\nSet-Cookie: a=b",
]


def test_hostile_words_stay_words(ask: Any, tmp_path: Path) -> None:
    with Store(tmp_path / "h.db") as store:
        _save(store, HOSTILE)
    page = ask(tmp_path / "h.db").get("/runs/r1/steps/0/episodes/0")
    assert page.status_code == 200
    body = page.text.split("<main")[1]
    assert "<script" not in body and "<img" not in body and "\x1b" not in body and "\u202e" not in body
    assert "&lt;script&gt;alert(1)" in body and "{{ 7*7 }}" in body and "\\ud800" in body


@pytest.mark.parametrize("shade", ["advantage", "logprob", "none", "nonsense"])
def test_every_shading_renders(reader: TestClient, shade: str) -> None:
    page = reader.get(PAGE, params={"shade": shade, "turn": "3"})
    assert page.status_code == 200
    assert 'id="turn-16"' in page.text
    assert 'aria-current="true">' in page.text


def test_an_absent_episode_is_named(filled: Store) -> None:
    with pytest.raises(NotThere, match="step 1 of r1 has no episode 9; it played 4"):
        episode_page(filled, "r1", 1, 9)


def test_a_page_about_an_absent_episode_leads_to_those_that_are_there(reader: TestClient) -> None:
    assert PAGE in reader.get("/runs/r1/steps/1/episodes/9").text
    assert reader.get("/runs/r1/steps/77/episodes/0.json").status_code == 404


def test_an_episode_whose_tokens_were_dropped_keeps_its_words_and_counts(database: Path, ask: Any) -> None:
    before = ask(database).get(PAGE + ".json").json()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE turns SET token_ids = NULL, logprobs = NULL")
        connection.execute("UPDATE segments SET token_ids = NULL")
        connection.execute("UPDATE episodes SET thinned = '2026-01-02T03:04:05Z'")
    connection.close()
    page, after = ask(database).get(PAGE), ask(database).get(PAGE + ".json").json()
    assert page.status_code == 200 and "dropped on 2026-01-02T03:04:05Z" in page.text
    assert after["tokens"] == before["tokens"] > 0
    assert [turn["said"] for turn in after["turns"]] == [turn["said"] for turn in before["turns"]]


def test_a_tool_call_and_its_answer_are_folded(tmp_path: Path) -> None:
    call, answer = "I look. <search>the capital</search>", "Paris is the capital. " * 20
    turns = (
        Turn(0, None, "act", "solver", call, 0, None, Segment("q", (1,)), None, (1,), (-1.0,)),
        Turn(1, 0, "step", "environment", answer),
        Turn(2, 1, "act", "solver", "<answer>Paris</answer>", 0, 0, Segment("a", (2,)), None, (1,), (-1.0,)),
    )
    step = sample_step(0, episodes=2)
    bare = Episode(0, step.episodes[0].pick, {}, turns, (), {}, {}, {}, step.episodes[0].ending)
    with Store(tmp_path / "t.db") as store:
        store.start_run("tools", {"name": "tools"}, "digest", 0)
        store.save_step("r1", replace(step, episodes=(bare,), groups=(), advantages=()))
        told = plain(episode_page(store, "r1", 0, 0))["turns"]
    assert told[0]["call"] == {"name": "search", "words": "the capital"}
    assert told[1]["long"] and told[2]["call"] is None


def test_of_an_episode_of_thousands_of_turns_the_way_to_the_one_in_focus_is_told(store: Store) -> None:
    _save(store, [f"turn {at}" for at in range(3_000)])
    told = episode_page(store, "r1", 0, 0, turn=2_500)["turns"]
    whole_ones = [turn["index"] for turn in told if not turn["brief"]]
    assert len(told) == 3_000 and len(whole_ones) == 400 and {2_500, 2_501, 2_898} <= set(whole_ones)


def test_lines_stand_for_the_turns_that_are_not_told(ask: Any, tmp_path: Path) -> None:
    with Store(tmp_path / "l.db") as store:
        _save(store, [f"turn {at}" for at in range(450)])
    page = ask(tmp_path / "l.db").get("/runs/r1/steps/0/episodes/0")
    assert page.status_code == 200
    assert page.text.count('class="brief ') == 50 and page.text.count("<article") == 400
