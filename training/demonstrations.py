"""Role demonstrations the project generates for the built-in model: how each role speaks, with habits left to unlearn.

A demonstration is a conversation whose last message is the one to imitate. Habits are drawn at stated rates: a solver
that answers at once instead of working, a critic that guesses, a teacher that slips, a rubric-writer that asks for
nothing in particular. The policy so taught can play every role and is far from good at any.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.random import Generator

from sparring.agents.engine import Message
from sparring.agents.templates import load_prompt
from sparring.envs.code.programs import Solved, write_solved


@dataclass(frozen=True)
class Habits:
    """Rates at which demonstrations show the better way; the rest shows the habit to unlearn."""

    works: float = 0.25  # solver reasons line by line before answering
    checks: float = 0.25  # critic reasons line by line before judging
    sound: float = 0.80  # teacher writes a program that runs and has the depth asked for
    telling: float = 0.40  # a rubric criterion separates right from wrong
    depths: tuple[int, ...] = (1, 2, 3, 4, 5)


NAME = re.compile(r"\b[a-d]\b")
GOOD = Habits(works=1.0, checks=1.0, sound=1.0, telling=1.0)

Demonstration = tuple[str, list[Message]]


def demonstrate(rng: Generator, habits: Habits) -> Demonstration:
    """One demonstration: (role shown, conversation ending with the assistant message to imitate)."""
    names = list(_ROLES)
    weights = [share for share, _ in _ROLES.values()]
    name = names[int(rng.choice(len(names), p=weights))]
    solved = write_solved(int(rng.choice(habits.depths)), rng, split="train")
    return name, _ROLES[name][1](solved, rng, habits)


def _exchange(prompt: str, answer: str, /, **variables: Any) -> list[Message]:
    return [Message("user", load_prompt(f"brief/{prompt}").render(variables)), Message("assistant", answer)]


def _flip(rng: Generator, rate: float) -> bool:
    return bool(rng.random() < rate)


class Working(NamedTuple):
    """A program worked by hand: one line per step, ``b=7+5=12``, the last one ending in what is printed."""

    lines: tuple[str, ...]
    output: str

    def __str__(self) -> str:
        return "\n".join(self.lines)


def work(program: str, slip: Callable[[int], int] = lambda value: value, at: int = -1) -> Working:
    """Work a generated program line by line; at step ``at`` the value is taken for ``slip(value)``, and carried on.

    >>> work("a=7\\nb=a+5\\nprint(b-a)").lines
    ('a=7', 'b=7+5=12', '12-7=5')
    """
    values: dict[str, int] = {}
    lines: list[str] = []

    def worked_out(expression: str) -> tuple[str, int]:
        filled = NAME.sub(lambda found: str(values[found[0]]), expression)
        value: int = eval(filled, {"__builtins__": {}}, {"max": max, "min": min})  # text of our own generator
        value = slip(value) if len(lines) == at else value
        return (filled if filled == str(value) else f"{filled}={value}"), value

    *steps, last = program.splitlines()
    for step in steps:
        if step.startswith("if "):
            test, _, step = step.removeprefix("if ").partition(":")
            if not eval(test, {"__builtins__": {}}, dict(values)):
                continue
        name, _, right = step.partition("=")
        if name[-1] in "+-*":
            name, right = name[:-1], f"{name[:-1]}{name[-1]}{right}"
        shown, value = worked_out(right)
        lines.append(f"{name}={shown}")
        values[name] = value
    shown, value = worked_out(last.removeprefix("print(").removesuffix(")"))
    return Working((*lines, shown), str(value))


def worked(working: Working) -> str:
    """An answer with its working."""
    return f"<think>{working}</think><answer>{working.output}</answer>"


def blurted(output: str) -> str:
    """An answer without working."""
    return f"<answer>{output}</answer>"


def attempt(solved: Solved, rng: Generator, right: bool) -> str:
    """Somebody's answer, right or wrong, with or without working; a wrong working slips once and goes on from there."""
    works = _flip(rng, 0.6)
    if right:
        return worked(work(solved.program)) if works else blurted(solved.output)
    if works:
        slipped = work(solved.program, lambda value: _near(value, rng), int(rng.integers(len(solved.trace) + 1)))
        if slipped.output != solved.output:
            return worked(slipped)
    return blurted(str(_near(int(solved.output), rng)))


