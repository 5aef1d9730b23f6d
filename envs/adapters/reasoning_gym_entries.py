"""The far end of ``reasoning_gym.py``: makes entries and scores answers in a process of its own.

Nine of the library's scorers evaluate the answer as Python; such an answer must be a plain expression first.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import json
import re
from fractions import Fraction
from functools import cache, lru_cache
from types import CodeType, FunctionType
from typing import Any

from .globals import need
from .reasoning_gym_solutions import solution

_EVALUATING = {"eval", "exec", "parse_expr", "sympify"}
_MATHS = {
    "sqrt", "exp", "log", "ln", "sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan",
    "sinh", "cosh", "tanh", "Abs", "pi", "E", "C", "Rational", "Integer",
}  # fmt: skip
_SUMS = ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod
_TOLERANCE = 1e-4
_LARGEST_POWER = 10_000  # of all exponents multiplied: more digits than any answer has
_LONGEST = 20_000
_WHOLE = {"acre", "gsm_symbolic", "list_functions", "word_ladder"}  # they draw all entries when they are made
_EXAMPLES = {
    "graph_color": "possible_answer",
    "propositional_logic": "example_answer",
}  # many answers are right, and the library keeps one beside the entry
_NOT_FINITE = {"complex_arithmetic"}  # nan is at no distance from anything, which its scorer takes for right
_PREFIX = {"coin_flip"}  # its scorer pays a prefix of the answer, such as 0, in full
_OTHER_NUMBERS = {"puzzle24"}  # its scorer takes any four numbers that make 24
_TWO_WORDS = {"game_of_life_halting"}  # its scorer takes any words for True; compared as a word here


def prepare() -> None:
    """Import the library."""
    _factory()


def names() -> list[str]:
    """Every dataset but the mixture, which mixes by itself."""
    return sorted(name for name in _factory().DATASETS if name != "composite")


def claimed(name: str) -> int:
    """How many levels the library's curriculum names; 0 without one."""
    if name not in _factory().CURRICULA:
        return 0
    return max((len(one.levels) for one in _factory().CURRICULA[name]().attributes.values()), default=0)


def levels(name: str) -> int:
    """How many of them, from the first on, give a configuration that the dataset itself accepts."""
    for level in range(claimed(name)):
        try:
            config = _config(name, (), level, 0)
            if hasattr(config, "validate"):
                config.validate()
        except Exception:  # assertions, most of them: the curriculum asks for more than the dataset can do
            return level
    return claimed(name)


def check(name: str, options: dict[str, Any]) -> str:
    """What is wrong with these options, in words; empty when nothing is."""
    try:
        _dataset(name, _frozen(options), None)
    except Exception as error:  # an assertion, a missing argument, a wrong type: all mean the options do not fit
        return f"{type(error).__name__}: {error}"
    return ""


def make(name: str, options: dict[str, Any], level: int | None, seed: int) -> dict[str, Any]:
    """Question and answer of the entry that ``seed`` gives, and what its scorer says of the library's own answer."""
    entry = _entry(name, _frozen(options), level, seed)
    reference = _reference(name, entry)
    proof = None if reference is None else score(name, options, level, seed, reference)[0]
    return {"question": entry["question"], "answer": reference, "proof": proof}


def solve(name: str, options: dict[str, Any], level: int | None, seed: int) -> str | None:
    """A right answer of an entry that keeps none; ``None`` when there is no way here to one the scorer takes."""
    found = solution(name, _entry(name, _frozen(options), level, seed))
    return found if found is not None and score(name, options, level, seed, found)[0] == 1.0 else None


def score(name: str, options: dict[str, Any], level: int | None, seed: int, answer: str) -> tuple[float, str]:
    """The library's score of ``answer``, and a remark."""
    entry = _entry(name, _frozen(options), level, seed)
    dataset = _dataset(name, _frozen(options), level)
    known = _reference(name, entry)
    given = known is not None and answer.strip() == known.strip()
    if name in _TWO_WORDS:
        return float(given), ""
    if not given and _evaluates(name) and not harmless(answer):
        return 0.0, "no plain expression, and this scorer would run it as code"
    if name in _NOT_FINITE and re.search(r"nan|inf", answer.casefold()):
        return 0.0, "no finite number"
    if name in _OTHER_NUMBERS and sorted(re.findall(r"\d+", answer)) != sorted(map(str, entry["metadata"]["numbers"])):
        return 0.0, "not the numbers of the task"
    value = float(dataset.score_answer(answer, entry))
    if name in _PREFIX and value >= 1.0 and not given and abs(Fraction(answer) - Fraction(str(known))) > _TOLERANCE:
        return 0.0, "a prefix of the answer"
    return value, ""


