"""Short Python programs of known difficulty, written by a seeded generator together with their trace and output.

The generator applies each statement's meaning while it writes; that CPython agrees (program for program, in the
sandbox) is a test. Programs are meant to be readable by a very small byte-level model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from numpy.random import Generator

VARIABLES = "abcd"
DEEPEST = 6
LITERAL = 9  # the largest number that is written out, unless ``magnitude`` says otherwise
WIDEST = 11  # every value a program computes or prints is at most so many times its largest literal: -99..99
MAGNITUDES = (0.5, 4.0)  # powers of ten that the largest literal may be: 3 to 10000
HELD_OUT_ONE_IN = 10

Split = Literal["train", "held_out"]


@dataclass(frozen=True, slots=True)
class Solved:
    """A program with what it does: one ``name=value`` in ``trace`` per assignment that ran, ``output`` no newline."""

    program: str
    trace: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True)
class _Step:
    """One line: its text, the variable it may set, and the value it sets (``None``: an untaken ``if``)."""

    line: str
    name: str
    value: int | None


def write(depth: int, rng: Generator, split: Split | None = None) -> str:
    """A program of ``depth`` (1..6) assignment lines and one print line, without a trailing newline."""
    return write_solved(depth, rng, split).program


def write_solved(depth: int, rng: Generator, split: Split | None = None, magnitude: float | None = None) -> Solved:
    """Like ``write``, with trace and output; ``split`` keeps to one side of ``held_out``. Raises ``ValueError``.

    Literals go up to 10 ** ``magnitude`` (0.5 to 4), values to eleven times that; absent: up to 9, and to 99.
    """
    if not 1 <= depth <= DEEPEST:
        raise ValueError(f"depth is {depth}; programs have 1 to {DEEPEST} assignment lines")
    if split not in (None, "train", "held_out"):
        raise ValueError(f"split is {split!r}; it is 'train', 'held_out' or None for both")
    if magnitude is not None and not MAGNITUDES[0] <= magnitude <= MAGNITUDES[1]:
        raise ValueError(f"magnitude is {magnitude}; it lies between {MAGNITUDES[0]} and {MAGNITUDES[1]}")
    literal = LITERAL if magnitude is None else round(10**magnitude)
    while True:
        solved = _attempt(depth, rng, literal)
        if solved is not None and (split is None or held_out(solved.program) == (split == "held_out")):
            return solved


def held_out(program: str) -> bool:
    """Whether this program belongs to the tenth that is kept for evaluation; a stable hash of its text decides."""
    bucket = int.from_bytes(hashlib.sha256(program.strip().encode("utf-8", "surrogatepass")).digest()[:4], "little")
    return bucket % HELD_OUT_ONE_IN == 0


def _attempt(depth: int, rng: Generator, literal: int) -> Solved | None:
    """One try with literals up to ``literal``.

    ``None`` when a value leaves the range, a line repeats, or the first line turns out dead.
    """
    first = _pick(rng, VARIABLES)
    largest = WIDEST * literal
    values = {first: int(rng.integers(literal + 1))}
    steps = [_Step(f"{first}={values[first]}", first, values[first])]
    for _ in range(depth - 1):
        step = _statement(rng, values, literal)
        if step.line == steps[-1].line or (step.value is not None and abs(step.value) > largest):
            return None
        if step.value is not None:
            values[step.name] = step.value
        steps.append(step)
    line, printed = _print(rng, values, steps[-1].name, literal)
    lines = [step.line for step in steps] + [line]
    if abs(printed) > largest or _first_line_is_dead(lines):
        return None
    trace = tuple(f"{step.name}={step.value}" for step in steps if step.value is not None)
    return Solved("\n".join(lines), trace, str(printed))


def _statement(rng: Generator, values: dict[str, int], literal: int) -> _Step:
    """A line that reads at least one defined variable; two-variable forms appear once two are defined."""
    names = sorted(values)
    x = _pick(rng, names)
    if len(names) > 1 and rng.integers(2):
        y = _pick(rng, [name for name in names if name != x])
        return _of_two(rng, values, x, y)
    return _of_one(rng, values, x, literal)


def _of_one(rng: Generator, values: dict[str, int], x: str, literal: int) -> _Step:
    target = _pick(rng, VARIABLES)
    small, factor = int(rng.integers(1, literal + 1)), int(rng.integers(2, 4))
    old = values[x]
    forms = (
        _Step(f"{target}={x}+{small}", target, old + small),
        _Step(f"{target}={x}-{small}", target, old - small),
        _Step(f"{target}={x}*{factor}", target, old * factor),
        _Step(f"{x}+={small}", x, old + small),
        _Step(f"{x}-={small}", x, old - small),
        _Step(f"{x}*={factor}", x, old * factor),
        _Step(f"{x}={x}%7", x, old % 7),
        _Step(f"{x}={x}//2", x, old // 2),
    )
    return forms[int(rng.integers(len(forms)))]


def _of_two(rng: Generator, values: dict[str, int], x: str, y: str) -> _Step:
    target = _pick(rng, VARIABLES)
    p, q = values[x], values[y]
    forms = (
        _Step(f"{target}={x}+{y}", target, p + q),
        _Step(f"{target}={x}-{y}", target, p - q),
        _Step(f"{x}+={y}", x, p + q),
        _Step(f"{x}-={y}", x, p - q),
        _Step(f"{target}=max({x},{y})", target, max(p, q)),
        _Step(f"{target}=min({x},{y})", target, min(p, q)),
        _Step(f"if {x}>{y}:{x}={y}", x, q if p > q else None),
        _Step(f"if {x}<{y}:{x}={y}", x, q if p < q else None),
    )
    return forms[int(rng.integers(len(forms)))]


def _print(rng: Generator, values: dict[str, int], last: str, literal: int) -> tuple[str, int]:
    """The print line and its value; it always reads the variable set last, so the last line is never dead."""
    others = [name for name in sorted(values) if name != last]
    kind = int(rng.integers(6))
    if kind == 0:
        small = int(rng.integers(1, literal + 1))
        return f"print({last}-{small})", values[last] - small
    if kind <= 2 and others:
        other = _pick(rng, others)
        return f"print({last}+{other})", values[last] + values[other]
    return f"print({last})", values[last]


def _first_line_is_dead(lines: list[str]) -> bool:
    """Whether the first variable is set again, or never mentioned, before anything reads it."""
    name = lines[0][0]
    for line in lines[1:]:
        if name in line.removeprefix(f"{name}=").replace("print", "").replace("max", "").replace("min", ""):
            return False
        if line.startswith(f"{name}="):
            return True
    return True


def _pick(rng: Generator, options: str | list[str]) -> str:
    return options[int(rng.integers(len(options)))]


@dataclass(frozen=True, slots=True)
class Longer:
    """A program that goes on from another: the ``rest`` reads what that one prints from the variable ``name``."""

    program: str
    name: str
    rest: str
    output: str


def go_on(program: str, printed: str, rng: Generator) -> Longer | None:
    """``program`` with a last step or two on what it prints, on the training side of the split.

    ``None`` where it does not end in ``print(...)`` or does not print a whole number.
    """
    *lines, last = program.split("\n")
    if not (last.startswith("print(") and last.endswith(")") and re.fullmatch(r"-?\d{1,9}", printed, re.ASCII)):
        return None
    name, value = VARIABLES[0], int(printed)
    largest = max(WIDEST * LITERAL, abs(value))
    while True:
        step = _of_one(rng, {name: value}, name, LITERAL)
        shown = _print(rng, {step.name: step.value or 0}, step.name, LITERAL)
        rest = f"{step.line}\n{shown[0]}"
        whole = "\n".join([*lines, f"{name}={last[6:-1]}", rest])
        if max(abs(step.value or 0), abs(shown[1])) <= largest and not held_out(whole):
            return Longer(whole, name, rest, str(shown[1]))


def outputs(name: str, rest: str, inputs: Iterable[int]) -> list[str]:
    """What ``rest``, text of this generator and of nobody else, prints with ``name`` set to each of the inputs.

    >>> outputs("a", "b=a+5\\nprint(b-1)", [2, 7])
    ['6', '11']
    """
    lines = rest.split("\n")
    body, printed = lines[:-1], lines[-1].removeprefix("print(").removesuffix(")")
    code = compile("\n".join([*body, f"shown={printed}"]), "generated", "exec")
    found = []
    for value in inputs:
        names: dict[str, Any] = {name: value, "__builtins__": {"max": max, "min": min}}
        exec(code, names)  # our own text: sums, products and comparisons of small numbers
        found.append(str(names["shown"]))
    return found
