"""The smallest environment: say the word again. Tests and newcomers read it first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field

from sparring.scenarios.registry import environments

from .base import Environment
from .types import Refusal, Score, Task


class EchoOptions(BaseModel):
    """``tries``: answers a player may give before the episode ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tries: int = Field(1, ge=1)


@environments("echo")
class EchoEnvironment(Environment):
    """Repeat a short word."""

    Config = EchoOptions
    parameters: ClassVar = {"length": range(1, 9)}
    disclosures = ("reference",)

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A random word of ``length`` letters."""
        word = "".join("abcdefgh"[i] for i in rng.integers(8, size=int(parameters["length"])))
        return self._task(word, parameters, "generator")

    def begin(self, task: Task) -> str:
        """The word to repeat."""
        self.used = 0
        return str(task.payload["text"])

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Right when the stripped answer is the word."""
        assert self.task is not None, "reset first"
        self.used += 1
        right = action.strip() == self.task.secret["reference"]
        score = Score.valued("verifier", right, by="echo", note="right" if right else "wrong")
        done = right or self.used >= self.config.tries
        return "right" if right else "wrong", float(right), done, False, {"scores": [score]}

    def oracle(self) -> str | None:
        """The word."""
        return None if self.task is None else str(self.task.secret["reference"])

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task | Refusal:
        """Any word of the length asked for."""
        word = text.strip()
        length = int(parameters.get("length", len(word)))
        if not word or len(word) != length or word in self.junk:
            return Refusal("empty" if not word else "length", f"{len(word)} characters, asked for {length}")
        return self._task(word, parameters, "proposal")

    def junk_answers(self, task: Task) -> tuple[str, ...]:
        """The common ones; repeating the prompt is right here, so that is no junk."""
        return self.junk

    def state(self) -> object:
        """The number of answers given."""
        return self.used

    def set_state(self, state: Any) -> None:
        """Back to that number."""
        self.used = state

    def _task(self, word: str, parameters: Mapping[str, Any], origin: str) -> Task:
        return Task("echo", {"text": word}, {"reference": word}, dict(parameters), ("echo",), origin)
