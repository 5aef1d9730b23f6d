"""Small functions of one number, written by a seeded generator: their text, their meaning, their words, their mutants.

The generator knows what each step does, so nothing is executed. A byte-level model can read and write all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .base import Split, on_held_out_side

INPUTS = range(10)  # what generated functions are shown, asked and compared with
LARGEST = 99
DEEPEST = 3
FAMILIES = ("mixed", "linear")
_TABLED = 2  # steps up to which every function is known, so that examples can be told to mean one of them alone


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of step: its text around the text ``e`` of what is done before, its words, constants and meaning."""

    text: str
    words: str
    constants: Sequence[int]
    apply: Callable[[Any, int], Any]
    wraps: bool  # whether the text before it needs brackets when it is more than a name
    near: str  # the form that a slip of one operator makes of it


FORMS: Mapping[str, Form] = {
    "add": Form("{e}+{c}", "add {c}", range(1, 10), lambda e, c: e + c, False, "subtract"),
    "subtract": Form("{e}-{c}", "subtract {c}", range(1, 10), lambda e, c: e - c, False, "add"),
    "times": Form("{e}*{c}", "multiply by {c}", range(2, 6), lambda e, c: e * c, True, "divide"),
    "divide": Form("{e}//{c}", "divide by {c}, rounding down", range(2, 5), lambda e, c: e // c, True, "times"),
    "modulo": Form("{e}%{c}", "take the remainder by {c}", range(3, 8), lambda e, c: e % c, True, "divide"),
    "from": Form("{c}-{e}", "subtract it from {c}", range(1, 10), lambda e, c: c - e, True, "add"),
    "smaller": Form("min({e},{c})", "make it at most {c}", range(3, 9), np.minimum, False, "larger"),
    "larger": Form("max({e},{c})", "make it at least {c}", range(2, 9), np.maximum, False, "smaller"),
}
_STEPS = [(name, constant) for name, form in FORMS.items() for constant in form.constants]

Step = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Expression:
    """A function of x, as the steps that are done to it."""

    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        """Python: ``min(x*2,7)``."""
        text, single = "x", True
        for name, constant in self.steps:
            form = FORMS[name]
            inner = f"({text})" if form.wraps and not single else text
            text = form.text.format(e=inner, c=constant)
            single = name in ("smaller", "larger")
        return text

    @property
    def words(self) -> str:
        """English: ``multiply by 2, then make it at most 7``."""
        return ", then ".join(FORMS[name].words.format(c=constant) for name, constant in self.steps)

    def at(self, value: int) -> int:
        """Its value."""
        return int(self._values(np.array([value]))[0])

    def values(self) -> tuple[int, ...]:
        """Its values for all of ``INPUTS``: what the function is, as far as anyone here can tell."""
        return tuple(int(value) for value in self._values(np.arange(len(INPUTS))))

    def _values(self, inputs: NDArray[np.int64]) -> NDArray[np.int64]:
        for name, constant in self.steps:
            inputs = FORMS[name].apply(inputs, constant)
        return inputs

    def mutant(self, rng: Generator) -> Expression:
        """One constant or one operator is another; never the same function."""
        while True:
            at = int(rng.integers(len(self.steps)))
            name, constant = self.steps[at]
            if rng.integers(2):
                name = FORMS[name].near
            else:
                constant += int(rng.choice((-2, -1, 1, 2)))
            changed = Expression((*self.steps[:at], (name, max(constant, 1)), *self.steps[at + 1 :]))
            if changed.values() != self.values() and changed.text != self.text:
                return changed


def write_expression(depth: int, rng: Generator, split: Split) -> Expression:
    """A function of ``depth`` (1..3) steps. Equal functions are on the same side, however they are written."""
    if not 1 <= depth <= DEEPEST:
        raise ValueError(f"depth is {depth}; functions have 1 to {DEEPEST} steps")
    while True:
        drawn = tuple(_STEPS[int(index)] for index in rng.integers(len(_STEPS), size=depth))
        found = Expression(drawn)
        values = found.values()
        if usable(values, depth) and on_held_out_side(str(values)) == (split == "held_out"):
            return found


def usable(values: Sequence[int], depth: int) -> bool:
    """Whether a function is worth asking about: small, far from constant and from x, and no shorter one is the same."""
    moved = sum(value != place for place, value in enumerate(values))
    if max(map(abs, values)) > LARGEST or len(set(values)) < 4 or moved < 3:
        return False
    return all(values not in _shorter(fewer) for fewer in range(min(depth, _TABLED + 1)))


def write_linear(rng: Generator, split: Split, count: int) -> tuple[Expression, list[int]]:
    """``x*a+b`` or ``x*a-b`` with the inputs 0, 1 and others: b can be read, a is a difference, one input confirms."""
    while True:
        factor, term = int(rng.integers(2, 10)), int(rng.integers(1, 19))
        found = Expression((("times", factor), ("add" if rng.integers(2) else "subtract", term)))
        if on_held_out_side(str(found.values())) == (split == "held_out"):
            others = rng.choice(range(2, len(INPUTS)), size=max(0, count - 2), replace=False)
            return found, [0, 1, *sorted(int(value) for value in others)][:count]


def write_telling(depth: int, rng: Generator, split: Split, count: int) -> tuple[Expression, list[int]]:
    """A function with ``count`` inputs that tell it from every other (see ``telling_inputs``)."""
    while True:
        found = write_expression(depth, rng, split)
        inputs = telling_inputs(found, count, rng)
        if inputs is not None:
            return found, inputs


def telling_inputs(found: Expression, count: int, rng: Generator, tries: int = 20) -> list[int] | None:
    """``count`` inputs in order that leave no other function of as few steps open; ``None`` if none were found."""
    own = found.values()
    table = _table(min(len(found.steps), _TABLED))
    for _ in range(tries):
        inputs = sorted(int(value) for value in rng.choice(len(INPUTS), size=count, replace=False))
        fitting = (table[:, inputs] == np.array(own)[inputs]).all(axis=1)
        if (table[fitting] == np.array(own)).all():
            return inputs
    return None


@lru_cache
def _shorter(depth: int) -> frozenset[tuple[int, ...]]:
    return frozenset(Expression(steps).values() for steps in product(_STEPS, repeat=depth))


@lru_cache
def _table(depth: int) -> NDArray[np.int64]:
    """Values of every function of up to ``depth`` steps, one row each."""
    every = frozenset().union(*(_shorter(fewer) for fewer in range(depth + 1)))
    return np.array(sorted(every))
