"""An environment whose moments are kept as the actions that led to them: foreign games can rarely be copied."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import Generator

from sparring.envs.base import Environment
from sparring.envs.types import Task

SEEDS = 1 << 30
TRAINING, HELD_OUT = 0, SEEDS  # two halves of the seeds below 2**31, so that no start is in both


class Replayed(Environment):
    """Tasks name the foreign seed, so a moment is its task and the actions since; restoring plays them again.

    A subclass gives ``start(task) -> str`` and ``play(action) -> (observation, scores, over, truncated)``, and lets no
    chance in but the seed's. Restoring the moment an instance is at costs nothing.
    """

    _taken: tuple[str, ...] = ()
    _at: tuple[str, tuple[str, ...]] | None = None

    def start(self, task: Task) -> str:
        """Begin the foreign episode; its seed is ``task.payload["seed"]`` where tasks are ``named``."""
        raise NotImplementedError

    def play(self, action: str) -> tuple[str, Any, bool, bool]:
        """One action."""
        raise NotImplementedError

    def named(self, seed: int, parameters: Mapping[str, Any]) -> Task:
        """The task that starts from ``seed``."""
        raise NotImplementedError

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A start whose seed is in the training half."""
        return self.named(TRAINING + int(rng.integers(SEEDS)), parameters)

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A start whose seed is in the other half."""
        return self.named(HELD_OUT + int(rng.integers(SEEDS)), parameters)

    def begin(self, task: Task) -> str:
        """The first observation."""
        self._taken, self._at = (), None
        observation = self.start(task)
        self._at = (task.key, ())
        return observation

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play ``action``; the reward is the verifier's, 0 until there is one."""
        assert self.task is not None, "reset first"
        self._at = None  # until the step is through, nobody knows where the foreign episode stands
        observation, scores, over, truncated = self.play(action)
        self._taken = (*self._taken, action)
        self._at = (self.task.key, self._taken)
        listed = list(scores) if not isinstance(scores, Mapping) else [s for found in scores.values() for s in found]
        reward = next((score.value for score in listed if score.name == "verifier" and score.value is not None), 0.0)
        return observation, float(reward), over and not truncated, truncated, {"scores": scores}

    def state(self) -> object:
        """The actions taken."""
        return self._taken

    def set_state(self, state: Any) -> None:
        """Play ``state`` from the start, unless the instance stands there already."""
        assert self.task is not None, "restore sets the task first"
        if self._at == (self.task.key, state):
            return
        self.begin(self.task)
        for action in state:
            self.step(action)


def shown(value: Any) -> str:
    """An observation as text: words as they are, numbers and short arrays in JSON, mappings a line for each key."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {shown(one)}" for key, one in value.items())
    if isinstance(value, np.generic | np.ndarray):
        return shown(value.tolist())
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(one) for one in value) + "]"
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    return str(value)
