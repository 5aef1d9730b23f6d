"""What every mode of the code environment is: tasks from a generator, a proposal or a row; an answer; its verdict.

Modes hold no episode: what changes while one is played is the ``moment`` that ``act`` takes and returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from numpy.random import Generator

from sparring.envs.tools import Tool
from sparring.envs.types import Refusal, Score, Task
from sparring.scenarios.errors import ScenarioError

from ..answers import parse
from ..options import CodeOptions
from ..outcome import Limits, Outcome, Ran
from ..sandbox import Sandbox

Split = Literal["train", "held_out"]
HELD_OUT_ONE_IN = 10
LONGEST_VALUE = 400  # characters of a value given as JSON: bounds its depth, too
DEPTHS = range(1, 7)
_NUMBER = re.compile(r"-?\d{1,300}", re.ASCII)


class Refused(Exception):
    """Inside ``admit``: carries the refusal out of the checks."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(reason, detail)


@dataclass(frozen=True)
class Desk:
    """What a mode works with: the options, a way to the sandbox, and the evaluation set's keys."""

    options: CodeOptions
    sandbox: Callable[[], Sandbox]
    reserved: set[str] = field(default_factory=set)

    @property
    def limits(self) -> Limits:
        """What one program may use."""
        options = self.options
        return Limits(options.wall_s, options.cpu_s, options.memory_mb, 4 * options.max_output + 8)

    def run(self, program: str, *, trace: bool = False, variant: int = 0) -> Ran:
        """Run it; every ending but a good one raises ``Refused``."""
        ran = self.sandbox().run(program, trace=trace, limits=self.limits, variant=variant)
        if ran.outcome is Outcome.OK:
            return ran
        raise refusal_of(ran.outcome, ran.stderr_tail, ran.syntax_error)

    def printed(self, ran: Ran) -> str:
        """What it printed, stripped; refused when that is nothing, too long, or not plain text."""
        output = ran.stdout.strip()
        if not output:
            raise Refused("output", "the program prints nothing")
        if len(output) > self.options.max_output:
            raise Refused("output", f"it prints {len(output)} characters, at most {self.options.max_output}")
        if not all(character.isprintable() or character in "\n\t" for character in output):
            raise Refused("output", "it prints control characters")
        return output

    def check_text(self, program: str) -> None:
        """Refuse what is empty or too long."""
        if not program.strip():
            raise Refused("empty", "no program")
        if len(program) > self.options.max_chars:
            raise Refused("too_long", f"{len(program)} characters, at most {self.options.max_chars}")

    def check_free(self, task: Task) -> Task:
        """``task``, unless the evaluation set holds it."""
        if task.key in self.reserved:
            raise Refused("held_out", "the program belongs to the evaluation set")
        return task


def refusal_of(outcome: str, stderr_tail: str, syntax_error: bool = False) -> Refused:
    """Why a program that ended this way is no task."""
    said = (stderr_tail.strip().splitlines() or [str(outcome)])[-1][:200]
    if syntax_error:
        return Refused("syntax", said)
    reasons = {Outcome.TIMEOUT: "timeout", Outcome.OUTPUT_LIMIT: "output", Outcome.SANDBOX_ERROR: "sandbox"}
    return Refused(reasons.get(Outcome(outcome), "crash"), said)


@dataclass(frozen=True, slots=True)
class Act:
    """What came of one action: what is told, the score of an answer, the moment after it, whether all is over."""

    observation: str
    score: Score | None
    moment: Any
    over: bool


