"""The code environment: one world, several modes of asking about programs. What a mode asks is in ``modes/``.

Here is what they share: the sandbox on loan, the split for evaluation, refusals, snapshots.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from numpy.random import Generator
from pydantic import BaseModel

from sparring.envs.base import Environment
from sparring.envs.tools import Tool
from sparring.envs.types import Criterion, Refusal, Task
from sparring.scenarios.errors import ContractBroken, SandboxUnavailable
from sparring.scenarios.registry import environments

from .modes import MODES
from .modes.base import Desk, Refused
from .modes.predict_output import count_lines, traced, verify
from .options import CodeOptions
from .programs import DEEPEST, MAGNITUDES
from .sandbox import Sandbox, borrow, give_back

__all__ = ["CodeEnvironment", "CodeOptions", "count_lines", "verify"]


@environments("code")
class CodeEnvironment(Environment):
    """Predict, write, repair and run short Python programs, in a sandbox.

    Reasons of a refusal: empty, too_long, wrong_depth, held_out, syntax, crash, timeout, output, nondeterministic,
    insensitive (its input changes nothing), input, no_function, no_question, no_proposals and sandbox, the last being
    our own failure.
    """

    Config = CodeOptions
    parameters: ClassVar = {"depth": range(1, DEEPEST + 1)}
    ranges: ClassVar = {"depth": (1, DEEPEST), "magnitude": MAGNITUDES}
    disclosures = ("reference", "trace")
    row_fields: ClassVar = {"program": str}
    examples = tuple({"mode": name} for name in MODES)

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
                " outside the scenario (--i-understand-model-code-runs-as-me), or write sandbox: auto"
            )
        self._allow_unsafe = allow_unsafe
        self._sandbox = sandbox
        self._borrowed = False
        self._opening = threading.Lock()
        self.desk = Desk(self.config, self._lent, set(self.config.reserved))
        self.mode = MODES[self.config.mode](self.desk)
        facet = self.facet(self.config)
        # the class speaks for its default mode, an instance for its own
        vars(self).update(parameters=facet.parameters, ranges=facet.ranges)
        vars(self).update(disclosures=facet.disclosures, row_fields=facet.row_fields)
        self.moment = self.mode.start()

    @classmethod
    def facet(cls, config: BaseModel) -> Any:
        """What these options make of the class attributes: ``parameters``, ``ranges``, ``disclosures``,
        ``row_fields`` and ``payload_fields`` stand on what is returned."""
        return MODES[str(getattr(config, "mode", "predict_output"))]

    @property
    def stamp(self) -> str:
        """The isolation that its programs run under."""
        return f"code sandbox={self._lent().tier}"

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A generated task; ``split`` among the parameters is ``train`` (default) or ``held_out``, told by a hash."""
        wanted = dict(parameters)
        return self.mode.sample(wanted, rng, wanted.pop("split", "train"))

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A generated task of the held-out split."""
        return super().held_out({**parameters, "split": "held_out"}, rng)

    def similar(self, task: Task, rng: Generator) -> Task:
        """The mode's own, or a generated task with the same parameters; always of the training split."""
        return self.mode.similar(task, rng)

    def begin(self, task: Task) -> str:
        """What the mode shows first."""
        self.moment = self.mode.start()
        return self.mode.begin(task)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """One action: an answer, which is scored, or a call of a tool, which is not."""
        act = self.mode.act(self._task(), action, self.moment)
        self.moment = act.moment
        scores = [] if act.score is None else [act.score]
        value = scores[0].value if scores else 0.0
        return act.observation, value or 0.0, act.over, False, {"scores": scores}

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task | Refusal:
        """A proposal that runs, is short, and does the same under other hash and random seeds."""
        try:
            return self.mode.admit(text, parameters, rng)
        except Refused as refused:
            return refused.refusal

    def task_from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """A row of this mode, run where it can be to see that it holds."""
        return self.mode.from_row(row, where)

    def reserve(self, keys: Iterable[str]) -> None:
        """Task keys of the evaluation set: proposals equal to one of them are refused as ``held_out``."""
        self.desk.reserved.update(keys)

    def oracle(self) -> str | None:
        """The reference answer, where the task has one."""
        return self.mode.oracle(self._task(), self.moment)

    def toolbox(self) -> Sequence[Tool]:
        """The mode's tools."""
        return self.mode.tools()

    def rubric(self, task: Task) -> Sequence[Criterion]:
        """The row's own or, with ``rubric: trace``, one made of the trace."""
        return super().rubric(task) or (traced(task) if self.config.rubric == "trace" else ())

    def junk_answers(self, task: Task) -> tuple[str, ...]:
        """The common ones and the mode's own."""
        return (*super().junk_answers(task), *self.mode.junk(task))

    def state(self) -> object:
        """The mode's moment."""
        return self.moment

    def set_state(self, state: Any) -> None:
        """Back to that moment."""
        self.moment = state

    def close(self) -> None:
        """Give the process-wide sandbox back; the last one to do so ends it."""
        self.mode.close()
        with self._opening:
            if self._borrowed and self._sandbox is not None:
                give_back(self._sandbox)
                self._sandbox, self._borrowed = None, False

    def _task(self) -> Task:
        if self.task is None:
            raise ContractBroken("code: there is no task yet; call reset first")
        return self.task

    def _lent(self) -> Sandbox:
        with self._opening:
            if self._sandbox is None:
                self._sandbox = borrow(self.config.sandbox, self.config.workers, allow_unsafe=self._allow_unsafe)
                self._borrowed = True
            return self._sandbox
