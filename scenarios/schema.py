"""What a scenario file may say: frozen pydantic models, no key beyond those named here. Imports nothing heavy.

Only the shape lives here, graph and training beside it in files of their own. Reading a file is ``load.py``, what fits
together with what is ``checks.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from .digest import digest
from .graph_spec import END, Arrow, Edge, GraphSpec, NodeSpec, SearchSpec
from .health_spec import HealthSpec, LimitSpec
from .problems import KeyPath
from .recipe_spec import RecipeSpec
from .ref import Flag, Number, Ref, Spec, Whole, located, with_kind
from .registry import graphs
from .schedule import Now, Schedule, place
from .training_spec import CheckpointSpec, OptimizerSpec, ReferenceSpec, TrainerSpec, TrainingSpec, WhenSpec

__all__ = [
    "END", "Arrow", "AuditSpec", "BudgetSpec", "CanarySpec", "CheckpointSpec", "Edge", "EvaluationSpec",
    "Flag", "GraphSpec", "GroupSpec", "HealthSpec", "LimitSpec", "LoraSpec", "MemorySpec", "NodeSpec", "Number",
    "OptimizerSpec", "PolicySpec", "RecipeSpec", "Ref", "ReferenceSpec", "RoleSpec", "RolloutSpec", "Sampling",
    "ScaffoldSpec", "Scenario", "SearchSpec", "Spec", "StoreSpec", "TrainerSpec", "TrainingSpec", "WhenSpec", "Whole",
    "located",
]  # fmt: skip


class Sampling(Spec):
    """How an engine draws tokens. The truncating keys are for roles that are not trained."""

    temperature: Number = Field(default=1.0, ge=0, le=10)
    max_tokens: Whole = Field(default=64, ge=1)
    top_p: Number | None = Field(default=None, gt=0, le=1)
    top_k: Whole | None = Field(default=None, ge=1)
    min_p: Number | None = Field(default=None, ge=0, le=1)


class ScaffoldSpec(Spec):
    """Help that a role reads while it samples and that its update does not: a part of what it ``shows``.

    ``shows``: ``rubric``, or a secret that the environment discloses. ``share`` of it is shown; with ``spread`` linear
    sibling i of n sees (n - 1 - i) / (n - 1) of that. ``prompt`` reads it as ``scaffold``; absent: the role's own. At a
    node with a prompt of its own that one shows it, if it reads ``scaffold``.
    ``kept``: share of the helped turns whose update reads the help too. Evaluations show nothing.
    """

    shows: str = Field(min_length=1)
    share: Number = Field(default=1.0, ge=0, le=1)
    spread: Literal["linear", "none"] = "linear"
    prompt: str | None = None
    kept: Number = Field(default=0.0, ge=0, le=1)


class MemorySpec(Spec):
    """What a role reads of its own past as ``memory``: its ``keep`` newest turns of the run's earlier steps whose score
    ``score`` was at least ``at_least``. With ``rollout.ahead`` the newest ``ahead`` steps before are not among them."""

    keep: Whole = Field(default=8, ge=1, le=256)
    score: str = Field(min_length=1)
    at_least: float = Field(default=0.5, allow_inf_nan=False)


class RoleSpec(Spec):
    """One role: who speaks, from which prompt, seeing what, rewarded how. ``kind`` defaults to the role's key."""

    kind: str
    prompt: str | None = None
    engine: Ref | None = None
    sampling: Sampling = Sampling()
    trainable: Flag = True
    reward: dict[str, Number] = Field(default_factory=dict)
    sees: tuple[str, ...] = ()
    compare: Literal["siblings", "step", "baseline"] = "siblings"
    discount: Number | None = Field(default=None, ge=0, le=1)
    demonstrated: Number = Field(default=0.0, ge=0, le=1)
    weight: Number = Field(default=1.0, ge=0)
    adapter: str = ""
    refuse_empty: Flag | None = None
    scaffold: ScaffoldSpec | None = None
    memory: MemorySpec | None = None

    @field_validator("reward", mode="before")
    @classmethod
    def _weigh(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, (list, tuple)):
            return value
        if not all(isinstance(name, str) for name in value):
            raise ValueError("a list of reward names, or a mapping of names to weights, is needed")
        if len(set(value)) < len(value):
            raise ValueError("a reward is listed twice; give it a weight instead: {name: 2.0}")
        return dict.fromkeys(value, 1.0)


