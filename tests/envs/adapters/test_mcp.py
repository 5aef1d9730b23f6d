"""MCP servers: real ones over standard input and HTTP, and every way they fail."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sparring.envs.adapters.mcp import McpEnvironment, _same
from sparring.envs.sources import JsonlSource
from sparring.envs.types import Score, Validity
from sparring.scenarios.errors import ScenarioError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="pip install 'sparring[mcp]'")
BROKEN = str(Path(__file__).with_name("mcp_broken.py"))
QUESTIONS = [{"question": "1 + 2?", "answer": "3"}]


def broken(how: str = "", **options: Any) -> McpEnvironment:
    """A server of this test's own, so that what it breaks is not shared."""
    given = {"command": ["python", BROKEN, how], "questions": QUESTIONS, "stateful": True, **options}
    environment = McpEnvironment(given)
    environment.reset(seed=0)
    return environment


@pytest.fixture
def server() -> Iterator[McpEnvironment]:
    environment = broken(max_calls=10)
    yield environment
    environment.close()


def verdict(info: dict[str, Any]) -> Score:
    score: Score = info["scores"][0]
    return score


def test_tools_are_listed_once_and_called(server: McpEnvironment) -> None:
    assert [tool.name for tool in server.toolbox()] == ["add", "who", "die", "hang", "flood"]
    assert server.toolbox()[0].description == "Add two numbers."
    said = server.step('<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>')
    assert said[0] == "3" and said[2] is False
    assert server.step("<add>4</add>")[0] == "5"
    assert server.step("<answer>3.0</answer>")[1] == 1.0


def test_arguments_are_checked_before_the_server_sees_them(server: McpEnvironment) -> None:
    said = server.step('<tool_call>{"name": "add", "arguments": {"a": "one"}}</tool_call>')[0]
    assert said == "add: a: 'one' is not of type 'integer'"
    assert "'a' is a required property" in server.step('<tool_call>{"name": "add", "arguments": {}}</tool_call>')[0]
    assert server.failed == 0


def test_a_server_that_dies_is_told_started_again_and_leaves_no_zero(server: McpEnvironment) -> None:
    said = server.step("<die></die>")[0]
    assert said.startswith("die failed: ServerFailed") and "Connection closed" in said
    assert server.step("<add>1</add>")[0] == "2"
    score = verdict(server.step("<answer>4</answer>")[4])
    assert score.validity is Validity.INVALID and "failed 1 times" in score.note


def test_a_right_answer_counts_although_the_server_failed(server: McpEnvironment) -> None:
    server.step("<die></die>")
    assert verdict(server.step("<answer>3</answer>")[4]).value == 1.0


def test_silence_after_a_failure_is_not_scored_either(server: McpEnvironment) -> None:
    server.step("<die></die>")
    assert verdict(server.step("well")[4]).validity is Validity.INVALID


def test_a_long_result_is_cut(server: McpEnvironment) -> None:
    assert len(server.step("<flood></flood>")[0]) == server.config.max_result


@pytest.mark.slow
def test_a_call_that_hangs_is_given_up_while_the_server_lives_on() -> None:
    environment = broken(timeout_s=0.5, restarts=0)
    said = environment.step("<hang></hang>")[0]
    assert "no answer within 0.5 s" in said and environment.failed == 1
    assert environment.step("<add>1</add>")[0] == "2"
    environment.close()


def test_a_server_is_started_again_only_so_often_in_a_row() -> None:
    environment = broken(restarts=1, max_calls=9)
    said = [environment.step("<die></die>")[0] for _ in range(3)]
    assert "Connection closed" in said[1] and "failed 2 times in a row; it is not started again" in said[2]
    environment.close()


def test_words_that_are_no_protocol_are_skipped() -> None:
    environment = broken("garbage")
    assert environment.step("<add>1</add>")[0] == "2"
    environment.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": ["python", BROKEN, "exits"]}, "the server said: no licence"),
        ({"command": ["python", BROKEN, "silent"], "start_s": 1.0}, "no server within 1 s"),
        ({"command": ["/no/such/program"]}, "FileNotFoundError"),
        ({"command": ["python", BROKEN, "answer"]}, "a tool is called 'answer'"),
        ({"command": ["python", BROKEN], "use": ["subtract"]}, "no tool subtract; the server has add, who"),
        ({"command": [], "url": "http://127.0.0.1:9/mcp", "stateful": False}, "does it run by itself"),
    ],
)
def test_a_server_that_is_not_there_is_an_error_at_once(options: dict[str, Any], message: str) -> None:
    environment = McpEnvironment({"questions": QUESTIONS, "stateful": True, **options})
    with pytest.raises(ScenarioError, match=message):
        environment.toolbox()
    environment.close()


def test_tools_may_be_chosen() -> None:
    environment = broken(use=["add"])
    assert [tool.name for tool in environment.toolbox()] == ["add"]
    environment.close()


@pytest.mark.slow
def test_every_episode_of_a_stateful_server_gets_a_new_one(server: McpEnvironment) -> None:
    assert not server.can_snapshot
    first = [server.step("<who></who>")[0] for _ in range(2)]
    server.reset(seed=0)
    assert first[0] == first[1] != server.step("<who></who>")[0]


def test_streamable_http_servers_are_spoken_to() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shop = subprocess.Popen([sys.executable, "-m", "sparring.envs.adapters.mcp_shop", str(port)])
    try:
        _wait_for(port)
        environment = McpEnvironment({"url": f"http://127.0.0.1:{port}/mcp", "questions": QUESTIONS})
        environment.reset(seed=0)
        assert environment.step("<price>pear</price>")[0] == "45"
        environment._link.close()
    finally:
        shop.kill()
        shop.wait()


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=5.0)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


def test_tasks_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    rows = [{"question": "Two?", "answer": 2}, {"question": "A vowel?", "answer": ["a", "e"]}]
    file.write_text("\n".join(map(json.dumps, rows)))
    environment = McpEnvironment({"command": ["python", BROKEN]})
    tasks = list(JsonlSource({"path": file}, environment).tasks())
    assert [task.secret["answer"] for task in tasks] == [["2"], ["a", "e"]]
    environment.reset(seed=0, options={"task": tasks[1]})
    assert environment.judge("E.")[0].value == 1.0
    file.write_text('{"question": "x", "answer": {}}')
    with pytest.raises(ScenarioError, match=r"tasks\.jsonl:1: a row has a question and an answer"):
        list(JsonlSource({"path": file}, environment).tasks())


@pytest.mark.parametrize(
    ("said", "known", "same"),
    [
        ("75", "75.0", True),
        (" The  Plum. ", "the plum", True),
        ("", "", False),
        ("75 p", "75", False),
        ("nan", "1", False),
    ],
)
def test_answers_are_compared_as_words_and_numbers(said: str, known: str, same: bool) -> None:
    assert _same(said, known) is same
