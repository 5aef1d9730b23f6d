"""Prompts are found by set, by neighbour and by path; model text in them is data."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.beside import Attempt
from sparring.agents.templates import fence, load_prompt, names
from sparring.scenarios.errors import ScenarioError

SCENE = {
    "program": "print(1)",
    "depth": 2,
    "parameters": {"depth": 2},
    "said": dict.fromkeys(
        ("critic", "solver", "advisor", "teacher", "tutor", "responder", "environment"), "<answer>1</answer>"
    ),
    "examples": [{"input": "1", "output": "2"}],
    "tools": ("search(query: string): Find documents.",),
    "criteria": ["1 says a"],
    "heard": (),
    "trace": ["a=1", "b=2"],
    "reference": "1",
    "rubric": ("1. says a",),
    "pair": {"preferred": Attempt("A", "<answer>1</answer>", "right"), "rejected": Attempt("B", "", "wrong")},
    "scaffold": {"wanted": ("a is 1 after line 1", "answer is 1"), "unwanted": ("at most 1 words",)},
}


@pytest.mark.parametrize("name", names())
def test_every_prompt_we_ship_renders(name: str) -> None:
    prompt = load_prompt(name)
    words = dict.fromkeys(prompt.variables, "a word\nor two")  # whatever a task may hold
    text = prompt.render(words | SCENE)
    assert text.strip() and not text.endswith("\n\n") and "{{" not in text and "{%" not in text


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("teacher", {"depth"}),
        ("solver", {"program"}),
        ("revise", {"said"}),
        ("critic", {"program", "said"}),
        ("rubric_writer", {"program", "trace", "reference"}),
    ],
)
def test_the_brief_prompts_read_these_variables_and_little_else(name: str, variables: set[str]) -> None:
    prompt = load_prompt(f"brief/{name}")
    assert prompt.variables == variables and len(prompt.text) < 120


def test_a_bare_name_is_looked_up_beside_the_roles_prompt() -> None:
    assert load_prompt("revise", beside=load_prompt("brief/solver")).path == load_prompt("brief/revise").path
    assert load_prompt("revise", beside=load_prompt("full/solver")).path.parent.name == "full"


def test_an_unknown_prompt_names_the_nearest() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'brief/solver'"):
        load_prompt("brief/solvr")


def test_a_broken_template_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "bad.md").write_text("fine\n{{ oops\n")
    with pytest.raises(ScenarioError, match=r"bad\.md, line 2"):
        load_prompt("bad.md", tmp_path)


def test_a_missing_variable_is_named_with_those_that_are_there() -> None:
    with pytest.raises(ScenarioError, match="'program' is undefined; this role can read: x"):
        load_prompt("brief/solver").render({"x": 1})


def test_model_text_is_not_a_template() -> None:
    text = load_prompt("brief/solver").render({"program": "{{ 7 * 7 }}{% raw %}"})
    assert text.endswith("{{ 7 * 7 }}{% raw %}")


def test_a_template_cannot_reach_python(tmp_path: Path) -> None:
    (tmp_path / "escape.md").write_text("{{ program.__class__.__mro__ }}")
    with pytest.raises(Exception, match="unsafe"):
        load_prompt("escape.md", tmp_path).render(SCENE)


@given(st.text("=\na "))
def test_text_cannot_close_its_own_fence(text: str) -> None:
    first, *inside, last = fence(text).split("\n")
    assert first == last and first not in inside
