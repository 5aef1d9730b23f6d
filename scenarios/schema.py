"""What a scenario file may say: frozen pydantic models, no key beyond those named here. Imports nothing heavy.

Only the shape lives here. Reading a file is ``load.py``, what fits together with what is ``checks.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Strict,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from .digest import digest
from .problems import KeyPath
from .registry import graphs
from .schedule import Now, Schedule, place

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]

END = "END"
EDGE = re.compile(
    r"\s*(?P<source>[\w-]+)\s*->\s*(?P<targets>[\w-]+(?:\s*,\s*[\w-]+)*)(?:\s+if\s+(?P<condition>[\w-]+))?\s*"
)


class Spec(BaseModel):
    """Base of every scenario model: frozen, unknown keys refused, no inf or nan."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


def _rest(value: Mapping[str, Any], *without: str) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in without}


def _with_kind(key: str, role: Any) -> Any:
    if role is None:
        return {"kind": key}
    if isinstance(role, Mapping) and role.get("kind") is None:
        return {**role, "kind": key}
    return role


class Ref(Spec):
    """A part by name. In YAML a string, or a mapping with ``kind`` and the part's options flat beside it."""

    kind: str = Field(min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        if not isinstance(value, Mapping):
            raise ValueError("a part's name, or a mapping with kind: and its options, is needed")
        if set(value) <= {"kind", "options"} and isinstance(value.get("options"), dict):
            return dict(value)
        return {**({"kind": value["kind"]} if "kind" in value else {}), "options": _rest(value, "kind")}

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.options}


def located(ref: Ref, base: Path) -> Ref:
    """The reference with an option called ``path`` made to start from ``base``, the scenario's folder."""
    path = ref.options.get("path")
    if not isinstance(path, str) or not path:
        return ref
    return ref.model_copy(update={"options": {**ref.options, "path": str(base / path)}})


class Sampling(Spec):
    """How an engine draws tokens. The truncating keys are for roles that are not trained."""

    temperature: Number = Field(default=1.0, ge=0, le=10)
    max_tokens: Whole = Field(default=64, ge=1)
    top_p: Number | None = Field(default=None, gt=0, le=1)
    top_k: Whole | None = Field(default=None, ge=1)
    min_p: Number | None = Field(default=None, ge=0, le=1)


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
    weight: Number = Field(default=1.0, ge=0)
    adapter: str = ""

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


class NodeSpec(Spec):
    """One node of a graph: a role speaks (``role``), or the environment acts (``do``)."""

    role: str | None = None
    do: Literal["admit", "step"] | None = None
    samples: Whole = Field(default=1, ge=1, le=1024)
    prompt: str | None = None
    pick: Literal["all", "balanced", "wrong", "right", "first"] = "all"
    at_most: Whole | None = Field(default=None, ge=1)
    fresh: Flag = False

    @model_validator(mode="after")
    def _one_actor(self) -> NodeSpec:
        if (self.role is None) == (self.do is None):
            raise ValueError("a node needs exactly one of role: or do:")
        if self.do is not None and (self.samples != 1 or self.prompt is not None or self.fresh):
            raise ValueError("samples, prompt and fresh are for nodes with a role: the environment acts once per turn")
        return self


class Arrow(NamedTuple):
    """One source, one target, and the condition's name or ``None``."""

    source: str
    target: str
    condition: str | None


class Edge(Spec):
    """One line of ``edges``: ``a -> b, c if condition`` or ``{from: a, to: [b, c], if: condition}``."""

    source: str = Field(alias="from", min_length=1)
    targets: tuple[str, ...] = Field(alias="to", min_length=1)
    condition: str | None = Field(default=None, alias="if")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            targets = value.get("to")
            return {**value, "to": [targets]} if isinstance(targets, str) else value
        found = EDGE.fullmatch(value) if isinstance(value, str) and len(value) < 1000 else None
        if found is None:
            raise ValueError("an edge is written 'a -> b', 'a -> b, c if wrong' or {from: a, to: b, if: wrong}")
        targets = [name.strip() for name in found["targets"].split(",")]
        return {"from": found["source"], "to": targets, "if": found["condition"]}


