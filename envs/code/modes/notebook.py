"""Notebook: a persistent interpreter with data in it and a question about the data; cells run until an answer comes.

The interpreter is a live child of the sandbox. It belongs to one branch of an episode: on another branch, and after a
snapshot is restored, the cells run so far are run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from numpy.random import Generator

from sparring.envs.toolbox import ANSWER, Call, read_call
from sparring.envs.tools import Tool, ToolRefused, tool
from sparring.envs.types import Score, Task
from sparring.scenarios.errors import SandboxUnavailable, ScenarioError

from ..answers import strip_fences
from ..live import Live, Reply
from ..outcome import Limits, Outcome
from .base import Act, Desk, Mode, Refused, Split, on_held_out_side, refusal_of, verdict, without

_OUTPUT_BYTES = 1 << 16
_QUESTION, _ANSWER = "# question:", "# answer"

# words of the question, the expression that answers it, what it means: by the steps it takes
_QUESTIONS: Mapping[int, Sequence[tuple[str, str, Callable[[list[int]], int]]]] = {
    1: (
        ("sum of d", "sum(d)", sum),
        ("largest of d", "max(d)", max),
        ("smallest of d", "min(d)", min),
        ("how many in d", "len(d)", len),
    ),
    2: (
        ("largest minus smallest of d", "max(d)-min(d)", lambda d: max(d) - min(d)),
        ("how many different in d", "len(set(d))", lambda d: len(set(d))),
        ("sum of the squares of d", "sum(v*v for v in d)", lambda d: sum(v * v for v in d)),
        ("second largest of d", "sorted(d)[-2]", lambda d: sorted(d)[-2]),
    ),
    3: (
        ("sum of the even ones of d", "sum(v for v in d if v%2==0)", lambda d: sum(v for v in d if v % 2 == 0)),
        ("how many of d are above their mean", "sum(v*len(d)>sum(d) for v in d)",
         lambda d: sum(v * len(d) > sum(d) for v in d)),
        ("sum of the differences of neighbours in d", "sum(abs(a-b) for a,b in zip(d,d[1:]))",
         lambda d: sum(abs(a - b) for a, b in pairwise(d))),
    ),
}  # fmt: skip
_HOW_MANY = (12, 30)


@tool
def python(code: str) -> str:
    """Run a cell in the notebook; it prints, or shows its last expression."""
    return code  # checked here; the notebook runs it where the episode stands


class Notebook(Mode):
    """Answer a question about what an interpreter holds: ``<python>cell</python>`` runs a cell, ``<answer>`` ends.

    A row has ``question``, ``setup`` (code that has run before the first cell) and ``answer``. A proposal is a line
    ``# question: ...``, then the setup, a line ``# answer``, and code that prints the answer.
    """

    name = "notebook"
    parameters: ClassVar = {"depth": range(1, len(_QUESTIONS) + 1)}
    row_fields: ClassVar = {"question": str, "setup": str}
    payload_fields = ("question",)

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._live: Live | None = None
        self._ran: tuple[str, ...] = ()

    def sample(self, parameters: Mapping[str, Any], rng: Generator, split: Split) -> Task:
        """A list that only the interpreter holds, and a question of ``depth`` steps about it."""
        questions = _QUESTIONS[int(parameters.get("depth", 1))]
        while True:
            question, cell, meaning = questions[int(rng.integers(len(questions)))]
            held = [int(value) for value in rng.integers(-99, 1000, size=int(rng.integers(*_HOW_MANY)))]
            if on_held_out_side(f"{question}{held}") == (split == "held_out"):
                break
        return self._made(question, f"d={held}", str(meaning(held)), cell, parameters, "generator")

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """The setup must run, and the answer be short and the same twice."""
        program = strip_fences(text)
        self.desk.check_text(program)
        first, _, rest = program.partition("\n")
        setup, mark, ending = rest.partition(f"\n{_ANSWER}\n")
        question = first.removeprefix(_QUESTION).strip()
        if not first.startswith(_QUESTION) or not question or not mark or not setup.strip():
            raise Refused("no_question", f"it begins {_QUESTION} ..., then code, {_ANSWER}, code")
        output = self.desk.printed(self.desk.run(f"{setup}\n{ending}"))
        if self.desk.printed(self.desk.run(f"{setup}\n{ending}", variant=1)) != output:
            raise Refused("nondeterministic", "two runs printed different text")
        return self.desk.check_free(self._made(question, setup, output, ending, parameters, "proposal"))

    def from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """The row's question; its setup must run."""
        for name in ("question", "setup"):
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise ScenarioError(f"{where}: field {name!r} must be a text, got {row.get(name)!r:.60}")
        if "answer" not in row:
            raise ScenarioError(f"{where}: field 'answer' is missing; the row has {', '.join(row)}")
        known = {name: row[name] for name in self.parameters if name in row}
        extra = without(row, ("setup", "answer", "cell", "question", *self.parameters))
        task = self._made(row["question"], row["setup"], str(row["answer"]), row.get("cell"), known, where, extra)
        try:
            self._open(task).close()
        except Refused as refused:
            raise ScenarioError(f"{where}: the setup does not run ({refused})") from None
        return task

    def begin(self, task: Task) -> str:
        """The question."""
        return str(task.payload["question"])

    def tools(self) -> tuple[Tool, ...]:
        """The notebook's one tool."""
        return (python,)

    def start(self) -> Any:
        """No cell has run."""
        return ()

    def act(self, task: Task, action: str, moment: Any) -> Act:
        """Run a cell, or judge the answer. ``moment``: the cells so far; a call that cannot be read counts as one."""
        found = read_call(action, self.tools())
        if found is None:
            return self._over(verdict(0.0, "neither a cell nor an answer"), moment)
        if isinstance(found, Call) and found.name == ANSWER:
            return self._over(self.verify(task, action), moment)
        if len(moment) >= self.options.max_calls:
            return self._over(verdict(0.0, f"no answer after {len(moment)} cells"), moment)
        if isinstance(found, ToolRefused):
            return Act(str(found), None, (*moment, ""), False)
        try:
            code = str(python.call(found.arguments))
        except ToolRefused as refused:
            return Act(str(refused), None, (*moment, ""), False)
        try:
            reply = self._reply(task, moment, code)
        except Refused as refused:
            return self._over(Score.invalid("verifier", "code", str(refused)), moment)
        if reply.outcome is Outcome.SANDBOX_ERROR:
            return self._over(Score.invalid("verifier", "code", reply.stderr_tail), moment)
        return Act(self._shown(reply), None, (*moment, code), False)

    def verify(self, task: Task, said: str) -> Score:
        """The last answer, stripped, against the reference."""
        found = read_call(said, ())
        given = found.text if isinstance(found, Call) else ""
        right = given == str(task.secret["reference"]).strip()
        return verdict(float(right), "right" if right else "wrong" if given else "no answer")

    def oracle(self, task: Task, moment: Any) -> str | None:
        """The cell that tells, where it is known, then the answer."""
        cell = task.secret.get("cell")
        if cell is None or moment:
            return super().oracle(task, moment)
        return f"<python>{cell}</python>"

    def close(self) -> None:
        """End the interpreter."""
        if self._live is not None:
            self._live.close()
            self._live, self._ran = None, ()

    def _over(self, score: Score, moment: Any) -> Act:
        self.close()
        return Act(score.note, score, moment, True)

    def _reply(self, task: Task, moment: tuple[str, ...], code: str) -> Reply:
        """Run a cell where the branch stands; raises ``Refused`` when the interpreter cannot be had."""
        history = (task.key, *moment)
        if self._live is None or self._ran != history:
            self.close()
            self._live = self._open(task)
            for cell in moment:
                if cell and self._live.ended is None:
                    self._live.run(cell)
        reply = self._live.run(code)
        self._ran = (*history, code)
        return reply

    def _open(self, task: Task) -> Live:
        options = self.options
        limits = Limits(options.wall_s, options.cpu_s, options.memory_mb, _OUTPUT_BYTES)
        try:
            live = self.desk.sandbox().open(str(task.secret["setup"]), limits=limits)
        except SandboxUnavailable as error:
            raise Refused("sandbox", str(error)) from None
        if live.started.outcome is not Outcome.OK:
            live.close()
            raise refusal_of(live.started.outcome, live.started.stderr_tail)
        return live

    def _shown(self, reply: Reply) -> str:
        """What it printed and its value, or how it failed."""
        parts = [reply.stdout.rstrip("\n"), "" if reply.value is None else str(reply.value)]
        if reply.outcome is not Outcome.OK:
            last = (reply.stderr_tail.strip().splitlines() or [""])[-1]
            parts.append(f"{reply.outcome}: {last}" if last else str(reply.outcome))
        return ("\n".join(part for part in parts if part) or "no output")[: self.options.max_result]

    def _made(
        self,
        question: str,
        setup: str,
        answer: str,
        cell: str | None,
        parameters: Mapping[str, Any],
        origin: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Task:
        secret = {"reference": answer, "setup": setup} | ({} if cell is None else {"cell": cell})
        made = self.task({"question": question, **(extra or {})}, secret, parameters, origin)
        # two tasks may ask the same of other data, so the data must be in the key
        keyed = Task("code", {**made.payload, "setup": setup})
        return Task("code", made.payload, made.secret, made.parameters, made.skills, made.origin, key=keyed.key)
