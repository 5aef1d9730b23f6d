"""The code environment: predict what a short program prints. Programs come from the generator, a file, or a teacher."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field

from sparring.envs.base import Environment
from sparring.envs.types import Refusal, Score, Task
from sparring.scenarios.errors import SandboxUnavailable, ScenarioError
from sparring.scenarios.registry import environments

from .answers import parse, strip_fences
from .programs import DEEPEST, write_solved
from .sandbox import Limits, Outcome, Ran, Sandbox, borrow, give_back


class CodeOptions(BaseModel):
    """``tries``: scored answers per episode. ``max_chars``/``max_output``: longest program and output admitted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mode: Literal["predict_output"] = "predict_output"
    tries: int = Field(2, ge=1)
    max_chars: int = Field(400, ge=10)
    max_output: int = Field(80, ge=1)
    sandbox: Literal["auto", "namespaces", "landlock", "compute-only", "none"] = "auto"
    workers: int = Field(2, ge=1)
    wall_s: float = Field(2.0, gt=0)
    cpu_s: float = Field(1.0, gt=0)
    memory_mb: int = Field(256, ge=64)
    reserved: tuple[str, ...] = ()


class Refused(Exception):
    """Inside ``admit``: carries the refusal out of the checks."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(reason, detail)


@environments("code")
class CodeEnvironment(Environment):
    """Say what a short Python program prints.

    Reasons of a refusal: empty, too_long, wrong_depth, held_out, syntax, crash, timeout, output, nondeterministic and
    sandbox, the last being our own failure.
    """

    Config = CodeOptions
    parameters: ClassVar = {"depth": range(1, DEEPEST + 1)}
    disclosures = ("reference", "trace")
    row_fields: ClassVar = {"program": str}

    def __init__(
        self,
        config: BaseModel | Mapping[str, Any] | None = None,
        *,
        sandbox: Sandbox | None = None,
        allow_unsafe: bool = False,
    ) -> None:
        """``sandbox``: one to share, not closed here; by default one per process opens when first needed.

        ``allow_unsafe`` is the second yes that ``sandbox: none`` needs. Raises ``SandboxUnavailable`` without it.
        """
        super().__init__(config)
        if self.config.sandbox == "none" and not allow_unsafe:
            raise SandboxUnavailable(
                "environment code: sandbox: none runs what a model wrote with your own rights; allow it a second time,"
                " outside the scenario (allow_unsafe=True), or write sandbox: auto"
            )
        self._allow_unsafe = allow_unsafe
        self._sandbox = sandbox
        self._borrowed = False
        self._opening = threading.Lock()
        self._reserved = frozenset(self.config.reserved)
        self._limits = Limits(
            self.config.wall_s, self.config.cpu_s, self.config.memory_mb, 4 * self.config.max_output + 8
        )
        self.used = 0

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A generated program of ``depth``; ``split`` is ``train`` (default) or ``held_out``, told apart by hash."""
        wanted = dict(parameters)
        solved = write_solved(int(wanted.get("depth", 1)), rng, wanted.pop("split", "train"))
        return self._task(solved.program, solved.output, solved.trace, wanted, "generator")

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A generated program of the held-out split."""
        return super().held_out({**parameters, "split": "held_out"}, rng)

    def begin(self, task: Task) -> str:
        """The program."""
        self.used = 0
        return str(task.payload["program"])

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Compare the answer with what the program prints; a wrong one may be revised while tries are left."""
        assert self.task is not None, "reset first"
        self.used += 1
        score = verify(action, str(self.task.secret["reference"]))
        right = score.value == 1.0
        left = self.config.tries - self.used
        observation = "right" if right else f"{score.note}; tries left: {max(0, left)}"
        return observation, score.value or 0.0, right or left <= 0, False, {"scores": [score]}

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task | Refusal:
        """A program that runs, prints something short, and prints the same under other hash and random seeds.

        With ``depth`` among the parameters it must have that many lines beside blank lines, comments and prints.
        """
        program = strip_fences(text)
        try:
            self._admissible(program, parameters)
            first = self._ran(program, trace=True, variant=0)
            output = self._printed(first)
            if self._printed(self._ran(program, trace=False, variant=1)) != output:
                raise Refused("nondeterministic", "two runs printed different text")
        except Refused as refused:
            return refused.refusal
        return self._task(program, output, first.trace, parameters, "proposal")

    def task_from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """Run the row's ``program`` for reference and trace; a given ``answer`` must agree. Others are payload."""
        program = row.get("program")
        if not isinstance(program, str) or not program.strip():
            raise ScenarioError(f"{where}: field 'program' must be a text with a Python program, got {program!r:.60}")
        try:
            ran = self._ran(program, trace=True, variant=0)
            output = self._printed(ran)
        except Refused as refused:
            reason = refused.refusal
            raise ScenarioError(f"{where}: the program cannot be a task ({reason.reason}: {reason.detail})") from None
        answer = row.get("answer")
        if answer is not None and str(answer).strip() != output:
            raise ScenarioError(
                f"{where}: answer is {answer!r:.60}, but the program prints {output!r:.60}; correct one"
            )
        extra = {name: value for name, value in row.items() if name not in ("program", "answer", *self.parameters)}
        known = {name: row[name] for name in self.parameters if name in row}
        parameters = {"depth": count_lines(program), **known}
        return self._task(program, output, ran.trace, parameters, where, extra)

    def reserve(self, keys: Iterable[str]) -> None:
        """Task keys of the evaluation set: proposals equal to one of them are refused as ``held_out``."""
        self._reserved |= frozenset(keys)

    def junk_answers(self, task: Task) -> tuple[str, ...]:
        """The common ones, and the program itself offered as the answer."""
        program = str(task.payload["program"])
        tagged = ("<answer> </answer>", f"<answer>{program}</answer>", f"<answer>{'0' * 500}</answer>", "<answer>None")
        return (*super().junk_answers(task), *tagged)

    def state(self) -> object:
        """The number of answers given."""
        return self.used

    def set_state(self, state: Any) -> None:
        """Back to that number."""
        self.used = state

    def close(self) -> None:
        """Give the process-wide sandbox back; the last one to do so ends it."""
        with self._opening:
            if self._borrowed and self._sandbox is not None:
                give_back(self._sandbox)
                self._sandbox, self._borrowed = None, False

    def _admissible(self, program: str, parameters: Mapping[str, Any]) -> None:
        """The checks that need no run."""
        if not program.strip():
            raise Refused("empty", "no program")
        if len(program) > self.config.max_chars:
            raise Refused("too_long", f"{len(program)} characters, at most {self.config.max_chars}")
        depth, lines = parameters.get("depth"), count_lines(program)
        if depth is not None and lines != int(depth):
            raise Refused("wrong_depth", f"{lines} lines beside prints, asked for {depth}")
        with contextlib.suppress(UnicodeEncodeError):  # lone surrogates: not Python, the run will say so
            if Task("code", {"program": program}).key in self._reserved:
                raise Refused("held_out", "the program belongs to the evaluation set")

    def _ran(self, program: str, trace: bool, variant: int) -> Ran:
        """Run it; every ending but a good one raises ``Refused``."""
        with self._opening:
            if self._sandbox is None:
                self._sandbox = borrow(self.config.sandbox, self.config.workers, allow_unsafe=self._allow_unsafe)
                self._borrowed = True
            sandbox = self._sandbox
        ran = sandbox.run(program, trace=trace, limits=self._limits, variant=variant)
        if ran.outcome is Outcome.OK:
            return ran
        said = (ran.stderr_tail.strip().splitlines() or [str(ran.outcome)])[-1][:200]
        if ran.outcome is Outcome.EXCEPTION and ran.syntax_error:
            raise Refused("syntax", said)
        reasons = {Outcome.TIMEOUT: "timeout", Outcome.OUTPUT_LIMIT: "output", Outcome.SANDBOX_ERROR: "sandbox"}
        raise Refused(reasons.get(ran.outcome, "crash"), said)

    def _printed(self, ran: Ran) -> str:
        """What it printed, stripped; refused when that is nothing, too long, or not plain text."""
        output = ran.stdout.strip()
        if not output:
            raise Refused("output", "the program prints nothing")
        if len(output) > self.config.max_output:
            raise Refused("output", f"it prints {len(output)} characters, at most {self.config.max_output}")
        if not all(character.isprintable() or character in "\n\t" for character in output):
            raise Refused("output", "it prints control characters")
        return output

    def _task(
        self,
        program: str,
        output: str,
        trace: Iterable[str],
        parameters: Mapping[str, Any],
        origin: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Task:
        depth = parameters.get("depth")
        return Task(
            environment="code",
            payload={"program": program, **(extra or {})},
            secret={"reference": output, "trace": list(trace)},
            parameters=dict(parameters),
            skills=("predict_output", *([f"depth-{depth}"] if depth is not None else [])),
            origin=origin,
        )


def verify(said: str, reference: str) -> Score:
    """1 when the last ``<answer>`` equals the printed output, both stripped; 0 otherwise, the note saying why."""
    parsed = parse(said)
    if not parsed.ok:
        return Score.valued("verifier", 0.0, by="code", note=parsed.problem or "no answer")
    right = parsed.value == reference.strip()
    return Score.valued("verifier", float(right), by="code", note="right" if right else "wrong")


def count_lines(program: str) -> int:
    """Lines that are neither blank, nor a comment, nor a print: the depth of a generated program."""
    lines = (line.strip() for line in program.splitlines())
    return sum(1 for line in lines if line and not line.startswith(("#", "print(", "print (")))