class GraphSpec(Spec):
    """Who speaks after whom. ``start`` is the first node unless said otherwise; ``END`` may be a target."""

    nodes: dict[str, NodeSpec] = Field(min_length=1)
    edges: tuple[Edge, ...] = ()
    start: str = ""

    @field_validator("nodes", mode="before")
    @classmethod
    def _plain_names(cls, value: Any) -> Any:
        for name in value if isinstance(value, Mapping) else ():
            if name == END or not re.fullmatch(r"[\w-]+", str(name)):
                raise ValueError(f"{name!r} cannot name a node: letters, digits, _ and - are allowed, END is taken")
        return value

    @model_validator(mode="before")
    @classmethod
    def _first(cls, value: Any) -> Any:
        nodes = value.get("nodes") if isinstance(value, Mapping) else None
        if isinstance(nodes, Mapping) and nodes and value.get("start") in (None, ""):
            return {**value, "start": next(iter(nodes))}
        return value

    def arrows(self) -> tuple[Arrow, ...]:
        """Every edge with one target each, in the order written; leaving the graph is the target ``END``."""
        return tuple(Arrow(edge.source, target, edge.condition) for edge in self.edges for target in edge.targets)

    @property
    def proposes(self) -> bool:
        """Whether tasks arise inside the graph (it has a ``do: admit`` node)."""
        return any(node.do == "admit" for node in self.nodes.values())

    def roles(self) -> list[str]:
        """The roles that speak, in the order their nodes are written, each once."""
        return list(dict.fromkeys(node.role for node in self.nodes.values() if node.role is not None))


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
    """One step's play: ``picks`` curriculum decisions share ``episodes`` episodes."""

    episodes: Whole = Field(default=12, ge=1)
    picks: Whole = Field(default=4, ge=1)
    deterministic: Flag = True
    workers: Whole = Field(default=2, ge=1, le=256)
    max_broken: Number = Field(default=0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _enough(self) -> RolloutSpec:
        if self.picks > self.episodes:
            raise ValueError(f"picks: {self.picks} decisions cannot share episodes: {self.episodes}; lower picks")
        return self


class GroupSpec(Spec):
    """What happens to a group of compared turns before advantages: parts applied in order."""

    stages: tuple[Ref, ...] = ()


class OptimizerSpec(Spec):
    """``lr`` per step, ``warmup`` in steps (linear from 0)."""

    kind: Literal["adamw", "sgd"] = "adamw"
    lr: Number = Field(default=1e-3, ge=0)
    betas: tuple[Number, Number] = (0.9, 0.95)
    weight_decay: Number = Field(default=0.0, ge=0)
    warmup: Whole = Field(default=0, ge=0)

    @field_validator("betas")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("two numbers from 0 up to, not including, 1 are needed")
        return value


class CheckpointSpec(Spec):
    """Weights are written every ``every`` steps and the newest ``keep`` are kept."""

    every: Whole = Field(default=1, ge=1)
    keep: Whole = Field(default=2, ge=1)


class WhenSpec(Spec):
    """A trainer waits until a figure of the last step is inside these bounds; a figure that is not there is outside."""

    metric: str = Field(min_length=1)
    at_least: Number | None = None
    at_most: Number | None = None

    def holds(self, figures: Mapping[str, float | None]) -> bool:
        """Whether the figure is there and inside the bounds."""
        value = figures.get(self.metric)
        if value is None:
            return False
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


class TrainerSpec(Ref):
    """A trainer part and when it takes part in a step: steps after ``after`` up to ``until``, each ``every``-th one.

    ``weight`` scales its loss. Its other keys are the part's options.
    """

    after: Whole = Field(default=0, ge=0)
    until: Whole | None = Field(default=None, ge=1)
    every: Whole = Field(default=1, ge=1)
    when: WhenSpec | None = None
    weight: Number = Field(default=1.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        if not isinstance(value, Mapping):
            raise ValueError("a trainer's name, or a mapping with kind: and its options, is needed")
        own = {key: item for key, item in value.items() if key in cls.model_fields and key != "options"}
        options = value.get("options")
        rest = options if isinstance(options, dict) else _rest(value, *own)
        return {**own, "options": dict(rest)}

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        when = self.when.model_dump(mode="json") if self.when is not None else None
        plan = {"after": self.after, "until": self.until, "every": self.every, "when": when, "weight": self.weight}
        return {"kind": self.kind, **plan, **self.options}

    def due(self, step: int, figures: Mapping[str, float | None]) -> bool:
        """Whether it takes part in this step (from 1), given the last step's figures."""
        if step <= self.after or (self.until is not None and step > self.until) or (step - self.after) % self.every:
            return False
        return self.when is None or self.when.holds(figures)


class ReferenceSpec(Spec):
    """What log-probs are compared with by a KL term or DPO: ``start`` is the policy as this run began, or a model.

    ``every`` steps the policy itself becomes the reference (0: never).
    """

    model: str = Field(default="start", min_length=1)
    every: Whole = Field(default=0, ge=0)


class TrainingSpec(Spec):
    """The update: how many, what teaches, with which optimiser.

    ``objective`` names a bundle of advantage, loss and group stages; what is written beside it wins. ``trainers`` are
    the parts that make rows of what was played; ``rl`` alone unless said otherwise. Each step is ``epochs`` passes over
    its rows in ``minibatches`` optimiser updates each. ``layout`` is how rows lie in a batch: padded, or packed end to
    end; auto packs on a GPU where the model reads packed rows exactly. ``on_bad_step``: what a loss or gradient that is
    not finite does; it is never applied.
    """

    steps: Whole = Field(default=60, ge=0)
    objective: str | None = None
    advantage: Ref = Ref(kind="grpo")
    loss: Ref = Ref(kind="dapo")
    trainers: dict[str, TrainerSpec] = Field(default_factory=lambda: {"rl": TrainerSpec(kind="rl")}, min_length=1)
    reference: ReferenceSpec = ReferenceSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    max_grad_norm: Number = Field(default=1.0, gt=0)
    epochs: Whole = Field(default=1, ge=1)
    minibatches: Whole = Field(default=1, ge=1)
    micro_batch_tokens: Whole = Field(default=16384, ge=1)
    layout: Literal["auto", "padded", "packed"] = "auto"
    on_bad_step: Literal["stop", "skip"] = "stop"
    checkpoint: CheckpointSpec = CheckpointSpec()

    @field_validator("trainers", mode="before")
    @classmethod
    def _name_trainers(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: _with_kind(str(key), trainer) for key, trainer in value.items()}


class EvaluationSpec(Spec):
    """Held-out tasks every ``every`` steps (0: never); ``metrics`` are ``accuracy`` and ``pass@k``."""

    every: Whole = Field(default=10, ge=0)
    tasks: Whole = Field(default=200, ge=1)
    metrics: tuple[str, ...] = ("accuracy",)
    temperature: Number = Field(default=1.0, ge=0, le=10)


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
    budget: BudgetSpec = BudgetSpec()
    store: StoreSpec = StoreSpec()
    load: tuple[str, ...] = ()

    _path: Path | None = PrivateAttr(None)
    _schedules: dict[KeyPath, Schedule] = PrivateAttr(default_factory=dict)

    @field_validator("roles", mode="before")
    @classmethod
    def _name_kinds(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: _with_kind(str(key), role) for key, role in value.items()}

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
            return None if self.graph_spec().proposes else Ref(kind="generator")
        return located(self.tasks, self.base)

    def resolved(self) -> dict[str, Any]:
        """Plain JSON data with every default filled, and ``source``, the file; ``from_resolved`` reads it back."""
        source = str(self._path.absolute()) if self._path is not None else None
        return {**self._content(), "source": source}

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
        return data

    @property
    def digest(self) -> str:
        """Content hash of the filled scenario; where the file lies and in which order keys stand do not matter."""
        return digest(self._content())
