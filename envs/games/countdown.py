"""Countdown: combine numbers, two at a time, until the target is there. One action is one step, such as ``5+2``.

The rules and their solver are functions on sorted tuples of numbers; the environment tells and judges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, ClassVar, Literal

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict

from sparring.scenarios.errors import ContractBroken
from sparring.scenarios.registry import environments

from ..base import Environment
from ..types import Refusal, Score, Task, digest

Numbers = tuple[int, ...]
LEAST, MOST = 2, 4  # how many numbers a task has
LARGEST = 99  # of the numbers given
HELD_OUT_ONE_IN = 5
TRIES = 2_000  # draws of numbers and target before a task is said not to exist
STEP = re.compile(r"\s*(\d{1,9})\s*([-+*/])\s*(\d{1,9})\s*", re.ASCII)
PROPOSAL = re.compile(r"\s*(\d{1,9}(?:\s*[\s,]\s*\d{1,9})*)\s*=\s*(\d{1,9})\s*", re.ASCII)
WORDS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}


class CountdownOptions(BaseModel):
    """``style``: observations are ``brief`` (``2 3 5=21``: what is left, and the target) or ``full``: the rule in
    sentences. ``operations``: the ones allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    style: Literal["brief", "full"] = "brief"
    operations: Literal["+-*/", "+-*", "+-", "+*", "+"] = "+-*/"


# -- the rules -----------------------------------------------------------------------------------------------------


def result(a: int, operation: str, b: int) -> int | None:
    """What a step makes; ``None`` unless it is a whole number above 0.

    >>> result(6, "/", 3), result(6, "/", 4), result(3, "-", 3), result(2, "-", 3)
    (2, None, None, None)
    """
    if operation == "/":
        return a // b if b and a % b == 0 else None
    made = a + b if operation == "+" else a * b if operation == "*" else a - b
    return made if made > 0 else None


def after(numbers: Numbers, a: int, operation: str, b: int) -> Numbers | None:
    """The numbers once two of them are combined; ``None`` where one is not there or nothing comes of them.

    >>> after((2, 3, 5), 5, "-", 2)
    (3, 3)
    """
    left = list(numbers)
    for one in (a, b):
        if one not in left:
            return None
        left.remove(one)
    made = result(a, operation, b)
    return None if made is None else tuple(sorted([*left, made]))


def steps(numbers: Numbers, operations: str) -> list[str]:
    """Every step there is, the larger number first, each once.

    >>> steps((2, 4), "+-*/")
    ['4+2', '4-2', '4*2', '4/2']
    """
    pairs = dict.fromkeys((max(pair), min(pair)) for pair in combinations(numbers, 2))
    return [f"{a}{one}{b}" for a, b in pairs for one in operations if result(a, one, b) is not None]


@lru_cache(maxsize=20_000)
def reach(numbers: Numbers, operations: str) -> Mapping[int, int]:
    """Every number that can be made of these, with the fewest steps that takes.

    >>> sorted(reach((2, 3), "+-*").items())
    [(1, 1), (2, 0), (3, 0), (5, 1), (6, 1)]
    """
    found: dict[int, int] = dict.fromkeys(numbers, 0)
    for rest in {taken(numbers, step) for step in steps(numbers, operations)}:
        for made, count in reach(rest, operations).items():
            found[made] = min(found.get(made, MOST), count + 1)
    return found


def taken(numbers: Numbers, step: str) -> Numbers:
    """The numbers after a step that is known to be there."""
    read = read_step(step)
    rest = after(numbers, *read) if read is not None else None
    assert rest is not None, "a step that steps() gave"
    return rest


def read_step(text: str) -> tuple[int, str, int] | None:
    """The two numbers and the operation; ``None`` where the text is anything else.

    >>> read_step(" 5+2"), read_step("5+2=7")
    ((5, '+', 2), None)
    """
    found = STEP.fullmatch(text)
    return (int(found[1]), found[2], int(found[3])) if found else None


# -- the environment -----------------------------------------------------------------------------------------------


