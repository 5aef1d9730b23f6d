"""What modes that are judged by tests share: a source made of the answer, shown tests, hidden tests, one verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sparring.envs.types import Score, Task
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.seeds import derive

from ..answers import code_of
from ..grader import Grade, Rules, Verdict, grade, rehearse
from ..outcome import Limits
from ..suites import Script, UnreadableTest, read_tests
from .base import Desk, Mode, verdict

ENTRY = "f"
_REMEMBERED = 64  # verdicts: attempts at one task are judged one after the other, and many are alike
_OUTPUT_BYTES = 1 << 16  # a candidate may print; nobody reads it


class Graded(Mode):
    """Base of the modes whose answer is a program. A subclass says which tests are shown, and what the source is."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._verdicts: dict[tuple[str, str], Score] = {}

    def shown(self, task: Task) -> Sequence[str]:
        """Tests the player sees. An answer that fails one is worth nothing."""
        return ()

    def entry(self, task: Task) -> str:
        """The function the tests call."""
        return str(task.payload.get("entry_point", ENTRY))

    def source(self, task: Task, answer: str) -> str:
        """The whole program that an answer makes."""
        return answer

    def preamble(self, task: Task) -> str:
        """What tests may use beside the candidate."""
        return ""

    @property
    def rules(self) -> Rules:
        """How candidates are run and compared."""
        options = self.options
        limits = Limits(options.wall_s, options.cpu_s, options.memory_mb, _OUTPUT_BYTES)
        return Rules(limits, options.tolerance, options.numbers == "exact")

    def verify(self, task: Task, said: str) -> Score:
        """All tests, or the share of the hidden ones, by the option ``score``. The note holds nothing of a test.

        Equal answers to one task, given one after the other, are run once.
        """
        answer = code_of(said)
        if not answer.ok:
            return verdict(0.0, answer.problem or "no answer")
        source = self.source(task, answer.value)
        known = self._verdicts.get((task.key, source))
        score = known or self._judge(task, source)
        if known is None and score.value is not None:
            self._verdicts[task.key, source] = score
            if len(self._verdicts) > _REMEMBERED:
                del self._verdicts[next(iter(self._verdicts))]
        return score

    def _judge(self, task: Task, source: str) -> Score:
        found = self.grade(task, source)
        if found.grade is Grade.SANDBOX_ERROR:
            return Score.invalid("verifier", "code", found.note)
        if found.grade is Grade.PASSED:
            return verdict(1.0, "right")
        share = found.passed / found.total if self.options.score == "share" else 0.0
        return verdict(share, f"{found.grade}: {found.passed} of {found.total} tests passed" if share else found.grade)

    def grade(self, task: Task, source: str) -> Verdict:
        """Run the tests of ``task`` on a program."""
        entry, shown, hidden = self.entry(task), tuple(self.shown(task)), tuple(task.secret["tests"])
        seed = derive(task.key, "order")
        sandbox, rules = self.desk.sandbox(), self.rules
        first = shown if self.options.score == "share" else (*shown, *hidden)
        found = grade(sandbox, source, entry, read_tests(first, entry), _ordered(rules, seed), self.preamble(task))
        if self.options.score == "all" or found.grade is not Grade.PASSED:
            return found if self.options.score == "all" else Verdict(found.grade, 0, len(hidden), found.note)
        every = _ordered(rules, seed, every=True)
        return grade(sandbox, source, entry, read_tests(hidden, entry), every, self.preamble(task))

    def junk(self, task: Task) -> tuple[str, ...]:
        """Also programs that return one thing, everything, or lies about being equal."""
        entry = self.entry(task)
        programs = (
            f"def {entry}(*a): return 0",
            f"def {entry}(*a): return a[0]",
            f"class Equal(int):\n def __eq__(self, other): return True\ndef {entry}(*a): return Equal(1)",
            "import sys\nsys.exit(0)",
        )
        return (*super().junk(task), *(f"<answer>{program}</answer>" for program in programs))

    def checked(self, task: Task, where: str) -> Task:
        """A row's task whose tests can be read and run, and which its reference passes; raises ``ScenarioError``."""
        entry = self.entry(task)
        try:
            tests = read_tests((*self.shown(task), *task.secret["tests"]), entry)
        except UnreadableTest as error:
            raise ScenarioError(f"{where}: {error}") from None
        for test in tests:
            if isinstance(test, Script):
                problem = rehearse(self.desk.sandbox(), test, entry, self.rules.limits, self.preamble(task))
                if problem is not None:
                    raise ScenarioError(f"{where}: the test {test.text.strip()[:60]!r} cannot judge: {problem}")
        if "reference" in task.secret:
            found = self.grade(task, self.source(task, str(task.secret["reference"])))
            if found.grade is not Grade.PASSED:
                raise ScenarioError(f"{where}: its own reference does not pass its tests ({found.grade})")
        return task


def _ordered(rules: Rules, seed: int, every: bool = False) -> Rules:
    return Rules(rules.limits, rules.tolerance, rules.exact, seed, every)


def kept_back(tests: Sequence[str], reference: str | None) -> dict[str, Any]:
    """The secret of a task: its hidden tests, and the reference where there is one."""
    return {"tests": list(tests)} | ({} if reference is None else {"reference": reference})


def tests_of(row: Mapping[str, Any], names: Sequence[str], where: str) -> list[str]:
    """The texts under the first of ``names`` that the row has; raises ``ScenarioError``."""
    found = next((row[name] for name in names if name in row), None)
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ScenarioError(
            f"{where}: field {names[0]!r} must be a text or a list of texts with tests, got {found!r:.60}"
        )
    return texts


def as_function(answer: str, signature: str) -> str:
    """An answer as a program: one that defines the function is left alone, an expression becomes its body.

    >>> as_function("x*2+1", "f(x)")
    'def f(x): return (\\nx*2+1\\n)'
    """
    name = signature.partition("(")[0]
    if re.search(rf"(?m)^(?:async[ \t]+)?(?:def[ \t]+{name}\b|{name}[ \t]*=[^=])", answer):
        return answer
    return f"def {signature}: return (\n{answer}\n)"