def _reference(name: str, entry: dict[str, Any]) -> str | None:
    """An answer that is right, where the library knows one."""
    known = entry["answer"] if name not in _EXAMPLES else entry["metadata"][_EXAMPLES[name]]
    if known is None or isinstance(known, str):
        return known
    return json.dumps(known)


def _factory() -> Any:
    need("reasoning_gym", "reasoning-gym")
    return need("reasoning_gym.factory", "reasoning-gym")


def _frozen(options: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted((key, tuple(one) if isinstance(one, list) else one) for key, one in options.items()))


def _config(name: str, options: tuple[Any, ...], level: int | None, seed: int) -> Any:
    factory = _factory()
    given = {key: list(one) if isinstance(one, tuple) else one for key, one in options}
    base = {"seed": seed, "size": 1 if name in _WHOLE else 1 << 31, **given}
    if level is None or name not in factory.CURRICULA:
        return factory.DATASETS[name][1](**base)
    curriculum = factory.CURRICULA[name]()
    curriculum.set_global_level(level)
    return dataclasses.replace(curriculum.generate_configuration(base), **given)  # the scenario stands above the level


@lru_cache(64)
def _dataset(name: str, options: tuple[Any, ...], level: int | None, seed: int = 0) -> Any:
    return _factory().DATASETS[name][0](_config(name, options, level, seed))


@lru_cache(512)
def _entry(name: str, options: tuple[Any, ...], level: int | None, seed: int) -> dict[str, Any]:
    whole = name in _WHOLE
    entry: dict[str, Any] = _dataset(name, options, level, seed)[0] if whole else _dataset(name, options, level)[seed]
    return entry


@cache
def _evaluates(name: str) -> bool:
    return evaluates(_factory().DATASETS[name][0])


def evaluates(kind: Any) -> bool:
    """Whether the scorer of this kind of dataset, or a function of the library that it calls, runs text as Python."""
    seen: set[CodeType] = set()
    waiting = [kind.score_answer]
    while waiting:
        code = getattr(waiting[-1], "__code__", None)
        scope = getattr(waiting.pop(), "__globals__", {})
        if code is None or code in seen:
            continue
        seen.add(code)
        for name in code.co_names:
            found = scope.get(name, getattr(kind, name, None) or getattr(builtins, name, None))
            ours = isinstance(found, FunctionType) and found.__module__.startswith("reasoning_gym")
            if name in _EVALUATING and not ours:
                return True
            if ours:
                waiting.append(found)
    return False


def harmless(text: str) -> bool:
    """Whether ``text`` is arithmetic, a name or function of mathematics, or lists of constants, and stays small.

    >>> harmless("(3 + 4)*x**2"), harmless("[[0, 1], [1, 0]]"), harmless("__import__('os')"), harmless("9**9**9")
    (True, True, False, False)
    """
    if len(text) > _LONGEST:
        return False
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval").body))
        powers = [_size(node.right) for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    product = 1.0
    for power in powers:
        product *= max(1.0, power)
    lists = any(isinstance(node, ast.List | ast.Tuple) for node in nodes)
    return product <= _LARGEST_POWER and all(_allowed(node, lists) for node in nodes)


def _size(exponent: ast.expr) -> float:
    """An upper bound of an exponent; a power in it has none worth computing."""
    size = 1.0
    for node in ast.walk(exponent):
        if isinstance(node, ast.Pow):
            return float("inf")
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            size *= 1.0 + min(abs(node.value), _LARGEST_POWER)
    return size


def _allowed(node: ast.AST, lists: bool) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _MATHS or (len(node.id) == 1 and node.id.isascii())
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _MATHS and not node.keywords and not lists
    if isinstance(node, ast.Constant):
        number = isinstance(node.value, int | float) and abs(node.value) < 1e30
        return number or (lists and isinstance(node.value, str))
    if isinstance(node, ast.BinOp):
        return not lists and isinstance(node.op, _SUMS | ast.Pow)
    kinds = ast.UnaryOp | ast.UAdd | ast.USub | ast.List | ast.Tuple | ast.expr_context | _SUMS | ast.Pow
    return isinstance(node, kinds)
