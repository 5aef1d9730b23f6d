"""Abduction: a program and what it prints are given; any input under which it prints that is right, found by running.

The program's first line is ``NAME=?`` and the question mark is what is asked for (after arXiv 2505.03335).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.random import Generator

from sparring.envs.types import Score, Task
from sparring.scenarios.errors import ScenarioError

from ..answers import strip_fences
from ..outcome import Outcome
from ..programs import DEEPEST, outputs, write_solved
from .base import LONGEST_VALUE, Mode, Refused, Split, answer_of, on_held_out_side, read_value, verdict, without
from .predict_output import check_depth, count_lines, not_a_task, program_of

_FIRST = re.compile(r"([A-Za-z_][A-Za-z_0-9]{0,30})[ \t]*=[ \t]*(\S[^\n]*)\n(.*)", re.ASCII | re.DOTALL)
_TRIED = range(10)  # inputs a generated program is looked at with
_MOST_RIGHT = 2  # of them; with more, guessing would pay
_OTHERS: tuple[Any, ...] = (
    0,
    1,
    2,
    -5,
    17,
    "",
    "ab",
    [],
    [3, 1],
)  # a proposed program must not print one thing for all of these


class FindInput(Mode):
    """Say which input makes the program print this; a number, or a value written as JSON.

    A row has ``program``, whose first line is ``NAME=?``, and ``input``. A proposal is a program whose first line gives
    the variable a value.
    """

    name = "find_input"
    parameters: ClassVar = {"depth": range(2, DEEPEST + 1)}
    row_fields: ClassVar = {"program": str}
    payload_fields = ("program", "output")

    def sample(self, parameters: Mapping[str, Any], rng: Generator, split: Split) -> Task:
        """A generated program of ``depth`` lines that few of the inputs 0 to 9 take to the output shown."""
        depth = int(parameters.get("depth", 2))
        if not 2 <= depth <= DEEPEST:
            raise ValueError(f"depth is {depth}; a program with an input has 2 to {DEEPEST} lines")
        while True:
            solved = write_solved(depth, rng)
            name, value, rest = _parts(solved.program)
            asked = f"{name}=?\n{rest}"
            if on_held_out_side(asked) != (split == "held_out"):
                continue
            if outputs(name, rest, _TRIED).count(solved.output) <= _MOST_RIGHT:
                return self._made(asked, solved.output, value, parameters, "generator")

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """The first line's value is the example input; the program must run, repeat itself, and heed its input."""
        program = strip_fences(text)
        self.desk.check_text(program)
        check_depth(program, parameters)
        name, value, rest = _parts(program)
        try:
            read_value(value)
        except ValueError as error:
            raise Refused("input", f"{name} is no number, and no value in JSON: {error}") from None
        output = self._output(name, value, rest)
        self._heeds(name, rest, output)
        return self.desk.check_free(self._made(f"{name}=?\n{rest}", output, value, parameters, "proposal"))

    def from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """Run the row's program with its ``input`` for the output; a given ``output`` must agree."""
        program = program_of(row, where)
        if "input" not in row:
            raise ScenarioError(f"{where}: field 'input' is missing; the row has {', '.join(row)}")
        value = json.dumps(row["input"])
        try:
            name, mark, rest = _parts(program)
            if len(value) > LONGEST_VALUE:
                raise ScenarioError(f"{where}: input has {len(value)} characters in JSON, at most {LONGEST_VALUE}")
            if mark != "?":
                raise ScenarioError(f"{where}: the first line must be {name}=?, it is {program.splitlines()[0]!r:.60}")
            output = self._output(name, value, rest)
        except Refused as refused:
            raise not_a_task(refused, where) from None
        if str(row.get("output", output)).strip() != output:
            raise ScenarioError(f"{where}: output is {row['output']!r:.60}, but it prints {output!r:.60}; correct one")
        known = {name: row[name] for name in self.parameters if name in row}
        parameters = {"depth": count_lines(program), **known}
        extra = without(row, ("program", "input", "output", *self.parameters))
        return self._made(f"{name}=?\n{rest}", output, value, parameters, where, extra)

    def begin(self, task: Task) -> str:
        """The program and what it prints."""
        return f"{task.payload['program']}\n{task.payload['output']}"

    def verify(self, task: Task, said: str) -> Score:
        """Run the program with the input given; the trusted side writes the value down, so it cannot be code."""
        answer, none = answer_of(said)
        if answer is None:
            return none
        try:
            value = read_value(answer)
        except ValueError:
            return verdict(0.0, "no value: a number or JSON is needed")
        name, _, rest = _parts(str(task.payload["program"]))
        ran = self.desk.sandbox().run(f"{name}={value!r}\n{rest}", limits=self.desk.limits)
        if ran.outcome is Outcome.SANDBOX_ERROR:
            return Score.invalid("verifier", "code", ran.stderr_tail)
        if ran.outcome is not Outcome.OK:
            return verdict(0.0, str(ran.outcome))
        right = ran.stdout.strip() == task.payload["output"]
        return verdict(float(right), "right" if right else "wrong")

    def junk(self, task: Task) -> tuple[str, ...]:
        """Also the output, the program, and a program as the input."""
        payload = task.payload
        offered = (payload["program"], f'{payload["output"]}"', f'print("{payload["output"]}")')
        return (*super().junk(task), *(f"<answer>{text}</answer>" for text in offered))

    def _output(self, name: str, value: str, rest: str) -> str:
        filled = f"{name}={read_value(value)!r}\n{rest}"
        output = self.desk.printed(self.desk.run(filled))
        if self.desk.printed(self.desk.run(filled, variant=1)) != output:
            raise Refused("nondeterministic", "two runs printed different text")
        return output

    def _heeds(self, name: str, rest: str, output: str) -> None:
        sandbox = self.desk.sandbox()
        for other in _OTHERS:
            ran = sandbox.run(f"{name}={other!r}\n{rest}", limits=self.desk.limits)
            if ran.outcome is Outcome.SANDBOX_ERROR:
                raise Refused("sandbox", ran.stderr_tail[-200:])
            if ran.outcome is not Outcome.OK or ran.stdout.strip() != output:
                return
        raise Refused("insensitive", "it prints the same whatever the input")

    def _made(
        self,
        program: str,
        output: str,
        value: str,
        parameters: Mapping[str, Any],
        origin: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Task:
        payload = {"program": program, "output": output, **(extra or {})}
        return self.task(payload, {"reference": value}, parameters, origin)


def _parts(program: str) -> tuple[str, str, str]:
    """The first line's name and value, and the rest of the program."""
    found = _FIRST.fullmatch(program)
    if found is None:
        raise Refused("input", "the first line must be NAME=VALUE, and more must follow")
    return found[1], found[2].strip(), found[3]
