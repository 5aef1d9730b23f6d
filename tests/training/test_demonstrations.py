"""Every demonstration of the better way keeps its role's contract and tells the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparring.agents.role import make_role
from sparring.envs.code.programs import held_out
from sparring.scenarios.schema import RoleSpec
from sparring.training.demonstrations import GOOD, Habits, demonstrate


def printed(program: str) -> str:
    """What Python says the program prints; the text is our own generator's."""
    lines: list[str] = []
    exec(program, {"__builtins__": {"print": lambda value: lines.append(str(value)), "max": max, "min": min}})
    return "\n".join(lines)


def program_in(prompt: str) -> str:
    """The program a brief prompt shows: from the line after the first to the one that prints."""
    lines = prompt.splitlines()[1:]
    return "\n".join(lines[: next(at for at, line in enumerate(lines) if line.startswith("print(")) + 1])


def shown(role: str, count: int = 60) -> list[Any]:
    """``count`` demonstrations of one role's better way."""
    rng = np.random.Generator(np.random.Philox(3))
    found: list[Any] = []
    while len(found) < count:
        name, messages = demonstrate(rng, GOOD)
        if name == role:
            found.append(messages)
    return found


def parsed(kind: str, text: str) -> Any:
    said = make_role(kind, RoleSpec(kind=kind, prompt=f"brief/{kind}")).parse(text)
    assert said.ok, said.problem
    return said.value


def test_solvers_are_right() -> None:
    for prompt, said in shown("solver"):
        assert parsed("solver", said.content) == printed(program_in(prompt.content))
        assert "<think>" in said.content


def test_teachers_write_programs_of_the_depth_asked_for() -> None:
    for prompt, said in shown("teacher"):
        program = parsed("teacher", said.content)
        depth = int("".join(letter for letter in prompt.content if letter.isdigit()))
        assert len(program.splitlines()) == depth + 1 and printed(program)
        assert not held_out(program)


def test_critics_tell_right_from_wrong() -> None:
    sides = set()
    for prompt, said in shown("critic"):
        program = program_in(prompt.content)
        right = parsed("solver", prompt.content.split(program)[-1]) == printed(program)
        assert parsed("critic", said.content) == ("right" if right else "wrong")
        sides.add(right)
    assert sides == {True, False}


def test_revisions_are_right() -> None:
    for prompt, _, critique, said in shown("reviser"):
        assert "verdict" in critique.content
        assert parsed("solver", said.content) == printed(program_in(prompt.content))


def test_rubrics_are_rules_that_a_right_working_meets() -> None:
    for _, said in shown("rubric_writer"):
        criteria = parsed("rubric_writer", said.content)
        assert len(criteria) == len(said.content.splitlines())
        assert {criterion["checker"] for criterion in criteria} == {"rule"}


def test_every_role_is_shown_and_habits_show_at_their_rate() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    drawn = [demonstrate(rng, Habits(works=0.25)) for _ in range(1500)]
    assert {name for name, _ in drawn} == {"teacher", "solver", "critic", "reviser", "rubric_writer"}
    solved = [messages[-1].content for name, messages in drawn if name == "solver"]
    assert sum("<think>" in said for said in solved) / len(solved) == pytest.approx(0.25, abs=0.08)
