"""Any registered Gymnasium environment whose actions are words or numbers, played in text."""

from __future__ import annotations

import importlib
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
from gymnasium import spaces
from pydantic import BaseModel, ConfigDict, Field

from sparring.envs.types import Score, Task, digest
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.registry import environments, nearest

from .globals import Globals
from .history import Replayed, shown

_BY = "gymnasium"
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_COLOURED = re.compile(r"\x1b\[[0-9;]*m(.*?)\x1b\[0m", re.DOTALL)


class GymnasiumOptions(BaseModel):
    """``id``: a registered id (``FrozenLake-v1``, ``package:Id-v0``) or ``module:Class``. ``options``: its arguments.
    ``actions``: names of a discrete space's actions, in order. ``instructions``: words before the first observation.
    ``render``: what ``render()`` draws is the observation, for worlds with the mode ``ansi``. ``max_steps``: actions
    until the episode is cut. ``invalid``: an action nobody can read loses the episode, or is told and tried again.
    ``lost``: the value of an episode lost so; put it below what bad play earns where rewards are negative.
    ``score``: the verifier's value at the end is the sum of rewards, or the last one. ``threshold``: when set, the
    value is 1 from there on and 0 below.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(min_length=1)
    options: Mapping[str, Any] = {}
    actions: tuple[str, ...] = ()
    instructions: str = ""
    render: bool = False
    max_steps: int = Field(100, ge=1)
    invalid: Literal["lose", "retry"] = "lose"
    lost: float = Field(0.0, allow_inf_nan=False)
    score: Literal["sum", "last"] = "sum"
    threshold: float | None = None


@environments("gymnasium")
class GymnasiumEnvironment(Replayed):
    """A Gymnasium environment with discrete or text actions."""

    Config = GymnasiumOptions
    examples = (
        {"id": "FrozenLake-v1", "render": True, "max_steps": 8},
        {"id": "Taxi-v4", "max_steps": 5, "invalid": "retry"},
    )

    def __init__(self, config: BaseModel | Mapping[str, Any] | None = None) -> None:
        """Raises ``ScenarioError`` for an id nobody registered and for spaces that are no text."""
        super().__init__(config)
        self._globals = Globals(_BY, self.config.id)
        self._world: gymnasium.Env[Any, Any] | None = None
        self._actions = _actions(self._opened(), self.config)
        self._rewards: list[float] = []
        self._used = 0

    def named(self, seed: int, parameters: Mapping[str, Any]) -> Task:
        """The start ``seed`` of this world; with other options it is another task."""
        options = digest([dict(self.config.options), self.config.render], 8)
        payload = {"world": self.config.id, "options": options, "seed": seed}
        return Task(_BY, payload, {}, dict(parameters), (self.config.id,), "generator")

    def start(self, task: Task) -> str:
        """The first observation, after the instructions."""
        self._rewards, self._used = [], 0
        seed = int(task.payload["seed"])
        self._globals.seed(self.config.id, seed)
        with self._globals.lend():
            observation, _ = self._opened().reset(seed=seed)
            said = self._words(observation)
        return f"{self.config.instructions}\n{said}".strip() if self.config.instructions else said

    def play(self, action: str) -> tuple[str, list[Score], bool, bool]:
        """One action. The last one carries the verifier's score; each carries its own reward as score ``reward``."""
        self._used += 1
        cut = self._used >= self.config.max_steps
        chosen = self._actions.read(action)
        if chosen is None:
            return self._unreadable(cut)
        try:
            with self._globals.lend():
                observation, reward, terminated, truncated, _ = self._opened().step(chosen)
                said = self._words(observation)
            self._rewards.append(float(reward))
        except (Exception, SystemExit) as error:  # foreign code: whatever it raises is its failure, not the player's
            return self._failed(f"step raised {type(error).__name__}: {error}"[:500])
        if not math.isfinite(self._rewards[-1]):
            return self._failed(f"step {self._used} gave the reward {self._rewards[-1]}")
        over = bool(terminated or truncated) or cut
        step = Score.valued("reward", self._rewards[-1], _BY)
        return said, [self._verdict(), step] if over else [step], over, over and not terminated

    def junk_answers(self, task: Task) -> tuple[str, ...]:
        """The common ones, without those that are actions here."""
        return tuple(answer for answer in super().junk_answers(task) if self._actions.read(answer) is None)

    def close(self) -> None:
        """Close the foreign environment."""
        world, self._world = self._world, None
        if world is not None:
            with self._globals.lend():
                world.close()

    def _opened(self) -> gymnasium.Env[Any, Any]:
        if self._world is None:
            with self._globals.lend(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its makers' notices, about versions and such
                self._world = _make(self.config)
        return self._world

    def _words(self, observation: Any) -> str:
        if self.config.render:
            return _COLOURED.sub(r"(\1)", str(self._opened().render())).strip("\n")
        return shown(observation)

    def _verdict(self) -> Score:
        value = self._rewards[-1] if self.config.score == "last" else math.fsum(self._rewards)
        if self.config.threshold is not None:
            value = float(value >= self.config.threshold)
        return Score.valued("verifier", value, _BY, f"{len(self._rewards)} steps")

    def _unreadable(self, cut: bool) -> tuple[str, list[Score], bool, bool]:
        said = f"That is no action here. {self._actions.told}"
        if self.config.invalid == "lose":
            return said, [self._lost()], True, False
        if not cut:
            return said, [], False, False
        return said, [self._verdict() if self._rewards else self._lost()], True, True

    def _lost(self) -> Score:
        return Score.valued("verifier", self.config.lost, _BY, "no action")

    def _failed(self, note: str) -> tuple[str, list[Score], bool, bool]:
        self._world = None  # broken in the middle of a step: the next episode gets a new one
        return "The environment failed.", [Score.invalid("verifier", _BY, note)], True, False


class _Names:
    """Discrete actions by name or number."""

    def __init__(self, space: spaces.Discrete[Any], names: tuple[str, ...]) -> None:
        self._first, self._count = int(space.start), int(space.n)
        self._names = {name.strip().casefold(): self._first + place for place, name in enumerate(names)}
        numbers = range(self._first, self._first + self._count)
        listed = ", ".join(names) if names else f"{numbers[0]} to {numbers[-1]}"
        self.told = f"Actions: {listed}."

    def read(self, text: str) -> int | None:
        """What stands in the last answer tag, else all of ``text``, else its last line."""
        tagged = _TAGGED.findall(text)
        lines = text.strip().splitlines()
        for candidate in tagged[-1:] or [text, *lines[-1:]]:
            word = candidate.strip().strip("[].'\"").casefold()
            if word in self._names:
                return self._names[word]
            if word.isascii() and word.isdigit() and 0 <= int(word[:9]) - self._first < self._count:
                return int(word[:9])
        return None


class _Words:
    """Actions that are text already: what the space contains."""

    told = "It must be text this environment takes."

    def __init__(self, space: spaces.Space[Any]) -> None:
        self._space = space

    def read(self, text: str) -> str | None:
        """The text itself."""
        return text if self._space.contains(text) else None


def _make(config: GymnasiumOptions) -> gymnasium.Env[Any, Any]:
    mode = {"render_mode": "ansi"} if config.render else {}
    arguments = {**config.options, **mode}
    module, _, name = config.id.rpartition(":")
    if module and not re.search(r"-v\d+$", name):
        made: gymnasium.Env[Any, Any] = _class_of(module, name, config.id)(**arguments)
        return made
    try:
        return gymnasium.make(config.id, disable_env_checker=True, **arguments)
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.Error, ModuleNotFoundError) as error:
        hint = nearest(config.id, list(gymnasium.registry))
        meant = f"; did you mean {hint!r}?" if hint else ""
        raise ScenarioError(f"environment gymnasium: id {config.id!r} cannot be made: {error}{meant}") from None
    except TypeError as error:
        raise ScenarioError(f"environment gymnasium: {config.id} does not take these options: {error}") from None


def _class_of(module: str, name: str, written: str) -> Any:
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ScenarioError(
            f"environment gymnasium: id {written!r} is no registered id and no module:Class ({error})"
        ) from None
    return found


def _actions(world: gymnasium.Env[Any, Any], config: GymnasiumOptions) -> _Names | _Words:
    space = world.action_space
    if isinstance(space, spaces.Discrete):
        if config.actions and len(config.actions) != int(space.n):
            raise ScenarioError(
                f"environment gymnasium: {config.id} has {int(space.n)} actions, actions names {len(config.actions)}"
            )
        return _Names(space, config.actions)
    if isinstance(space, spaces.Text) or (not isinstance(space, spaces.Box) and space.contains("")):
        return _Words(space)
    raise ScenarioError(
        f"environment gymnasium: the actions of {config.id} are {space}; a model that writes text can play "
        "Discrete and Text action spaces"
    )
