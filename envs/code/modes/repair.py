"""Repair: a program with one slip and a test that shows it; hidden tests decide whether it is mended."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from numpy.random import Generator

from sparring.envs.types import Task

from ..same import same
from .base import Refused, Split, without
from .expressions import DEEPEST, INPUTS, Expression, write_telling
from .graded import ENTRY, Graded, as_function, kept_back, tests_of
from .predict_output import program_of
from .proposals import as_test, examine, refuse_held_out, returned, signature_of

_SLIPS = {"+": "-", "-": "+", "*": "+", "<": "<=", ">": ">=", "<=": "<", ">=": ">", "min": "max", "max": "min"}
_TOKEN = re.compile(r"<=|>=|(?<![*/<>=!])[-+*<>](?![*/=<>])|\bmin\b|\bmax\b|(?<![\w.])\d{1,4}(?![\w.])")
_MOST_MUTANTS = 6  # of a proposal are run in search of one that shows


class Repair(Graded):
    """Mend a function: the whole definition, or, of one that only returns, the expression.

    A row has ``program``, ``failing`` (a text like ``f(2) == 5``, shown), ``tests`` (hidden) and, unless it is ``f``,
    ``entry_point``; its ``reference`` must pass. A proposal is a function that is right; one slip is put into it.
    """

    name = "repair"
    parameters: ClassVar = {"depth": range(1, DEEPEST + 1)}
    row_fields: ClassVar = {"program": str, "failing": str, "tests": list}
    payload_fields = ("program", "failing", "given", "entry_point")

    def sample(self, parameters: Mapping[str, Any], rng: Generator, split: Split) -> Task:
        """A function of ``depth`` steps in which one operator or constant is another."""
        shows: list[int] = []
        while not shows:
            right, kept = write_telling(int(parameters.get("depth", 1)), rng, split, self.options.hidden)
            broken = right.mutant(rng)
            shows = [value for value in INPUTS if value not in kept and right.at(value) != broken.at(value)]
        shown = shows[int(rng.integers(len(shows)))]
        tests = [as_test(ENTRY, (value,), right.at(value)) for value in kept]
        failing, given = as_test(ENTRY, (shown,), right.at(shown)), repr(broken.at(shown))
        return self._made(_define(broken), failing, given, ENTRY, tests, _define(right), parameters, "generator")

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """The function as proposed is the reference; the first slip that changes a value makes the task."""
        seen = examine(self.desk, text, rng, self.options.shown + self.options.hidden, ENTRY)
        refuse_held_out(self.desk, seen)
        broken, differs, given = self._slipped(seen.source, seen.calls, seen.values, rng)
        pairs = list(zip(seen.calls, seen.values, strict=True))
        failing = as_test(ENTRY, *pairs[differs])
        tests = [as_test(ENTRY, *pair) for index, pair in enumerate(pairs) if index != differs]
        return self.desk.check_free(
            self._made(broken, failing, repr(given), ENTRY, tests, seen.source, parameters, "proposal")
        )

    def from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """Program and tests as the row has them."""
        program, entry = program_of(row, where), str(row.get("entry_point", ENTRY))
        failing, tests = tests_of(row, ("failing",), where), tests_of(row, ("tests",), where)
        reference = row.get("reference")
        known = {name: row[name] for name in self.parameters if name in row}
        extra = without(row, ("program", "failing", "tests", "reference", "entry_point", *self.parameters))
        given = str(extra.pop("given", ""))
        made = self._made(program, failing[0], given, entry, tests, reference, known, where, extra)
        return self.checked(made, where)

    def begin(self, task: Task) -> str:
        """The program, the test it fails, and what it gives instead."""
        payload = task.payload
        gives = f"\nbut gives {payload['given']}" if payload["given"] else ""
        return f"{payload['program']}\nmust hold: {payload['failing']}{gives}"

    def shown(self, task: Task) -> Sequence[str]:
        """The failing test."""
        return [str(task.payload["failing"])]

    def source(self, task: Task, answer: str) -> str:
        """The definition, or the expression that the broken one's signature returns."""
        entry = self.entry(task)
        signature = signature_of(str(task.payload["program"]), entry)
        return answer if signature is None else as_function(answer, signature)

    def junk(self, task: Task) -> tuple[str, ...]:
        """Also the broken program given back."""
        return (*super().junk(task), f"<answer>{task.payload['program']}</answer>")

    def _slipped(
        self, source: str, calls: Sequence[Sequence[Any]], values: Sequence[Any], rng: Generator
    ) -> tuple[str, int, Any]:
        """A broken copy, the place of a call that shows it, and what that call gives."""
        mutants = list(_mutants(source))
        for index in rng.permutation(len(mutants))[:_MOST_MUTANTS]:
            try:
                found = returned(self.desk, mutants[int(index)], ENTRY, calls)
            except Refused as refused:
                if refused.refusal.reason == "sandbox":
                    raise
                continue
            pairs = enumerate(zip(values, found, strict=True))
            differing = [place for place, (one, two) in pairs if not same(one, two)]
            if differing:
                place = differing[int(rng.integers(len(differing)))]
                return mutants[int(index)], place, found[place]
        raise Refused("insensitive", "no slip of one operator or constant changes what it returns")

    def _made(
        self,
        program: str,
        failing: str,
        given: str,
        entry_point: str,
        tests: list[str],
        reference: str | None,
        parameters: Mapping[str, Any],
        origin: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Task:
        payload = {"program": program, "failing": failing, "given": given, "entry_point": entry_point, **(extra or {})}
        secret = kept_back(tests, reference)
        return self.task(payload, secret, parameters, origin)


def _define(found: Expression) -> str:
    return f"def {ENTRY}(x):\n    return {found.text}"


def _mutants(source: str) -> Iterator[str]:
    """Copies in which one operator or one number below the signature is another."""
    head, colon, body = source.partition(":\n")
    if not colon:
        head, colon, body = source.partition(":")
    for found in _TOKEN.finditer(body):
        word = found[0]
        for other in (_SLIPS[word],) if word in _SLIPS else (str(int(word) + 1), str(max(0, int(word) - 1))):
            if other != word:
                yield f"{head}{colon}{body[: found.start()]}{other}{body[found.end() :]}"
