"""Spaces, tools and task sources keep their promises, errors included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from numpy.random import default_rng

from sparring.envs.base import Environment
from sparring.envs.code.env import CodeEnvironment
from sparring.envs.echo import EchoEnvironment
from sparring.envs.sources import GeneratorSource, JsonlSource
from sparring.envs.spaces import Unicode
from sparring.envs.tools import ToolRefused, tool
from sparring.envs.types import Refusal
from sparring.scenarios.errors import ContractBroken, ScenarioError


def test_any_text_is_in_the_space_and_samples_repeat_by_seed() -> None:
    one, two = Unicode(seed=3), Unicode(seed=3)
    drawn = [one.sample() for _ in range(200)]
    assert drawn == [two.sample() for _ in range(200)] and "" in drawn
    assert all(text in one for text in [*drawn, "\ud800", "\x00", "x" * 10**6])
    assert 3 not in one and None not in one and b"x" not in one
    assert one == two and hash(one) == hash(two)


@tool
def look_up(word: str, limit: int = 3, exact: bool = False) -> list[str]:
    """Find entries for a word.

    More text that a model need not read.
    """
    return [word] * limit


def test_a_signature_becomes_a_schema() -> None:
    properties = look_up.schema["properties"]
    assert look_up.description == "Find entries for a word."
    assert {name: entry["type"] for name, entry in properties.items()} == {
        "word": "string",
        "limit": "integer",
        "exact": "boolean",
    }
    assert look_up.schema["required"] == ["word"] and look_up.schema["additionalProperties"] is False
    assert look_up.call({"word": "a", "limit": 2}) == look_up("a", 2) == ["a", "a"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "word: Field required"),
        ({"word": 3}, "word: Input should be a valid string"),
        ({"word": "a", "limit": "3"}, "limit: Input should be a valid integer"),
        ({"word": "a", "limt": 3}, "limt: no such argument; did you mean limit?"),
        ([], "arguments must be an object"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ToolRefused, match="look_up: ") as refused:
        look_up.call(arguments)
    assert said in str(refused.value)


def test_untyped_and_undocumented_functions_are_no_tools() -> None:
    with pytest.raises(ContractBroken, match="'word' has no type"):
        tool(_untyped)
    with pytest.raises(ContractBroken, match="needs a docstring"):
        tool(_undocumented)


def _untyped(word):  # type: ignore[no-untyped-def]  # what is to be refused
    """Documented."""


def _undocumented(word: str) -> None: ...


def test_reset_takes_tasks_only_and_environments_admit_nothing_by_default() -> None:
    with pytest.raises(ContractBroken, match="takes a"):
        EchoEnvironment().reset(options={"task": {"text": "a"}})
    refused = Environment().admit("a", {}, default_rng(0))
    assert isinstance(refused, Refusal) and refused.reason == "no_proposals"


def test_the_generator_source_asks_the_environment() -> None:
    source = GeneratorSource(None, EchoEnvironment())
    task = source.sample({"length": 4}, default_rng(2))
    assert task == source.sample({"length": 4}, default_rng(2)) and len(task.payload["text"]) == 4
    with pytest.raises(ScenarioError, match="no list"):
        source.tasks()


def _write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_rows_become_tasks_and_sampling_follows_the_generator(tmp_path: Path) -> None:
    rows = [{"program": f"a={n}\nprint(a)", "answer": n, "depth": n % 2 + 1, "topic": "x"} for n in range(6)]
    path = _write(tmp_path / "rows.jsonl", *rows[:3], "", *rows[3:])
    environment = CodeEnvironment()
    source = JsonlSource({"path": path}, environment)
    tasks = list(source.tasks())
    assert [task.secret["reference"] for task in tasks] == list("012345") and len(source) == 6
    assert tasks[1].secret["trace"] == ["a=1"] and tasks[1].payload["topic"] == "x"
    drawn = [source.sample({"depth": 2}, default_rng(n)) for n in range(8)]
    assert {task.parameters["depth"] for task in drawn} == {2} and len({task.key for task in drawn}) > 1
    assert drawn == [source.sample({"depth": 2}, default_rng(n)) for n in range(8)]
    with pytest.raises(ScenarioError, match="no row has"):
        source.sample({"depth": 5}, default_rng(0))
    environment.close()


GOOD = {"program": "print(1)"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([GOOD, "{"], r"rows.jsonl:2: not JSON"),
        ([GOOD, "", [1]], r"rows.jsonl:3: a row is a JSON object, got list"),
        ([GOOD, {"answer": 1}], r"rows.jsonl:2: field 'program' is missing; the row has answer"),
        ([{"program": 3}], r"rows.jsonl:1: field 'program' must be str"),
        ([], r"rows.jsonl: has no rows"),
        (["[" * 100_000], r"rows.jsonl:1: (nested too deeply|not JSON)"),
    ],
)
def test_a_wrong_row_is_named_when_the_file_opens(tmp_path: Path, rows: list[object], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        JsonlSource({"path": _write(tmp_path / "rows.jsonl", *rows)}, CodeEnvironment())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"program": "print(1)", "answer": "2"}, "answer is '2', but the program prints '1'"),
        ({"program": "1/0"}, r"cannot be a task \(crash: ZeroDivisionError"),
    ],
)
def test_a_row_that_runs_otherwise_is_named_when_it_is_read(tmp_path: Path, row: object, said: str) -> None:
    environment = CodeEnvironment()
    source = JsonlSource({"path": _write(tmp_path / "rows.jsonl", GOOD, row)}, environment)
    with pytest.raises(ScenarioError, match=rf"rows.jsonl:2: .*{said}"):
        list(source.tasks())
    environment.close()


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"absent\.jsonl: cannot be read"):
        JsonlSource({"path": tmp_path / "absent.jsonl"}, EchoEnvironment())