class LoraSpec(Spec):
    """Train low-rank adapters instead of the weights. ``modules`` are names of linear layers, or ``all`` of them."""

    rank: Whole = Field(default=16, ge=1)
    alpha: Number = Field(default=32.0, gt=0)
    modules: tuple[str, ...] | Literal["all"] = "all"


class PolicySpec(Spec):
    """The model that is trained: ``builtin:tiny``, a local folder, or a hub name.

    ``checkpointing`` recomputes activations in the backward pass: less memory, more time, the same gradient.
    """

    model: str = Field(default="builtin:tiny", min_length=1)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    lora: LoraSpec | None = None
    checkpointing: Flag = False


class RolloutSpec(Spec):
    """One step's play: ``picks`` curriculum decisions share ``episodes`` episodes.

    ``ahead``: how many steps play may run ahead of training; 0 samples every step from the newest policy.
    """

    episodes: Whole = Field(default=12, ge=1)
    picks: Whole = Field(default=4, ge=1)
    deterministic: Flag = True
    workers: Whole = Field(default=2, ge=1, le=256)
    max_broken: Number = Field(default=0.2, ge=0, le=1)
    ahead: Whole = Field(default=0, ge=0, le=8)

    @model_validator(mode="after")
    def _enough(self) -> RolloutSpec:
        if self.picks > self.episodes:
            raise ValueError(f"picks: {self.picks} decisions cannot share episodes: {self.episodes}; lower picks")
        if self.ahead and self.deterministic:
            raise ValueError("ahead: play goes on while weights change, so timing decides; set deterministic: false")
        return self


class GroupSpec(Spec):
    """What happens to a group of compared turns before advantages: parts applied in order."""

    stages: tuple[Ref, ...] = ()


class EvaluationSpec(Spec):
    """Held-out tasks every ``every`` steps (0: never); ``metrics``: ``accuracy``, ``pass@k``, ``succ@k`` ...

    The tasks are spread evenly over ``arms``, parameters and values of each; over the curriculum's own when absent.
    """

    every: Whole = Field(default=10, ge=0)
    tasks: Whole = Field(default=200, ge=1)
    arms: dict[str, Annotated[tuple[str | int | float | bool, ...], Field(min_length=1)]] = Field(default_factory=dict)
    metrics: tuple[str, ...] = ("accuracy",)
    temperature: Number = Field(default=1.0, ge=0, le=10)


class CanarySpec(Spec):
    """After weights are put into the engine, and every ``every`` steps (0: never), it speaks ``tokens`` tokens that the
    trainer scores too. A mean gap above ``most`` nats stops the run; ``null`` is 0.0001, or 0.1 for 16-bit weights."""

    every: Whole = Field(default=1, ge=0)
    tokens: Whole = Field(default=64, ge=8, le=4096)
    most: Number | None = Field(default=None, gt=0)


class AuditSpec(Spec):
    """Before a run begins its verifier is tried with cheap answers on ``tasks`` tasks.

    It is refused when one way of answering that needs no understanding earns more than ``most`` on the average.
    """

    most: Number = Field(default=0.25, ge=0)
    tasks: Whole = Field(default=8, ge=1)


class BudgetSpec(Spec):
    """The run stops at a whole step once it has used this much; absent means no limit."""

    minutes: Number | None = Field(default=None, gt=0)
    tokens: Whole | None = Field(default=None, ge=1)


class StoreSpec(Spec):
    """Where rows go, as an SQLAlchemy URL; the environment variable SPARRING_DB wins."""

    url: str = Field(default="sqlite:///sparring.db", min_length=1)


def _graph_tag(value: Any) -> str:
    return "preset" if isinstance(value, str) else "spec"