class Mode:
    """Base of every mode. A subclass gives ``sample``, ``begin`` and ``verify``, and what else it can do.

    The class attributes mean what those of ``Environment`` mean; ``payload_fields`` are what a prompt may name.
    """

    name: ClassVar[str]
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = {"depth": DEPTHS}
    ranges: ClassVar[Mapping[str, tuple[int | float, int | float]]] = {}
    disclosures: ClassVar[tuple[str, ...]] = ("reference",)
    row_fields: ClassVar[Mapping[str, type]] = {}
    payload_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.options = desk.options

    def sample(self, parameters: Mapping[str, Any], rng: Generator, split: Split) -> Task:
        """A generated task on this side of the split."""
        raise NotImplementedError(f"mode {self.name} has no generator; name a task source in the scenario")

    def similar(self, task: Task, rng: Generator) -> Task:
        """Another task that asks for what ``task`` asks for."""
        return self.sample(task.parameters, rng, "train")

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """What a role proposed as a task; raises ``Refused``."""
        raise Refused("no_proposals", f"mode {self.name} does not take proposed tasks")

    def from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """A row of a file as a task; raises ``ScenarioError`` that begins with ``where``."""
        raise ScenarioError(f"{where}: mode {self.name} does not take tasks from a file")

    def begin(self, task: Task) -> str:
        """What the player reads first."""
        raise NotImplementedError(f"mode {self.name} must define begin")

    def verify(self, task: Task, said: str) -> Score:
        """The verdict on an answer, named ``verifier``."""
        raise NotImplementedError(f"mode {self.name} must define verify")

    def oracle(self, task: Task, moment: Any) -> str | None:
        """The action that is best now, ``None`` where it is not known."""
        reference = task.secret.get("reference")
        return None if reference is None else f"<answer>{reference}</answer>"

    def junk(self, task: Task) -> tuple[str, ...]:
        """Answers worth nothing, beside those every environment has."""
        return ("<answer> </answer>", f"<answer>{'0' * 500}</answer>", "<answer>None")

    def tools(self) -> tuple[Tool, ...]:
        """Tools a player may call."""
        return ()

    def start(self) -> Any:
        """The moment before the first action."""
        return 0

    def act(self, task: Task, action: str, moment: Any) -> Act:
        """Score an answer; a wrong one may be revised while tries are left. ``moment``: how many were given."""
        score = self.verify(task, action)
        used = int(moment) + 1
        left = max(0, self.options.tries - used)
        right = score.value == 1.0
        observation = "right" if right else f"{score.note}; tries left: {left}"
        return Act(observation, score, used, right or left == 0)

    def close(self) -> None:
        """Give back what an episode holds."""

    def task(
        self,
        payload: Mapping[str, Any],
        secret: Mapping[str, Any],
        parameters: Mapping[str, Any],
        origin: str,
    ) -> Task:
        """A task of this mode, with its skills."""
        depth = parameters.get("depth")
        skills = (self.name, *([f"depth-{depth}"] if depth is not None else []))
        return Task("code", dict(payload), dict(secret), dict(parameters), skills, origin)


def verdict(value: float, note: str) -> Score:
    """A valued verifier score of this environment."""
    return Score.valued("verifier", value, by="code", note=note)


def answer_of(said: str) -> tuple[str | None, Score]:
    """What stands in the last answer tag, and the score when nothing does."""
    parsed = parse(said)
    return (parsed.value if parsed.ok else None), verdict(0.0, parsed.problem or "no answer")


def on_held_out_side(text: str) -> bool:
    """Whether what this text stands for is kept for evaluation; a stable hash decides."""
    bucket = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "little")
    return bucket % HELD_OUT_ONE_IN == 0


def read_value(text: str) -> Any:
    """A plain value written as JSON, or as a Python number; raises ``ValueError``. Hostile text is bounded first."""
    text = text.strip()
    if len(text) > LONGEST_VALUE:
        raise ValueError(f"{len(text)} characters, at most {LONGEST_VALUE}")
    if _NUMBER.fullmatch(text):
        return int(text)
    with contextlib.suppress(RecursionError):
        return json.loads(text, parse_constant=_no_constant)
    raise ValueError("nested too deeply")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def without(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The row's other fields."""
    gone = set(names)
    return {name: value for name, value in row.items() if name not in gone}
