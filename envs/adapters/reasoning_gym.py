"""Every dataset of reasoning-gym: its generators make the tasks, its curricula the levels, its scorers the verdicts.

The library runs in a process apart (``apart.py``): some scorers evaluate the answer, and any of them may hang.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparring.envs.base import Environment
from sparring.envs.types import Score, Task
from sparring.scenarios.errors import MissingExtra, ScenarioError
from sparring.scenarios.registry import environments, nearest

from .apart import Apart, ForeignError, apart
from .history import HELD_OUT, SEEDS, TRAINING

_BY = "reasoning_gym"
_FAR = "sparring.envs.adapters.reasoning_gym_entries"
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_DRAWS = 8  # seeds tried before a dataset that cannot make an entry is an error
_MOST_LEVELS = 40
RIGHT = 1.0 - 1e-9  # the library's full mark


class Mixed(BaseModel):
    """One dataset of a mixture. ``weight``: its share among the weights. ``options``: fields of its configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    weight: float = Field(1.0, gt=0)
    options: Mapping[str, Any] = {}


class ReasoningGymOptions(BaseModel):
    """``dataset``: one dataset, ``options`` fields of its configuration; or ``datasets``: names, each with weight and
    options. ``credit``: ``right`` gives 1 for what the library scores 1 and 0 for all else, ``partial`` the library's
    own number. ``raised``: when a scorer raises on an answer, the score is ``invalid``, or ``wrong`` (0) if it still
    scores its own reference 1, so that the answer is to blame. ``tries``: answers until the episode ends.
    ``timeout_s``: seconds for making an entry or scoring an answer; past that the process is ended, the score invalid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    dataset: str | None = None
    options: Mapping[str, Any] = {}
    datasets: Mapping[str, Mixed] = {}
    credit: Literal["right", "partial"] = "right"
    raised: Literal["invalid", "wrong"] = "invalid"
    tries: int = Field(1, ge=1)
    timeout_s: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> ReasoningGymOptions:
        if (self.dataset is None) == (not self.datasets):
            raise ValueError("name one dataset (dataset:) or several (datasets:)")
        if self.datasets and self.options:
            raise ValueError("options of several datasets stand below each name: datasets: {NAME: {options: {...}}}")
        return self


@environments("reasoning_gym")
class ReasoningGymEnvironment(Environment):
    """Tasks of reasoning-gym."""

    Config = ReasoningGymOptions
    parameters: ClassVar = {"level": ("default", *range(_MOST_LEVELS))}
    disclosures = ("reference",)
    examples = ({"datasets": {"spell_backward": {}, "leg_counting": {"weight": 2.0}}},)

    def __init__(self, config: BaseModel | Mapping[str, Any] | None = None) -> None:
        """Raises ``ScenarioError`` for a dataset there is none of and options it does not take."""
        super().__init__(config)
        if importlib.util.find_spec("reasoning_gym") is None:
            raise MissingExtra("environment 'reasoning_gym': pip install 'sparring[reasoning-gym]'")
        self._mixed: dict[str, Mixed] = dict(self.config.datasets)
        if self.config.dataset is not None:
            self._mixed = {self.config.dataset: Mixed(weight=1.0, options=self.config.options)}
        self._far: Apart = apart(_FAR)
        self._levels = {name: self._checked(name, mixed) for name, mixed in self._mixed.items()}
        # what this instance's datasets have; the class names the most that any has
        vars(self)["parameters"] = {"level": ("default", *range(max(self._levels.values())))}
        self._used = 0

    @property
    def stamp(self) -> str:
        """What rows say about this world: the library, and how its process is locked in."""
        return f"reasoning_gym apart={self._far.lock_in}"

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """An entry of the training half of the seeds."""
        return self._drawn(TRAINING, parameters, rng)

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """An entry of the other half."""
        return self._drawn(HELD_OUT, parameters, rng)

    def begin(self, task: Task) -> str:
        """The question."""
        self._used = 0
        return str(task.payload["question"])

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Score what stands in the last answer tag, else the whole text."""
        assert self.task is not None, "reset first"
        self._used += 1
        tagged = _TAGGED.findall(action)
        answer = (tagged[-1] if tagged else action).strip()
        scores = self._scores(self.task.secret, answer)
        value = scores[0].value
        right = value is not None and value >= 1.0
        done = right or value is None or self._used >= self.config.tries
        said = "not scored" if value is None else "right" if right else "wrong"
        return said, value or 0.0, done, False, {"scores": scores}

    def oracle(self) -> str | None:
        """The reference, or a solution searched for where the library keeps none; ``None`` when that takes too long."""
        assert self.task is not None, "reset first"
        reference = self.task.secret["reference"]
        if reference is None:
            key = self._key(str(self.task.payload["dataset"]), self.task.secret["level"], self.task.secret["seed"])
            with contextlib.suppress(ForeignError):
                reference = self._far.call("solve", *key, timeout_s=self.config.timeout_s)
        return None if reference is None else f"<answer>{reference}</answer>"

    def junk_answers(self, task: Task) -> tuple[str, ...]:
        """The common ones, without the one that happens to be right."""
        right = str(task.secret["reference"]).strip().casefold()
        return tuple(junk for junk in super().junk_answers(task) if junk.strip().casefold() != right)

    def state(self) -> object:
        """The number of answers given."""
        return self._used

    def set_state(self, state: Any) -> None:
        """Back to that number."""
        self._used = state

    def _checked(self, name: str, mixed: Mixed) -> int:
        """The dataset's number of levels."""
        known = self._far.call("names")
        if name not in known:
            hint = nearest(name, known)
            meant = (
                f"; did you mean {hint!r}?" if hint else f"; there are {len(known)}, of which the first is {known[0]!r}"
            )
            raise ScenarioError(f"environment reasoning_gym: no dataset {name!r}{meant}")
        wrong = self._far.call("check", name, dict(mixed.options), timeout_s=120.0)
        if wrong:
            raise ScenarioError(f"environment reasoning_gym: {name} does not take its options: {wrong}")
        return int(self._far.call("levels", name))

    def _drawn(self, half: int, parameters: Mapping[str, Any], rng: Generator) -> Task:
        names = list(self._mixed)
        weights = [self._mixed[name].weight for name in names]
        name = names[int(rng.choice(len(names), p=[weight / sum(weights) for weight in weights]))]
        level = self._level(parameters)
        problem = ""
        for _ in range(_DRAWS):
            seed = half + int(rng.integers(SEEDS))
            try:
                entry = self._far.call("make", *self._key(name, level, seed), timeout_s=self.config.timeout_s)
            except ForeignError as error:
                problem = f"{error.how}: {error}"
                continue
            if entry["proof"] is not None and entry["proof"] < RIGHT:
                problem = f"the library scores its own answer {entry['answer']!r:.60} {entry['proof']:g}"
                continue
            secret = {"reference": entry["answer"], "level": level, "seed": seed}
            payload = {"question": str(entry["question"]), "dataset": name}
            return Task(_BY, payload, secret, dict(parameters), (name,), "generator")
        raise ScenarioError(
            f"environment reasoning_gym: {name} made no entry from {_DRAWS} seeds at level "
            f"{'default' if level is None else level} ({problem}); change its options, the level or timeout_s"
        )

    def _level(self, parameters: Mapping[str, Any]) -> int | None:
        level = parameters.get("level", "default")
        if level == "default":
            return None
        most = max(self._levels.values())
        if not 0 <= int(level) < most:
            there = f"levels 0 to {most - 1}" if most else "no levels"
            raise ScenarioError(
                f"environment reasoning_gym: {', '.join(self._mixed)}: found level {level}, has {there}"
            )
        return int(level)

    def _key(self, name: str, level: int | None, seed: int) -> tuple[str, dict[str, Any], int | None, int]:
        return name, dict(self._mixed[name].options), level, seed

    def _scores(self, secret: Mapping[str, Any], answer: str) -> list[Score]:
        assert self.task is not None, "reset first"
        key = self._key(str(self.task.payload["dataset"]), secret["level"], secret["seed"])
        try:
            value, note = self._far.call("score", *key, answer, timeout_s=self.config.timeout_s)
        except ForeignError as error:
            note = f"the scorer {error.how}: {error}"[:500]
            if error.how != "raised" or not self._blames_answer(key, secret["reference"]):
                return [Score.invalid("verifier", _BY, note)]
            value = 0.0
        right = float(value) if self.config.credit == "partial" else float(value >= RIGHT)
        return [Score.valued("verifier", right, _BY, note), Score.valued("upstream", value, _BY)]

    def _blames_answer(self, key: tuple[Any, ...], reference: Any) -> bool:
        if self.config.raised == "invalid" or not isinstance(reference, str):
            return False
        try:
            return bool(self._far.call("score", *key, reference, timeout_s=self.config.timeout_s)[0] >= RIGHT)
        except ForeignError:
            return False