@environments("countdown")
class CountdownEnvironment(Environment):
    """Countdown: reach a target by combining numbers two at a time with + - * and exact division.

    A step uses up two numbers that are left and puts their result in their place; it must be a whole number above 0.
    Reaching the target with any step is right; a single number that is not the target, and a step that is not there,
    are wrong. Generated tasks need all their numbers (``numbers`` of them, each at most ``most``); a hash keeps a fifth
    of them for evaluation. A proposal is ``2 3 5=21``; reasons of a refusal: format, count,
    size, given (the target is among the numbers), held_out, unsolvable.
    """

    Config = CountdownOptions
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = {"numbers": range(LEAST, MOST + 1), "most": (9, 6, 12, 25, 99)}
    examples: ClassVar = ({}, {"style": "full"}, {"operations": "+-*"})
    junk: ClassVar[tuple[str, ...]] = (*Environment.junk, "1+1", "2+1", "=")

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A task of the training split that needs all its numbers."""
        return self._drawn(parameters, rng, kept=False)

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A task of the held-out split."""
        return self._drawn({**{name: values[0] for name, values in self.parameters.items()}, **parameters}, rng, True)

    def similar(self, task: Task, rng: Generator) -> Task:
        """A task of as many numbers."""
        given = {"numbers": len(task.payload["numbers"]), "most": LARGEST}
        return self.sample({**given, **task.parameters}, rng)

    def begin(self, task: Task) -> str:
        """The numbers and the target."""
        self.left: Numbers = tuple(sorted(int(one) for one in task.payload["numbers"]))
        return self._told()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """One step. The reward is 1 when it reaches the target, 0 for every other."""
        self.np_random.random()  # demonstrations along an episode must not all follow one draw
        read = read_step(action)
        allowed = read is not None and read[1] in self.config.operations
        rest = after(self.left, *read) if read is not None and allowed else None
        if read is None or rest is None:
            return self._over("no step of this position", 0.0)
        self.left, made = rest, result(*read)
        if made == self.target:
            return self._over(f"{made} is the target", 1.0)
        if len(rest) == 1:
            return self._over(f"{made} is not the target {self.target}", 0.0)
        return self._told(), 0.0, False, False, {"scores": []}

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task | Refusal:
        """Numbers, ``=``, and a target that can be reached from them."""
        found = PROPOSAL.fullmatch(text) if len(text) < 200 else None
        if found is None:
            return Refusal("format", "a proposal is numbers, =, and the target: 2 3 5=21")
        numbers, target = tuple(sorted(map(int, re.split(r"[\s,]+", found[1])))), int(found[2])
        wanted = parameters.get("numbers")
        if not LEAST <= len(numbers) <= MOST or wanted not in (None, len(numbers)):
            return Refusal("count", f"{len(numbers)} numbers; {wanted or f'{LEAST} to {MOST}'} are wanted")
        most = int(parameters.get("most", LARGEST))
        if not all(1 <= one <= most for one in numbers):
            return Refusal("size", f"numbers from 1 to {most} are allowed")
        if target in numbers:
            return Refusal("given", f"{target} is among the numbers")
        if target not in reach(numbers, self.config.operations):
            return Refusal("unsolvable", f"{target} cannot be made of these numbers")
        task = self._task(numbers, target, parameters, "")
        return Refusal("held_out", "this task is kept for evaluation") if held(task) else task

    def oracle(self) -> str | None:
        """A step on a shortest way to the target, drawn from all of them; ``None`` where there is no way."""
        found = {step: taken(self.left, step) for step in steps(self.left, self.config.operations)}
        ways = {step: reach(rest, self.config.operations).get(self.target) for step, rest in found.items()}
        fewest = min((way for way in ways.values() if way is not None), default=None)
        best = [step for step, way in ways.items() if way is not None and way == fewest]
        return best[int(self.np_random.random() * len(best))] if best else None

    def state(self) -> object:
        """The numbers that are left."""
        return self.left if self.task is not None else ()

    def set_state(self, state: Any) -> None:
        """Back to those numbers."""
        self.left = tuple(state)

    @property
    def target(self) -> int:
        """The number to reach."""
        assert self.task is not None, "reset first"
        return int(self.task.payload["target"])

    # texts and tasks ------------------------------------------------------------------------------------------

    def _told(self) -> str:
        shown = " ".join(map(str, self.left))
        if self.config.style == "brief":
            return f"{shown}={self.target}"
        verbs = ", ".join(WORDS[one] for one in self.config.operations)
        return (
            f"Reach {self.target} from the numbers {shown}. A step takes two of them ({verbs}) and puts the result, a "
            "whole number above 0, in their place. Answer with the next step, such as 5+2, and nothing else."
        )

    def _over(self, why: str, value: float) -> tuple[str, float, bool, bool, dict[str, Any]]:
        scores = [Score.valued("verifier", value, "countdown", why)]
        return f"over: {why}", value, True, False, {"scores": scores}

    def _drawn(self, parameters: Mapping[str, Any], rng: Generator, kept: bool) -> Task:
        count, most = int(parameters["numbers"]), int(parameters["most"])
        for task in self._draws(count, most, parameters, rng):
            if held(task) is kept:
                return task
        raise ContractBroken(
            f"environment countdown: no task of {count} numbers up to {most} with the operations "
            f"{self.config.operations} was found in {TRIES} draws; allow larger numbers or more operations"
        )

    def _draws(self, count: int, most: int, parameters: Mapping[str, Any], rng: Generator) -> Iterator[Task]:
        """Tasks whose target comes of steps taken by chance and takes all the numbers."""
        for _ in range(TRIES):
            numbers = tuple(sorted(int(one) for one in rng.integers(1, most + 1, size=count)))
            left = numbers
            while len(left) > 1:
                found = steps(left, self.config.operations)
                left = taken(left, found[int(rng.integers(len(found)))])
            if reach(numbers, self.config.operations)[left[0]] == count - 1:
                yield self._task(numbers, left[0], parameters, "generator")

    def _task(self, numbers: Numbers, target: int, parameters: Mapping[str, Any], origin: str) -> Task:
        payload = {"numbers": list(numbers), "target": target}
        return Task("countdown", payload, {}, dict(parameters), ("countdown", f"numbers={len(numbers)}"), origin)


def held(task: Task) -> bool:
    """Whether a task is kept for evaluation; a hash of numbers and target decides.

    >>> held(Task("countdown", {"numbers": [2, 3], "target": 6}))
    False
    """
    return int(digest(dict(task.payload)), 16) % HELD_OUT_ONE_IN == 0
