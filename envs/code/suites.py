"""Tests as data: a call with its expected value where a test says just that, a script where it says more.

What is read here is a data set's or our own, never a model's: ``ast`` is not safe for hostile text.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .jail.plain import NotPlain, encode

_LONGEST = 200_000  # characters of one test


class UnreadableTest(ValueError):
    """A test that is no Python, or that calls nothing; the text says which and why."""


@dataclass(frozen=True)
class Case:
    """One call and what it must return, both plain data."""

    arguments: tuple[Any, ...]
    expected: Any
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Script:
    """A test that does more than compare one call with one value: it runs where the candidate cannot see it."""

    text: str


Test = Case | Script


@lru_cache(maxsize=2048)
def read_test(text: str, entry_point: str) -> tuple[Test, ...]:
    """The tests in one text: ``f(2) == 5``, ``assert ...`` lines, or a ``def check(candidate)`` as HumanEval has it.

    Asserts that compare a call of ``entry_point`` (or ``candidate``) on literals with a literal become cases; if
    anything else is in the text, all of it is one script. Raises ``UnreadableTest``.
    """
    if len(text) > _LONGEST:
        raise UnreadableTest(f"a test of {len(text)} characters, at most {_LONGEST}")
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnreadableTest(f"{text.strip()[:60]!r} is no Python: {error}") from None
    names = {entry_point, "candidate"}
    statements = _checked(body)
    cases = [_case(statement, names) for statement in statements if not _says_nothing(statement)]
    if cases and all(case is not None for case in cases):
        return tuple(case for case in cases if case is not None)
    if not any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(ast.Module(body, []))):
        raise UnreadableTest(f"{text.strip()[:60]!r} never calls {entry_point!r}")
    if len(body) == 1 and isinstance(body[0], ast.Expr):
        return (Script(f"assert {text.strip()}"),)
    return (Script(text),)


def read_tests(texts: Iterable[str], entry_point: str) -> tuple[Test, ...]:
    """The tests in several texts, in order. Raises ``UnreadableTest``."""
    return tuple(test for text in texts for test in read_test(text, entry_point))


def entry_point_of(texts: Sequence[str]) -> str | None:
    """The function that the first assert calls and that no builtin is called like, if there is one."""
    for name in re.findall(r"\b([A-Za-z_]\w*)\(", " ".join(texts).replace("assert", " ")):
        if not hasattr(builtins, name):
            return str(name)
    return None


def _checked(body: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    """The statements that test: those of ``check`` when there is one beside plain assignments."""
    checks = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if not checks:
        return body
    return checks[0].body if all(node is checks[0] or _says_nothing(node) for node in body) else body


def _says_nothing(node: ast.stmt) -> bool:
    """Doc strings, ``pass``, ``METADATA = {...}`` and asserts of a constant that holds."""
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and bool(node.test.value)
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id == "METADATA" for target in node.targets)
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _case(node: ast.stmt, names: set[str]) -> Case | None:
    """``assert CALL == LITERAL`` either way round, ``assert CALL is LITERAL`` for None and bools; else ``None``."""
    test = node.test if isinstance(node, ast.Assert) else node.value if isinstance(node, ast.Expr) else None
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    sides = [test.left, test.comparators[0]]
    if isinstance(sides[1], ast.Call) and not isinstance(sides[0], ast.Call):
        sides.reverse()
    call, literal = sides
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names):
        return None
    try:
        expected = ast.literal_eval(literal)
        arguments = tuple(ast.literal_eval(argument) for argument in call.args)
        named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords if word.arg is not None}
    except (ValueError, TypeError, RecursionError):
        return None
    if any(word.arg is None for word in call.keywords) or not _compares(test.ops[0], expected):
        return None
    if not _plain([expected, arguments, named]):
        return None
    return Case(arguments, expected, named)


def _compares(operator: ast.cmpop, expected: Any) -> bool:
    return isinstance(operator, ast.Eq) or (isinstance(operator, ast.Is) and type(expected) in (bool, type(None)))


def _plain(value: Any) -> bool:
    """Whether it may cross to the candidate and back."""
    try:
        encode(value)
    except NotPlain:
        return False
    return True
