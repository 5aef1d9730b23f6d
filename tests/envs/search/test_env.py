"""The environment: its tools, bad calls, back ends by one key, tasks from a file, a role that plays the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sparring.envs.search.env import SearchEnvironment
from sparring.envs.search.index import Index
from sparring.scenarios.errors import ScenarioError

ROW = {"question": "What do whales eat in the sea?", "answer": ["krill", "plankton"], "document": "whale", "level": 3}


def world(index: Index, row: Mapping[str, Any] = ROW, **options: Any) -> SearchEnvironment:
    environment = SearchEnvironment({"path": str(index.path), **options})
    environment.reset(seed=0, options={"task": environment.task_from_row(row, "qa.jsonl, line 1")})
    return environment


@pytest.mark.parametrize("backend", ["bm25", "dense", "hybrid"])
def test_the_oracle_searches_and_answers_with_every_backend(index: Index, backend: str) -> None:
    environment = world(index, backend=backend)
    assert environment.stamp == f"search {backend}"
    assert environment.oracle() == "<search>What do whales eat in the sea?</search>"
    assert environment.step(environment.oracle() or "")[0].startswith("whale: Whales eat krill")
    assert environment.step(environment.oracle() or "")[1] == 1.0


def test_without_tool_calls_left_the_oracle_answers_at_once(index: Index) -> None:
    environment = world(index, max_calls=0)
    assert environment.oracle() == "<answer>krill</answer>"
    said, reward, over, _, _ = environment.step("<search>krill</search>")
    assert (reward, over) == (0.0, True) and "no answer after 0 tool calls" in said


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("<search> </search>", "the query is empty"),
        ('<tool_call>{"name": "search", "arguments": {"query": "x", "k": 0}}</tool_call>', "k must be from 1 to 20"),
        ('<tool_call>{"name": "search", "arguments": {"query": "x", "k": 99}}</tool_call>', "k must be from 1 to 20"),
        ('<tool_call>{"name": "search", "arguments": {"k": 1}}</tool_call>', "query"),
        ("<open>unicorn</open>", "no document 'unicorn'"),
        ("<search>zzz</search>", "no results"),
    ],
)
def test_a_call_that_cannot_be_answered_is_told_why_and_the_episode_goes_on(index: Index, call: str, said: str) -> None:
    environment = world(index)
    observation, reward, over, _, info = environment.step(call)
    assert said in observation and not over and reward == 0.0 and info["scores"] == []
    assert environment.step("<answer>krill</answer>")[1] == 1.0


@given(text=st.text(max_size=200))
def test_no_text_breaks_it(index: Index, text: str) -> None:
    environment = world(index)
    environment.step(f"<search>{text}</search>")
    environment.step(f"<open>{text}</open>")
    assert environment.step(text)[1] in (0.0, 1.0)


def test_a_query_of_a_hundred_thousand_characters_is_answered(index: Index) -> None:
    environment = world(index, max_calls=2)
    assert environment.step("<search>whale " + "x" * 50_000 + "</search>")[0].startswith("whale:")


def test_results_are_cut_to_the_options_and_documents_opened_whole(index: Index) -> None:
    environment = world(index, k=1, snippet=10, max_result=30)
    assert environment.step("<search>otter hands</search>")[0] == "otter: Otters hol"
    assert environment.step("<open> otter </open>")[0] == "Otter\nOtters hold hands while "


def test_other_fields_of_a_row_are_payload_and_the_answer_is_not(index: Index) -> None:
    environment = SearchEnvironment({"path": str(index.path)})
    task = environment.task_from_row(ROW, "here")
    assert dict(task.payload) == {"question": ROW["question"], "level": 3}
    assert task.secret["answers"] == ["krill", "plankton"]


@pytest.mark.parametrize("row", [{}, {"question": " "}, {"question": "x"}, {"question": "x", "nuggets": ["y"]}])
def test_a_row_that_is_no_question_is_named_with_its_line(index: Index, row: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match=r"qa\.jsonl, line 9"):
        SearchEnvironment({"path": str(index.path)}).task_from_row(row, "qa.jsonl, line 9")


def test_a_long_answer_is_marked_by_its_nuggets(index: Index) -> None:
    row = {"question": "Tell me about otters.", "nuggets": ["hold hands", {"text": "1000000 hairs", "points": 3}]}
    environment = world(index, row, scoring="nuggets")
    _, reward, _, _, info = environment.step("<answer>Otters hold hands.</answer>")
    assert reward == 0.25
    assert [row.share for row in info["scores"][0].criteria] == [1.0, 0.0]


@pytest.mark.parametrize(
    "options",
    [{"backend": "http"}, {"http": {"url": "http://x"}}, {"backend": "http", "http": {"url": "file:///etc/passwd"}},
     {"k": 0}, {"k": 21}, {"noise": 2}, {"backend": "google"}],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused_at_the_door(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SearchEnvironment(options)


def test_a_path_that_is_no_index_says_which_command_makes_one(tmp_path: Any) -> None:
    with pytest.raises(ScenarioError, match="sparring index build"):
        SearchEnvironment({"path": str(tmp_path)}).reset(seed=0)


def test_dense_needs_an_index_with_vectors(pydoc: Index) -> None:
    with pytest.raises(ScenarioError, match="--dense"):
        SearchEnvironment({"backend": "dense"}).reset(seed=0)


def play(environment: SearchEnvironment, engine: str = "Whales eat krill.") -> list[tuple[str | None, str]]:
    """Who reads what, when the solver searches once and answers."""
    heard = [(environment.addressee, str(environment.task.payload["question"] if environment.task else ""))]
    for action in ("<search>whale food</search>", engine, "<answer>krill</answer>"):
        said = environment.step(action)[0]
        heard.append((environment.addressee, said))
    return heard


def test_the_engines_words_are_what_the_searcher_reads(index: Index) -> None:
    heard = play(world(index, backend="simulated"))
    assert heard[1] == ("engine", "useful\nwhale food")
    assert heard[2] == ("solver", "Whales eat krill.")
    assert heard[3] == ("solver", "right")


def test_at_full_noise_every_search_asks_for_useless_documents(index: Index) -> None:
    assert play(world(index, backend="simulated", noise=1.0))[1] == ("engine", "noisy\nwhale food")
    assert play(world(index, {**ROW, "noise": 1.0}, backend="simulated"))[1][1].startswith("noisy")


def test_noise_is_drawn_from_the_episodes_own_generator(index: Index) -> None:
    environment = SearchEnvironment({"path": str(index.path), "backend": "simulated", "noise": 0.5, "max_calls": 40})
    task = environment.task_from_row(ROW, "here")

    def kinds(seed: int) -> list[str]:
        environment.reset(seed=seed, options={"task": task})
        found = []
        for _ in range(40):
            found.append(environment.step("<search>x</search>")[0].split("\n")[0])
            environment.step("documents")
        return found

    np.random.seed(0)  # somebody else's: it must not matter
    first = kinds(1)
    assert kinds(1) == first != kinds(2)
    assert 10 < first.count("noisy") < 30


def test_a_silent_engine_found_nothing_and_only_the_solver_is_scored(index: Index) -> None:
    environment = world(index, backend="simulated")
    environment.step("<search>x</search>")
    said, _, _, _, info = environment.step("  ")
    assert said == "no results" and info["scores"] == {"solver": []}
    scores = environment.step("<answer>krill</answer>")[4]["scores"]
    assert list(scores) == ["solver"] and scores["solver"][0].name == "verifier"


def test_a_branch_taken_while_the_engine_is_asked_goes_on_from_there(index: Index) -> None:
    environment = world(index, backend="simulated", noise=0.5)
    environment.step("<search>x</search>")
    kept = environment.snapshot()
    first = [environment.step("one")[0], environment.addressee]
    environment.restore(kept)
    assert environment.addressee == "engine"
    assert [environment.step("one")[0], environment.addressee] == first
