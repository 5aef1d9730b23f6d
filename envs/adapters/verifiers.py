"""Environments of the verifiers library: its dataset gives the tasks, its protocol the turns, its rubric the scores."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from typing import Any

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field

from sparring.envs.types import Score, Task
from sparring.scenarios.errors import MissingExtra, ScenarioError
from sparring.scenarios.registry import environments

from .apart import ForeignError
from .remote import Remote

_BY = "verifiers"


class VerifiersOptions(BaseModel):
    """``id``: an installed environment's name, or ``module:function`` of a function that returns one. ``options``: its
    arguments. ``score``: the rubric's function whose value is the verifier's; left out, the weighted sum of all.
    ``max_steps``: messages of the model until a rollout is cut. ``timeout_s``: seconds for one message with what the
    environment does about it, the rubric included; past that the score is invalid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(min_length=1)
    options: Mapping[str, Any] = {}
    score: str | None = None
    max_steps: int = Field(20, ge=1)
    timeout_s: float = Field(60.0, gt=0)


@environments("verifiers")
class VerifiersEnvironment(Remote):
    """A single-turn, multi-turn or tool environment of the verifiers library.

    Its process is apart but not locked in: rubrics may ask judges over the network. Every function of the rubric gives
    a score of its own name at the end.
    """

    far = "sparring.envs.adapters.verifiers_rollouts"
    locked = False
    Config = VerifiersOptions
    disclosures = ("answer",)
    examples = ()

    def __init__(self, config: BaseModel | Mapping[str, Any] | None = None) -> None:
        """Raises ``ScenarioError`` for an environment that is not installed or does not take its options."""
        if importlib.util.find_spec("verifiers") is None:
            raise MissingExtra("environment 'verifiers': pip install 'sparring[verifiers]'")
        self.told: tuple[str, ...] = ()
        self._rows = [0, 0]
        super().__init__(config)

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A row to train on."""
        return self._drawn(False, rng)

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A row of its evaluation set; of every fifth row where it has none."""
        return self._drawn(True, rng)

    def start(self, task: Task) -> str:
        """The row's prompt."""
        return str(self.restart()["said"])

    def play(self, action: str) -> tuple[str, Any, bool, bool]:
        """One message; tools are called in it as ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``."""
        try:
            told = self.exchange(action)
        except ForeignError as error:
            note = f"the environment {error.how}: {error}"[:500]
            return "The environment failed.", [Score.invalid("verifier", _BY, note)], True, False
        if told["done"]:
            return str(told["said"]), self._scores(told), True, False
        if len(self._taken) + 1 >= self.config.max_steps:
            note = f"cut after {self.config.max_steps} messages"
            return note, [Score.valued("verifier", 0.0, _BY, note)], True, True
        return str(told["said"]), [], False, False

    def open(self) -> int:
        """Load the environment."""
        try:
            made = self.process.call("open_world", self.config.id, dict(self.config.options), timeout_s=300.0)
        except ForeignError as error:
            raise ScenarioError(f"environment verifiers: {self.config.id!r} cannot be loaded: {error}"[:500]) from None
        self.told, self._rows = tuple(made["tools"]), made["rows"]
        return int(made["number"])

    def begun(self) -> tuple[Any, ...]:
        """Which half, which row."""
        assert self.task is not None, "reset first"
        return bool(self.task.payload["held_out"]), int(self.task.payload["row"])

    def _drawn(self, held_out: bool, rng: Generator) -> Task:
        count = self._rows[held_out]
        if not count:
            raise ScenarioError(f"environment verifiers: {self.config.id!r} has no rows")
        index = int(rng.integers(count))
        found = self.process.call("row", self.config.id, dict(self.config.options), held_out, index)
        payload = {"question": found["question"], "world": self.config.id, "held_out": held_out, "row": index}
        if self.told:
            payload["offered"] = "\n".join(self.told)
        return Task(_BY, payload, {"answer": found["answer"]}, {}, (self.config.id,), "generator")

    def _scores(self, told: Mapping[str, Any]) -> list[Score]:
        metrics = dict(told["metrics"])
        if self.config.score is not None and self.config.score not in metrics:
            note = f"the rubric gave no {self.config.score!r}; it gave {', '.join(metrics) or 'nothing'}"
            return [Score.invalid("verifier", _BY, note)]
        main = told["reward"] if self.config.score is None else metrics[self.config.score]
        found = {"verifier": main, **{name: value for name, value in metrics.items() if name != "verifier"}}
        return [_score(name, value) for name, value in found.items()]


def _score(name: str, value: float) -> Score:
    if not math.isfinite(value):
        return Score.invalid(name, _BY, f"the rubric gave {value}")
    return Score.valued(name, value, _BY)