def _near(value: int, rng: Generator) -> int:
    """Another number, usually close by: the errors a solver makes."""
    step = int(rng.integers(1, 4)) if _flip(rng, 0.6) else int(rng.integers(1, 30))
    return value + step if _flip(rng, 0.5) else value - step


def _teacher(solved: Solved, rng: Generator, habits: Habits) -> list[Message]:
    depth = len(solved.program.splitlines()) - 1
    program = solved.program if _flip(rng, habits.sound) else _spoiled(solved.program, rng)
    return _exchange("teacher", program, depth=depth)


def _spoiled(program: str, rng: Generator) -> str:
    lines = program.splitlines()
    slips: list[Callable[[], list[str]]] = [
        lambda: [*lines[:-1], lines[-1].rstrip(")")],
        lambda: lines[:-1],
        lambda: lines[1:],
        lambda: [*lines[:-1], "print(e)"],
        lambda: [lines[0], *lines],
        lambda: [*lines[:-1], f"{lines[-2]}+", lines[-1]],
    ]
    return "\n".join(slips[int(rng.integers(len(slips)))]())


def _solver(solved: Solved, rng: Generator, habits: Habits) -> list[Message]:
    said = worked(work(solved.program)) if _flip(rng, habits.works) else blurted(solved.output)
    return _exchange("solver", said, program=solved.program)


def _critique(solved: Solved, right: bool, rng: Generator, habits: Habits) -> str:
    if _flip(rng, habits.checks):
        verdict = "right" if right else "wrong"
        return f"<think>{work(solved.program)}</think><verdict>{verdict}</verdict>"
    guess = "right" if _flip(rng, 0.6 if right else 0.4) else "wrong"
    return f"<verdict>{guess}</verdict>"


def _critic(solved: Solved, rng: Generator, habits: Habits) -> list[Message]:
    right = _flip(rng, 0.5)
    shown = attempt(solved, rng, right)
    said = _critique(solved, right, rng, habits)
    return _exchange("critic", said, program=solved.program, said={"solver": shown})


def _reviser(solved: Solved, rng: Generator, habits: Habits) -> list[Message]:
    right = _flip(rng, 0.4)
    first = attempt(solved, rng, right)
    critique = _critique(solved, right, rng, habits)
    if "wrong" in critique:
        said = worked(work(solved.program)) if _flip(rng, 0.5) else blurted(solved.output)
    else:
        said = first if _flip(rng, 0.5) else blurted(_answer(first))
    opening = _exchange("solver", first, program=solved.program)
    return [*opening, *_exchange("revise", said, said={"critic": critique})]


def _answer(text: str) -> str:
    return text.split("<answer>")[-1].removesuffix("</answer>")


def _rubric_writer(solved: Solved, rng: Generator, habits: Habits) -> list[Message]:
    lines: list[str] = []
    for _ in range(int(rng.integers(2, 4))):
        points = int(rng.integers(1, 4))
        lines.append(f"{points} {_criterion(solved, rng, _flip(rng, habits.telling))}")
    said = "\n".join(dict.fromkeys(lines))
    variables = {"program": solved.program, "trace": list(solved.trace), "reference": solved.output}
    return _exchange("rubric_writer", said, **variables)


def _criterion(solved: Solved, rng: Generator, telling: bool) -> str:
    if telling:
        if _flip(rng, 0.4):
            return f"answer is {solved.output}"
        at = int(rng.integers(len(solved.trace)))
        name, value = solved.trace[at].split("=")
        return f"{name} is {value} after line {at + 1}"
    empty = ("at most 9 words", "says a", "at least 1 lines", "says =", f"at most {int(rng.integers(3, 30))} words")
    return empty[int(rng.integers(len(empty)))]


_ROLES: Mapping[str, tuple[float, Callable[[Solved, Generator, Habits], list[Message]]]] = {
    "teacher": (0.15, _teacher),
    "solver": (0.35, _solver),
    "critic": (0.20, _critic),
    "reviser": (0.15, _reviser),
    "rubric_writer": (0.15, _rubric_writer),
}
