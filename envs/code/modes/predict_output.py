"""Deduction: say what a short program prints. Programs come from the generator, a file, or a teacher."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from numpy.random import Generator

from sparring.envs.types import Criterion, Score, Task
from sparring.scenarios.errors import ScenarioError

from ..answers import parse, strip_fences
from ..programs import DEEPEST, MAGNITUDES, go_on, write_solved
from .base import Mode, Refused, Split, without


class PredictOutput(Mode):
    """Say what the program prints. A row has ``program``, and ``answer`` if its output is to be checked."""

    name = "predict_output"
    disclosures = ("reference", "trace")
    row_fields: ClassVar = {"program": str}
    payload_fields = ("program", "rest", "name")
    ranges: ClassVar = {"depth": (1, DEEPEST), "magnitude": MAGNITUDES}

    def sample(self, parameters: Mapping[str, Any], rng: Generator, split: Split) -> Task:
        """A generated program of ``depth`` assignments, with literals up to 10 ** ``magnitude`` (9 when absent)."""
        solved = write_solved(int(parameters.get("depth", 1)), rng, split, parameters.get("magnitude"))
        return self._made(solved.program, solved.output, solved.trace, parameters, "generator")

    def similar(self, task: Task, rng: Generator) -> Task:
        """A program that goes on where this one ends; a generated one where what it prints is no whole number.

        Its payload also has ``rest``, the lines that were added; they begin with what this one prints in ``name``.
        """
        program, prints = str(task.payload["program"]).strip(), str(task.secret["reference"])
        longer = go_on(program, prints, rng)
        if longer is None:
            return super().similar(task, rng)
        begun = [*task.secret.get("trace", ()), f"{longer.name}={prints}"]
        parameters = {**task.parameters, "depth": min(DEEPEST, count_lines(longer.program))}
        extra = {"rest": longer.rest, "name": longer.name}
        return self._made(longer.program, longer.output, begun, parameters, "generator", extra)

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A program that runs, prints something short, and prints the same under other hash and random seeds.

        With ``depth`` among the parameters it must have that many lines beside blank lines, comments and prints.
        """
        program = strip_fences(text)
        self.desk.check_text(program)
        check_depth(program, parameters)
        with contextlib.suppress(UnicodeEncodeError):  # lone surrogates: not Python, the run will say so
            self.desk.check_free(Task("code", {"program": program}))
        first = self.desk.run(program, trace=True)
        output = self.desk.printed(first)
        if self.desk.printed(self.desk.run(program, variant=1)) != output:
            raise Refused("nondeterministic", "two runs printed different text")
        return self._made(program, output, first.trace, parameters, "proposal")

    def from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """Run the row's ``program`` for reference and trace; a given ``answer`` must agree. Others are payload."""
        program = program_of(row, where)
        try:
            ran = self.desk.run(program, trace=True)
            output = self.desk.printed(ran)
        except Refused as refused:
            raise not_a_task(refused, where) from None
        answer = row.get("answer")
        if answer is not None and str(answer).strip() != output:
            raise ScenarioError(
                f"{where}: answer is {answer!r:.60}, but the program prints {output!r:.60}; correct one"
            )
        extra = without(row, ("program", "answer", *self.parameters))
        known = {name: row[name] for name in self.parameters if name in row}
        return self._made(program, output, ran.trace, {"depth": count_lines(program), **known}, where, extra)

    def begin(self, task: Task) -> str:
        """The program."""
        return str(task.payload["program"])

    def verify(self, task: Task, said: str) -> Score:
        """Compare with what it printed."""
        return verify(said, str(task.secret["reference"]))

    def junk(self, task: Task) -> tuple[str, ...]:
        """The common ones, and the program itself offered as the answer."""
        empty, zeros, unclosed = super().junk(task)
        return (empty, f"<answer>{task.payload['program']}</answer>", zeros, unclosed)

    def _made(
        self,
        program: str,
        output: str,
        trace: Iterable[str],
        parameters: Mapping[str, Any],
        origin: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Task:
        payload = {"program": program, **(extra or {})}
        return self.task(payload, {"reference": output, "trace": list(trace)}, parameters, origin)


def verify(said: str, reference: str) -> Score:
    """1 when the last ``<answer>`` equals the printed output, both stripped; 0 otherwise, the note saying why."""
    parsed = parse(said)
    if not parsed.ok:
        return Score.valued("verifier", 0.0, by="code", note=parsed.problem or "no answer")
    right = parsed.value == reference.strip()
    return Score.valued("verifier", float(right), by="code", note="right" if right else "wrong")


def traced(task: Task) -> tuple[Criterion, ...]:
    """Criteria for a worked answer: the value each line sets, what is printed, and no answer without working."""
    steps = (step.partition("=") for step in task.secret["trace"])
    values = [Criterion(f"{name} is {value} after line {line}") for line, (name, _, value) in enumerate(steps, 1)]
    return (*values, Criterion(f"answer is {task.secret['reference']}", 2.0), Criterion("at most 1 words", -1.0))


def program_of(row: Mapping[str, Any], where: str) -> str:
    """The row's program; raises ``ScenarioError``."""
    program = row.get("program")
    if not isinstance(program, str) or not program.strip():
        raise ScenarioError(f"{where}: field 'program' must be a text with a Python program, got {program!r:.60}")
    return program


def not_a_task(refused: Refused, where: str) -> ScenarioError:
    """The error of a row whose program would be refused as a proposal."""
    reason = refused.refusal
    return ScenarioError(f"{where}: the program cannot be a task ({reason.reason}: {reason.detail})")


def check_depth(program: str, parameters: Mapping[str, Any]) -> None:
    """Refuse a program that has not as many lines as its depth says."""
    depth, lines = parameters.get("depth"), count_lines(program)
    if depth is not None and lines != int(depth):
        raise Refused("wrong_depth", f"{lines} lines beside prints, asked for {depth}")


def count_lines(program: str) -> int:
    """Lines that are neither blank, nor a comment, nor a print: the depth of a generated program."""
    lines = (line.strip() for line in program.splitlines())
    return sum(1 for line in lines if line and not line.startswith(("#", "print(", "print (")))
