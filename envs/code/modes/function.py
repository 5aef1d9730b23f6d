"""A function from its signature and docstring: hidden tests decide. Rows are those of HumanEval or MBPP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.random import Generator

from sparring.envs.types import Task
from sparring.scenarios.errors import ScenarioError

from ..answers import strip_fences
from ..suites import entry_point_of
from .base import Refused, Split, without
from .expressions import DEEPEST, write_telling
from .graded import ENTRY, Graded, kept_back, tests_of
from .proposals import as_test, examine, refuse_held_out

_TESTS = ("tests", "test", "test_list")
_REFERENCES = ("reference", "canonical_solution", "code")
_DOCUMENTED = re.compile(r'((?:def|async def)[^\n]*:[ \t]*\n[ \t]+"""[^"]{1,400}"""[ \t]*\n)(.+)', re.DOTALL)


class Function(Graded):
    """Complete a function: its body alone, or the whole definition again.

    A row has ``prompt``, ``tests`` (or ``test``, ``test_list``) and, unless the tests show it, ``entry_point``; the
    ``reference`` (or ``canonical_solution``, ``code``) must pass. A proposal is a function with a docstring.
    """

    name = "function"
    parameters: ClassVar = {"depth": range(1, DEEPEST + 1)}
    row_fields: ClassVar = {"prompt": str}
    payload_fields = ("prompt", "entry_point")

    def sample(self, parameters: Mapping[str, Any], rng: Generator, split: Split) -> Task:
        """A function of ``depth`` steps whose docstring names them in order."""
        found, inputs = write_telling(
            int(parameters.get("depth", 1)), rng, split, self.options.shown + self.options.hidden
        )
        prompt = f'def {ENTRY}(x):\n    """Take x, {found.words}."""\n'
        tests = [as_test(ENTRY, (value,), found.at(value)) for value in inputs]
        return self._made(prompt, ENTRY, tests, f"return {found.text}", parameters, "generator")

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """The docstring becomes the prompt, the body the reference, what it returns the tests."""
        seen = examine(self.desk, strip_fences(text), rng, self.options.shown + self.options.hidden, ENTRY)
        refuse_held_out(self.desk, seen)
        found = _DOCUMENTED.fullmatch(seen.source + "\n")
        if found is None:
            raise Refused("no_function", f'it must be one def {ENTRY}(...): with a """docstring""" and a body')
        tests = [as_test(ENTRY, given, value) for given, value in zip(seen.calls, seen.values, strict=True)]
        return self.desk.check_free(self._made(found[1], ENTRY, tests, found[2].rstrip(), parameters, "proposal"))

    def from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """The row's prompt and tests; whatever else it has, its tests and reference apart, is payload."""
        prompt, tests = row.get("prompt"), tests_of(row, _TESTS, where)
        if not isinstance(prompt, str) or not prompt.strip():
            raise ScenarioError(f"{where}: field 'prompt' must be a text, got {prompt!r:.60}")
        entry = row.get("entry_point", entry_point_of(tests))
        if not isinstance(entry, str) or not entry.isidentifier():
            raise ScenarioError(f"{where}: field 'entry_point' must name the function that the tests call")
        reference = next((str(row[name]) for name in _REFERENCES if row.get(name)), None)
        known = {name: row[name] for name in self.parameters if name in row}
        hidden = ("prompt", "entry_point", *_TESTS, *_REFERENCES, "challenge_test_list", *self.parameters)
        return self.checked(self._made(prompt, entry, tests, reference, known, where, without(row, hidden)), where)

    def begin(self, task: Task) -> str:
        """The prompt."""
        return str(task.payload["prompt"])

    def source(self, task: Task, answer: str) -> str:
        """The prompt's own lines first (imports, helpers), then the definition; or the body in its place."""
        prompt, entry = str(task.payload["prompt"]), self.entry(task)
        begun = re.search(rf"(?m)^(?:async[ \t]+)?def[ \t]+{re.escape(entry)}\b", prompt)
        if re.search(rf"(?m)^(?:(?:async[ \t]+)?def[ \t]+{re.escape(entry)}\b|{re.escape(entry)}[ \t]*=[^=])", answer):
            return f"{prompt[: begun.start()] if begun else ''}\n{answer}\n"
        if begun is None:  # a prompt in words: the answer must define the function
            return answer
        return f"{prompt.rstrip()}\n{as_body(answer)}\n"

    def preamble(self, task: Task) -> str:
        """What the prompt defines beside the function."""
        return str(task.payload["prompt"])

    def junk(self, task: Task) -> tuple[str, ...]:
        """Also the prompt given back."""
        return (*super().junk(task), f"<answer>{task.payload['prompt']}</answer>", "<answer>pass</answer>")

    def _made(
        self,
        prompt: str,
        entry_point: str,
        tests: list[str],
        reference: str | None,
        parameters: Mapping[str, Any],
        origin: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Task:
        secret = kept_back(tests, reference)
        return self.task({"prompt": prompt, "entry_point": entry_point, **(extra or {})}, secret, parameters, origin)


def as_body(answer: str) -> str:
    """An answer indented to stand below a ``def``; a first line that alone lost its indentation gets it back.

    >>> as_body("y = x\\n    return y")
    '    y = x\\n    return y'
    """
    lines = answer.split("\n")
    first, rest = lines[0], [line for line in lines[1:] if line.strip()]
    if first[:1] in (" ", "\t"):
        return "\n".join(lines)
    if rest and all(line[:4] == "    " for line in rest) and not first.rstrip().endswith(":"):
        return "\n".join([f"    {first}", *lines[1:]])
    return "\n".join(f"    {line}" if line.strip() else line for line in lines)