class Scenario(Spec):
    """A whole scenario. Made by ``sparring.scenarios.load``, which also checks that its parts fit together."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    seed: Whole = Field(default=0, ge=0, lt=2**63)
    policy: PolicySpec = PolicySpec()
    engine: Ref = Ref(kind="transformers")
    environment: Ref
    roles: dict[str, RoleSpec] = Field(min_length=1)
    rewards: dict[str, Ref] = Field(default_factory=dict)
    graph: Annotated[
        Annotated[str, Tag("preset")] | Annotated[GraphSpec, Tag("spec")],
        Discriminator(_graph_tag),
    ]
    tasks: Ref | None = None
    curriculum: Ref = Ref(kind="random")
    rollout: RolloutSpec = RolloutSpec()
    group: GroupSpec = GroupSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    canary: CanarySpec = CanarySpec()
    audit: AuditSpec = AuditSpec()
    health: HealthSpec = HealthSpec()
    budget: BudgetSpec = BudgetSpec()
    store: StoreSpec = StoreSpec()
    load: tuple[str, ...] = ()
    recipe: RecipeSpec | None = None

    _path: Path | None = PrivateAttr(None)
    _schedules: dict[KeyPath, Schedule] = PrivateAttr(default_factory=dict)

    @field_validator("engine", mode="before")
    @classmethod
    def _embedded(cls, value: Any) -> Any:
        return {"kind": "transformers", **value} if isinstance(value, Mapping) else value

    @field_validator("roles", "rewards", mode="before")
    @classmethod
    def _name_kinds(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: with_kind(str(key), role) for key, role in value.items()}

    @property
    def path(self) -> Path | None:
        """The file this came from, ``None`` for text."""
        return self._path

    @property
    def base(self) -> Path:
        """The folder that relative paths in the scenario start from."""
        return self._path.parent if self._path is not None else Path.cwd()

    def graph_spec(self) -> GraphSpec:
        """The graph itself, a preset's name looked up; raises ``UnknownPart``."""
        if isinstance(self.graph, GraphSpec):
            return self.graph
        spec = graphs.get(self.graph)()
        return spec if isinstance(spec, GraphSpec) else GraphSpec.model_validate(spec)

    def task_source(self) -> Ref | None:
        """Where tasks come from: ``tasks``, else the environment's own generator; ``None`` when the graph proposes.

        An option called ``path`` is made to start from the scenario's folder.
        """
        if self.tasks is None:
            return Ref(kind="generator") if self.graph_spec().given else None
        return located(self.tasks, self.base)

    def resolved(self) -> dict[str, Any]:
        """Plain JSON data with every default filled, and ``source``, the file; ``from_resolved`` reads it back."""
        source = str(self._path.absolute()) if self._path is not None else None
        about = {} if self.recipe is None else {"recipe": self.recipe.model_dump(mode="json")}
        return {**self._content(), **about, "source": source}

    @property
    def scheduled(self) -> tuple[KeyPath, ...]:
        """Paths of the numbers that follow a schedule."""
        return tuple(self._schedules)

    def at(self, now: Now) -> Scenario:
        """The scenario with every scheduled number as it is at this moment, itself when there is none.

        Its ``resolved()`` and ``digest`` stay those of the whole scenario. Writes to ``now.state``.
        """
        if not self._schedules:
            return self
        data = self.model_dump(mode="json", by_alias=True)
        for path, schedule in self._schedules.items():
            number = schedule.at(now, path)
            place(data, path, number)
        moment = Scenario.model_validate(data)
        moment._path, moment._schedules = self._path, self._schedules
        return moment

    def _content(self) -> dict[str, Any]:
        data = self.model_dump(mode="json", by_alias=True)
        for path, schedule in self._schedules.items():
            place(data, path, schedule.written())
        del data["recipe"]  # what is said of a run is not what runs
        return data

    @property
    def digest(self) -> str:
        """Content hash of the filled scenario; where the file lies and in which order keys stand do not matter."""
        return digest(self._content())
