"""An environment that breaks in the way its option ``how`` names, as a user's own file would."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict

from sparring.envs.base import Environment
from sparring.envs.types import Score, Task
from sparring.scenarios.registry import environments

STOP = threading.Event()  # set by tests when hanging calls may end
RIGHT = [Score.valued("verifier", 1.0, "bad")]
UNTYPED: Any = Score  # as a plug-in without a type checker calls it
ANSWERS: dict[str, Any] = {
    "fine": ("well", 1.0, True, False, {"scores": RIGHT}),
    "nan reward": ("well", math.nan, True, False, {}),
    "no reward": ("well", None, True, False, {}),
    "text as reward": ("well", "one", True, False, {}),
    "nan score": ("well", 0.0, True, False, {"scores": [Score.valued("verifier", math.nan, "bad")]}),
    "text as value": ("well", 0.0, True, False, {"scores": [UNTYPED("verifier", "1", "valued", "bad")]}),
    "number as score": ("well", 0.0, True, False, {"scores": [0.5]}),
    "number for scores": ("well", 0.0, True, False, {"scores": 0.5}),
    "four values": ("well", 1.0, True, {}),
    "nothing": None,
    "number for words": (7, 1.0, True, False, {"scores": RIGHT}),
    "no info": ("well", 1.0, True, False, None),
    "words for a flag": ("well", 1.0, "no", False, {"scores": RIGHT}),
    "endless": ("again", 0.0, False, False, {"scores": RIGHT}),
}


class Options(BaseModel):
    """``how`` it breaks; ``at``: only at actions with this in them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    how: str = "fine"
    at: str = ""


@environments("bad-world")
class BadWorld(Environment):
    """Any answer is right, unless the world breaks first."""

    Config = Options
    parameters: ClassVar = {"length": (1, 2)}
    limit_s = 0.3
    unaudited = "it is broken on purpose"

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        if self.config.how == "no task":
            raise KeyError("the list of words is empty")
        return Task("bad-world", {"text": f"word {int(rng.integers(1_000_000))}"}, parameters=dict(parameters))

    def begin(self, task: Task) -> str:
        return str(task.payload["text"])

    def step(self, action: str) -> Any:
        how = self.config.how if self.config.at in action else "fine"
        if how == "raises":
            raise ValueError("no such \ud800 door")
        if how == "exits":
            sys.exit(7)
        if how == "hangs":
            STOP.wait()
        return ANSWERS.get(how, ANSWERS["fine"])
