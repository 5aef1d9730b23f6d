"""Tool environments: what counts as a call, what a call's failure does, how an episode ends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.toolbox import Call, ToolEnvironment, read_call
from sparring.envs.tools import ToolRefused, tool
from sparring.envs.types import Score, Task


@tool
def search(query: str, k: int = 3) -> str:
    """Find documents."""
    return f"{k} for {query}"


@tool
def open_page(number: int) -> str:
    """Open a page."""
    if number > 9:
        raise OSError("no such page")
    return f"page {number}"


@tool
async def wait(text: str) -> str:
    """Say it later."""
    return text * 3000


TOOLS = (search, open_page, wait)


class Library(ToolEnvironment):
    """The answer is 42."""

    tools = TOOLS

    def sample(self, parameters: Mapping[str, Any], rng: Any) -> Task:
        return Task("library", {"question": int(rng.integers(1000))}, {"reference": "42"})

    def begin(self, task: Task) -> str:
        return "what?"

    def judge(self, answer: str) -> Sequence[Score]:
        return [Score.valued("verifier", float(answer == "42"), "library")]


@pytest.fixture
def library() -> Library:
    environment = Library({"max_calls": 2})
    environment.reset(seed=1)
    return environment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<search>red fox</search>", Call("search", {"query": "red fox"})),
        ("<open_page> 7 </open_page>", Call("open_page", {"number": 7})),
        ("first <search>a</search> then <search>b</search>", Call("search", {"query": "b"})),
        ("<search>a</search><answer> 1 </answer>", Call("answer", {}, "1")),
        ('<tool_call>{"name": "search", "arguments": {"query": "x", "k": 1}}</tool_call>',
         Call("search", {"query": "x", "k": 1})),
        ("nothing <think>at all</think>", None),
    ],
)  # fmt: skip
def test_the_last_thing_said_counts(text: str, expected: Call | None) -> None:
    assert read_call(text, TOOLS) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<search>a", "not closed"),
        ("<open_page>seven</open_page>", "must be a number"),
        ("<tool_call>{</tool_call>", "not JSON"),
        ("<tool_call>[1]</tool_call>", "a tool call is"),
        ('<tool_call>{"name": "fly"}</tool_call>', "no tool 'fly'; there are: search, open_page, wait"),
        ('<tool_call>{"name": "search", "arguments": [1]}</tool_call>', "must be an object"),
        ("<tool_call>" + "[" * 5000 + "</tool_call>", "not JSON"),
    ],
)
def test_a_call_that_cannot_be_read_says_why(text: str, words: str) -> None:
    found = read_call(text, TOOLS)
    assert isinstance(found, ToolRefused) and words in str(found)


@given(st.text() | st.text(alphabet="<>/answerschtol_ {}\"':,"))
def test_reading_never_raises(text: str) -> None:
    assert isinstance(read_call(text, TOOLS), Call | ToolRefused | None)


@given(st.text(max_size=40), st.integers())
def test_a_json_call_comes_back_as_it_was_written(query: str, k: int) -> None:
    said = json.dumps({"name": "search", "arguments": {"query": query, "k": k}}).replace("</", "<\\/")
    assert read_call(f"<tool_call>{said}</tool_call>", TOOLS) == Call("search", {"query": query, "k": k})


def test_results_are_shown_and_the_answer_ends_the_episode(library: Library) -> None:
    assert library.step("<search>fox</search>")[:4] == ("3 for fox", 0.0, False, False)
    _, reward, over, _, info = library.step("<answer>42</answer>")
    assert (reward, over, info["scores"][0].value) == (1.0, True, 1.0)


def test_a_call_too_many_ends_the_episode_with_nothing(library: Library) -> None:
    for _ in range(2):
        assert not library.step("<search>fox</search>")[2]
    said, _, over, _, info = library.step("<search>fox</search>")
    assert over and info["scores"][0].value == 0.0 and "no answer after 2 tool calls" in said


def test_a_tool_that_fails_is_told_to_the_model_and_counted(library: Library) -> None:
    said, _, over, _, _ = library.step("<open_page>10</open_page>")
    assert (said, over, library.failed) == ("open_page failed: OSError: no such page", False, 1)


def test_wrong_arguments_are_told_and_are_not_the_tools_failure(library: Library) -> None:
    said = library.step('<tool_call>{"name": "search", "arguments": {"qury": "x"}}</tool_call>')[0]
    assert "did you mean query" in said and library.failed == 0


def test_a_long_result_of_an_async_tool_is_cut(library: Library) -> None:
    assert library.step("<wait>ab</wait>")[0] == ("ab" * 3000)[:2000]


def test_a_snapshot_goes_back_to_before_the_calls(library: Library) -> None:
    kept = library.snapshot()
    library.step("<search>fox</search>")
    library.restore(kept)
    assert (library.calls, library.results) == (0, [])


def test_prompts_show_a_tool_in_one_line() -> None:
    assert search.line == "search(query: string, k: integer = 3): Find documents."
