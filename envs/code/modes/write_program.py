"""Induction: from examples of what goes in and comes out, write the function; other examples are kept back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from numpy.random import Generator

from sparring.envs.types import Task
from sparring.scenarios.errors import ScenarioError

from ..suites import Case, UnreadableTest, read_tests
from .base import Split, without
from .expressions import DEEPEST, FAMILIES, INPUTS, write_linear, write_telling
from .graded import ENTRY, Graded, as_function, kept_back, tests_of
from .proposals import as_test, examine, refuse_held_out


class WriteProgram(Graded):
    """Write ``f`` from examples: an expression in its parameters, or a whole ``def f``.

    Of a row, ``examples`` are shown and ``tests`` are not, both texts like ``f(2) == 5``; ``message`` and ``reference``
    may be there. A proposal is a function, or an expression in x; lines ``# input: [2]`` say what it is called with.
    """

    name = "write_program"
    parameters: ClassVar = {"depth": range(1, DEEPEST + 1), "family": FAMILIES}
    row_fields: ClassVar = {"examples": list, "tests": list}
    payload_fields = ("examples", "signature", "message")

    def sample(self, parameters: Mapping[str, Any], rng: Generator, split: Split) -> Task:
        """A function of ``depth`` steps on small numbers that the examples shown leave no doubt about.

        ``family: linear`` are those that multiply and then add, whatever the depth says.
        """
        if parameters.get("family") == "linear":
            found, shown = write_linear(rng, split, self.options.shown)
        else:
            found, shown = write_telling(int(parameters.get("depth", 1)), rng, split, self.options.shown)
        others = [value for value in INPUTS if value not in shown]
        kept = sorted(int(value) for value in rng.choice(others, size=self.options.hidden, replace=False))
        examples = [((value,), found.at(value)) for value in shown]
        tests = [as_test(ENTRY, (value,), found.at(value)) for value in kept]
        return self._made(examples, tests, found.text, f"{ENTRY}(x)", parameters, "generator")

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A function that gives plain, short values, the same ones each time, and not one value for everything."""
        wanted = self.options.shown + self.options.hidden
        seen = examine(self.desk, text, rng, wanted, ENTRY)
        refuse_held_out(self.desk, seen)
        pairs = list(zip(seen.calls, seen.values, strict=True))
        shown, kept = pairs[: self.options.shown], pairs[self.options.shown :]
        tests = [as_test(ENTRY, arguments, value) for arguments, value in kept]
        task = self._made(shown, tests, seen.source, seen.signature, parameters, "proposal")
        return self.desk.check_free(task)

    def from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """Examples and tests as the row has them; its ``reference`` must pass both."""
        shown, tests = tests_of(row, ("examples",), where), tests_of(row, ("tests",), where)
        try:
            cases = read_tests(shown, ENTRY)
        except UnreadableTest as error:
            raise ScenarioError(f"{where}: {error}") from None
        examples = [(case.arguments, case.expected) for case in cases if isinstance(case, Case) and not case.named]
        if len(examples) != len(cases):
            raise ScenarioError(f"{where}: every example must read {ENTRY}(...) == VALUE")
        width = len(examples[0][0])
        signature = f"{ENTRY}({', '.join('xyzabcd'[:width])})"
        extra = without(row, ("examples", "tests", "reference", *self.parameters))
        known = {name: row[name] for name in self.parameters if name in row}
        task = self._made(examples, tests, row.get("reference"), signature, known, where, extra)
        return self.checked(task, where)

    def begin(self, task: Task) -> str:
        """One example a line."""
        return "\n".join(f"{example['input']} {example['output']}" for example in task.payload["examples"])

    def shown(self, task: Task) -> Sequence[str]:
        """The examples."""
        return [f"{ENTRY}({example['input']}) == {example['output']}" for example in task.payload["examples"]]

    def source(self, task: Task, answer: str) -> str:
        """The definition, or the expression as its body."""
        return as_function(answer, str(task.payload["signature"]))

    def junk(self, task: Task) -> tuple[str, ...]:
        """Also a table of the examples."""
        table = {example["input"]: example["output"] for example in task.payload["examples"]}
        body = ", ".join(f"({key},): {value}" for key, value in table.items())
        return (*super().junk(task), f"<answer>def {ENTRY}(*a): return {{{body}}}.get(a)</answer>")

    def _made(
        self,
        examples: Sequence[tuple[Sequence[Any], Any]],
        tests: Sequence[str],
        reference: str | None,
        signature: str,
        parameters: Mapping[str, Any],
        origin: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Task:
        shown = [{"input": ", ".join(map(repr, given)), "output": repr(value)} for given, value in examples]
        secret = kept_back(tests, reference)
        payload = {"examples": shown, "signature": signature, "message": "", **(extra or {})}
        return self.task(payload, secret, parameters, origin)
