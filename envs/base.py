"""Environment: the Gymnasium contract over text, plus tasks, proposals, verification and snapshots.

A new environment is one class with ``sample`` and ``step`` (and ``admit`` when a teacher may propose tasks).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict

from sparring.scenarios.errors import ContractBroken, ScenarioError

from .criteria import RUBRIC, read_criteria
from .spaces import Unicode
from .tools import Tool
from .types import Criterion, Position, Refusal, Task


class NoOptions(BaseModel):
    """The options of a part that takes none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Environment(gymnasium.Env[str, str]):
    """A world of text. One instance plays one episode at a time; instances share nothing an episode can change.

    ``step`` returns ``info["scores"]``: a list of ``Score`` for that action, one named ``verifier`` when the answer can
    be verified; or a mapping of seats to such lists, each for the newest turn of the role that sits there. All chance
    comes from ``self.np_random`` or a generator handed in, never from global state.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    Config: ClassVar[type[BaseModel]] = NoOptions
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Curriculum parameters and the values each may take."""
    ranges: ClassVar[Mapping[str, tuple[int | float, int | float]]] = {}
    """Curriculum parameters that are continuous, and the bounds of each. Whole bounds mean that it is a whole number;
    such a one may stand in ``parameters`` too."""
    disclosures: ClassVar[tuple[str, ...]] = ()
    """Names in ``Task.secret`` that a role's ``sees`` may ask for."""
    junk: ClassVar[tuple[str, ...]] = (
        "",
        " ",
        "0",
        "1",
        "yes",
        "none",
        "<answer></answer>",
        "I am correct.",
        "?" * 4000,
    )
    """Answers no verifier or rubric may reward, whatever the task."""
    tools: ClassVar[tuple[Tool, ...]] = ()
    row_fields: ClassVar[Mapping[str, type]] = {}
    """Fields every row of a data file must have, checked before anything runs."""
    scores: ClassVar[tuple[str, ...]] = ()
    """Names of the scores it gives beside ``verifier``; a role's ``reward`` may name them."""
    seats: ClassVar[tuple[str, ...]] = ()
    """Names of the roles it deals with one by one. They hear of each other only what the environment tells them."""
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    """Options it is checked with: a set for every way of using it."""
    measures: ClassVar[tuple[str, ...]] = ()
    """Names of the figures that ``measure`` gives; they may stand in ``evaluation.metrics``."""
    limit_s: ClassVar[float] = 600.0
    """Seconds that one call of it may take; a run leaves a longer one behind and goes on."""
    unaudited: ClassVar[str] = ""
    """Why its verifier cannot be audited with cheap answers (a game against an opponent, say); empty when it can."""

    def __init__(self, config: BaseModel | Mapping[str, Any] | None = None) -> None:
        """``config`` is this class's ``Config``, or a mapping it validates."""
        super().__init__()
        kind = type(self).Config
        self.config: Any = config if isinstance(config, kind) else kind.model_validate(dict(config or {}))
        self.observation_space = Unicode()
        self.action_space = Unicode()
        self.task: Task | None = None

    # what an environment writes -------------------------------------------------------------------------------

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A task with these parameters, from the environment's own generator."""
        raise NotImplementedError(f"{type(self).__name__} has no task generator; name a task source in the scenario")

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A task for evaluation. Training refuses its key; an environment with a split of its own overrides this."""
        return self.sample({**{name: values[0] for name, values in self.parameters.items()}, **parameters}, rng)

    def similar(self, task: Task, rng: Generator) -> Task:
        """Another task that asks for what ``task`` asks for, so that what helps with the one helps with the other."""
        first = {name: values[0] for name, values in self.parameters.items()}
        return self.sample({**first, **task.parameters}, rng)

    def begin(self, task: Task) -> str:
        """Start an episode on ``task``; the first observation. ``self.task`` is already set."""
        raise NotImplementedError(f"{type(self).__name__} must define begin(task) or its own reset")

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task | Refusal:
        """Turn what a role proposed into a task, or say why not. May be called from several threads at once."""
        return Refusal("no_proposals", f"{type(self).__name__} does not take proposed tasks")

    def task_from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """Turn a row of a data file into a task; raises ``ScenarioError`` beginning with ``where``, file and line."""
        raise ScenarioError(f"{where}: {type(self).__name__} does not take tasks from a file")

    def rubric(self, task: Task) -> Sequence[Criterion]:
        """The criteria a task brings along; points below 0 are a penalty. By default what its row of a file gave."""
        given = task.secret.get(RUBRIC)
        return () if given is None else read_criteria(given, task.origin or task.environment)

    def oracle(self) -> str | None:
        """The action that is best now; ``None`` when it is not known. Played to the end it earns the full mark."""
        return None

    def demonstration(self, contract: str, said: str) -> str | None:
        """What a role with this output ``contract`` would best say now; ``None`` when it is not known.

        ``said`` are the last words of a role on the branch, which a judge judges. Unless an environment knows better,
        every role is shown the best action, ``oracle()``.
        """
        return self.oracle()

    def toolbox(self) -> Sequence[Tool]:
        """The tools of this instance, in the order they are shown."""
        return self.tools

    def positions(self) -> Sequence[Position]:
        """Every decision of the game, where ``measures`` names figures that need the policy's probabilities there."""
        return ()

    def measure(self, probabilities: Mapping[str, Sequence[float]]) -> Mapping[str, float]:
        """The figures named in ``measures``. ``probabilities`` maps a position's label to those of its actions."""
        return {}

    @classmethod
    def facet(cls, config: BaseModel) -> Any:
        """What these options make of ``parameters``, ``disclosures``, ``row_fields`` and ``measures``; checks read them
        off what is returned."""
        return cls

    @property
    def parameter_space(self) -> gymnasium.spaces.Box | None:
        """``ranges`` as a box, one dimension per parameter in their order; ``None`` when there are none."""
        if not self.ranges:
            return None
        low, high = zip(*self.ranges.values(), strict=True)
        return gymnasium.spaces.Box(np.array(low, np.float64), np.array(high, np.float64), dtype=np.float64)

    @property
    def addressee(self) -> str | None:
        """The seat that the newest observation is for, and that acts next; ``None``: whoever the graph sends."""
        return None

    @property
    def stamp(self) -> str:
        """What the row of each of its turns says about the world it comes from."""
        return ""

    def state(self) -> object:
        """What ``snapshot`` keeps beside task and random state; ``NotImplemented`` when it cannot be kept."""
        return NotImplemented

    def set_state(self, state: Any) -> None:
        """Undo to a value ``state`` gave."""
        raise NotImplementedError(f"{type(self).__name__} cannot snapshot")

    # what everyone gets ---------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode on ``options["task"]``, or on one sampled with ``options["parameters"]``.

        Raises ``ContractBroken`` for a task of another environment.
        """
        super().reset(seed=seed)
        given = dict(options or {})
        task = given.get("task")
        if task is None:
            parameters = {name: values[0] for name, values in self.parameters.items()}
            task = self.sample({**parameters, **given.get("parameters", {})}, self.np_random)
        if not isinstance(task, Task):
            raise ContractBroken(f"options['task'] is a {type(task).__name__}; reset takes a sparring.envs.types.Task")
        self.task = task
        return self.begin(task), {"task": task}

    @property
    def can_snapshot(self) -> bool:
        """Whether ``snapshot`` and ``restore`` work, so that an episode can branch here."""
        return self.state() is not NotImplemented

    def snapshot(self) -> object:
        """This moment of the episode, random state included; an opaque value for ``restore``."""
        kept = self.state()
        if kept is NotImplemented:
            raise NotImplementedError(f"{type(self).__name__} cannot snapshot; ask can_snapshot first")
        return self.task, copy.deepcopy(kept), copy.deepcopy(self.np_random.bit_generator.state)

    def restore(self, snapshot: object) -> None:
        """Go back to a moment ``snapshot`` kept, of this or of another instance of the same class."""
        if not (isinstance(snapshot, tuple) and len(snapshot) == 3):
            raise ContractBroken(f"{type(self).__name__}.restore takes what snapshot() returned, got {snapshot!r:.60}")
        self.task, kept, random_state = snapshot
        self.set_state(copy.deepcopy(kept))
        self.np_random.bit_generator.state = copy.deepcopy(random_state)

    def junk_answers(self, task: Task) -> tuple[str, ...]:
        """Constant, empty, junk, prompt-echo and overlong answers for the audit of verifiers and rubrics."""
        shown = "\n".join(str(value) for value in task.payload.values())
        return (*self.junk, shown, shown * 50)
