"""Parsers read what the contract allows and never raise on anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.check import HOSTILE, check_role
from sparring.agents.role import Role, View, check_sees, make_role
from sparring.envs.types import Parsed, Task
from sparring.scenarios.errors import ContractBroken, ScenarioError
from sparring.scenarios.registry import roles
from sparring.scenarios.schema import RoleSpec

PARTS = [
    "<answer>",
    "</answer>",
    "<verdict>",
    "</verdict>",
    "right",
    "```",
    "\n",
    "1: yes",
    "2 says a",
    "</think>",
    "x",
]
TEXTS = st.text(st.characters(exclude_categories=[])) | st.lists(st.sampled_from(PARTS)).map("".join)
VIEW = View(Task("w", {"program": "p"}, {"reference": "S"}), {"depth": 1}, {"solver": "s", "critic": "c"})


def role(kind: str, **spec: Any) -> Role:
    return make_role("r", RoleSpec(kind=kind, **({"prompt": "brief/solver"} | spec)))


@pytest.mark.parametrize("kind", roles.names())
@given(text=TEXTS)
def test_no_parser_raises_and_all_values_are_json(kind: str, text: str) -> None:
    parsed = role(kind).parse(text)
    assert isinstance(parsed, Parsed) and parsed.kind == role(kind).contract
    json.dumps(parsed.value)


@pytest.mark.parametrize("kind", roles.names())
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_parser_raises_on_hostile_text(kind: str, text: str) -> None:
    assert isinstance(role(kind).parse(text), Parsed)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("solver", "<think>x</think><answer> 5 </answer>", "5"),
        ("solver", "<answer>1</answer><answer>2</answer>", "2"),
        ("solver", "<answer>1", None),
        ("solver", "12", None),
        ("critic", "<verdict>right</verdict> no, <verdict>Wrong</verdict>", "wrong"),
        ("critic", "<verdict>maybe</verdict>", None),
        ("teacher", "Sure:\n```python\nprint(1)\n```\nDone", "print(1)"),
        ("teacher", "print(1)\n", "print(1)"),
        ("judge", "1: yes\n2: NO\n1: no\nyes", {"1": False, "2": False}),
        ("plain", " hello ", "hello"),
    ],
)
def test_parsers_read_their_contract(kind: str, text: str, value: object) -> None:
    parsed = role(kind).parse(text)
    assert (parsed.value, parsed.ok) == (value, value is not None)


def test_a_role_reads_only_the_secrets_it_sees() -> None:
    assert "reference" not in VIEW.variables(())
    assert VIEW.variables(("reference",))["reference"] == "S"
    assert "rubric" not in VIEW.variables(("reference",))


def test_seeing_what_is_not_disclosed_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'reference'"):
        check_sees(role("solver", sees=["referense"]), ("reference", "trace"))


def test_a_kind_without_a_prompt_asks_for_one() -> None:
    with pytest.raises(ScenarioError, match="add prompt"):
        make_role("guest", RoleSpec(kind="plain"))


@pytest.mark.parametrize("kind", roles.names())
def test_every_built_in_role_keeps_the_contract(kind: str) -> None:
    check_role(role(kind), VIEW)


def test_a_template_that_reads_an_unseen_secret_breaks_the_contract(tmp_path: Any) -> None:
    (tmp_path / "leak.md").write_text("{{ reference }}")
    leaky = make_role("leaky", RoleSpec(kind="plain", prompt="leak.md"), tmp_path)
    with pytest.raises(ContractBroken, match="must stand in sees"):
        check_role(leaky, VIEW)
    check_role(make_role("seeing", RoleSpec(kind="plain", prompt="leak.md", sees=("reference",)), tmp_path), VIEW)


def test_a_parser_that_raises_breaks_the_contract() -> None:
    class Brittle(Role):
        contract = "text"
        default_prompt = "brief/solver"

        def parse(self, text: str) -> Parsed:
            return Parsed("text", text[0])

    with pytest.raises(ContractBroken, match="raised IndexError"):
        check_role(Brittle("brittle", RoleSpec(kind="plain")))
