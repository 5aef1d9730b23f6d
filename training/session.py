"""From a checked scenario to running objects: the only place that wires parts together."""

from __future__ import annotations

import copy
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sparring.agents.graph import RoleGraph, build_graph
from sparring.agents.role import check_sees, make_role
from sparring.agents.stage import POLICY, Pool, Runtime
from sparring.envs.types import Task
from sparring.scenarios.errors import EngineError, StoreError
from sparring.scenarios.registry import (
    curricula,
    engines,
    environments,
    make,
    task_sources,
)
from sparring.scenarios.schema import Ref, Scenario
from sparring.scenarios.seeds import derive
from sparring.storage import queries
from sparring.storage.records import CheckpointRow, ResumePoint
from sparring.storage.store import Store

from . import checkpoint
from .curriculum import Curriculum, arms
from .evaluate import Evaluation, evaluation_graph
from .gate import Gate
from .learner import HEAD, Learner
from .model import Model
from .plan import Plan
from .policy import Policy, load_policy
from .rollout import Novelty, Rollout
from .rows import REFERENCE
from .summary import Figures

KEPT_PACKAGES = ("sparring", "torch", "transformers", "langgraph", "gymnasium", "sqlalchemy")


@dataclass
class Session:
    """Everything a run needs, built and ready. ``last_step`` is the newest whole step, -1 before the first.

    ``engine`` serves the shared policy; other engines are reached through the rollout's runtime. ``spent_s`` and
    ``spent_tokens`` are what the run has used of its budget, before a resume included.
    """

    scenario: Scenario
    store: Store
    run: str
    policy: Policy
    engine: Any
    learner: Learner
    plan: Plan
    curriculum: Curriculum
    rollout: Rollout
    evaluation: Evaluation | None
    gate: Gate
    novelty: Novelty
    folder: Path
    last_step: int = -1
    figures: Figures = field(default_factory=dict)
    spent_s: float = 0.0
    spent_tokens: int = 0

    def save_checkpoint(self, step: int, state: Mapping[str, Any]) -> CheckpointRow:
        """Write the checkpoint of ``step``; whole or absent."""
        return checkpoint.write(
            self.folder / f"step-{step:06d}", self.policy.model, self.policy.tokenizer, self.learner.optimizer, state
        )

    def prune_checkpoints(self, newest: int) -> None:
        """Keep the newest ``training.checkpoint.keep`` checkpoints up to step ``newest``."""
        written = sorted(str(folder) for folder in self.folder.glob("step-??????"))
        whole = [path for path in written if path <= str(self.folder / f"step-{newest:06d}")]
        checkpoint.prune(self.folder, set(whole[-self.scenario.training.checkpoint.keep :]))

    def close(self) -> None:
        """Give threads, environments, locks and connections back."""
        self.gate.close()
        self.rollout.runtime.environments.close()
        self.store.close()


def start(scenario: Scenario, store: Store, command: str = "") -> Session:
    """A new run: everything is built before its row is made, so a scenario that cannot run leaves nothing behind."""
    session = _Parts(scenario).session(store, "")
    row = store.start_run(scenario.name, scenario.resolved(), scenario.digest, scenario.seed, info(command))
    session.run, session.folder = row.id, folder_of(store, row.id)
    return session


def resume(scenario: Scenario, store: Store, point: ResumePoint) -> Session:
    """Go on from the last whole step: weights, optimiser, curriculum, baselines and what was seen."""
    parts = _Parts(scenario)
    session = parts.session(store, point.run)
    if point.checkpoint is None or point.last_step is None:
        return session
    state = checkpoint.read(
        Path(point.checkpoint.path), point.checkpoint.sha, session.policy.model, session.learner.optimizer
    )
    session.learner.steps = int(state["optimizer_steps"])
    session.engine.policy_version = point.policy_version
    session.curriculum.load_state_dict(point.curriculum_state)
    session.plan.states = point.state.get("trainers", {})
    session.figures = point.state.get("figures", {})
    session.novelty.seen |= store.task_keys(point.run)
    session.last_step = point.last_step
    done = queries.steps(store, point.run)
    session.spent_s, session.spent_tokens = sum(step.seconds for step in done), sum(step.tokens or 0 for step in done)
    if (sha := session.learner.weights_sha()) != point.weights_sha:
        raise StoreError(f"run {point.run}: the checkpoint's weights hash to {sha[:12]}, the database says otherwise")
    return session


def folder_of(store: Store, run: str) -> Path:
    """Where a run's checkpoints lie: beside the database."""
    beside = store.path.resolve().parent if store.path is not None else Path.cwd()
    return beside / "checkpoints" / run


def info(command: str) -> dict[str, Any]:
    """What a later reader wants to know about where a run was made."""
    return {
        "command": command,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": {name: version(name) for name in KEPT_PACKAGES},
    }


class _Parts:
    """Builds in the order in which failures are cheapest: graph and environment first, the model last."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.spec = scenario.graph_spec()
        self.graph: RoleGraph = build_graph(self.spec)
        self.roles = {name: make_role(name, spec, scenario.base) for name, spec in scenario.roles.items()}
        self.curriculum: Curriculum = make(curricula, scenario.curriculum)
        self.pool = Pool(lambda: make(environments, scenario.environment))
        with self.pool.lend() as environment:
            self.environment = environment
        for role in self.roles.values():
            check_sees(role, self.environment.disclosures)
        source = scenario.task_source()
        self.source = None if source is None else make(task_sources, source, environment=self.environment).sample
        self.policy: Policy = load_policy(scenario.policy, scenario.base)
        self.plan = Plan.of(scenario, self.policy.renderer)
        self.learner = _learner(self.policy, self.plan)

    def session(self, store: Store, run: str) -> Session:
        scenario = self.scenario
        gate = Gate(scenario.rollout.workers, scenario.rollout.deterministic)
        engine, served = self._engines(gate)
        tasks = self._held_out()
        novelty = Novelty(reserved=frozenset(task.key for _, task in tasks))
        runtime = Runtime(
            roles=self.roles,
            engines=served,
            renderer=self.policy.renderer,
            environments=self.pool,
            admit_filter=novelty,
            policy_version=lambda: int(engine.policy_version),
        )
        evaluation = None
        if scenario.evaluation.every:
            graph = evaluation_graph(self.spec, scenario.evaluation.metrics)
            evaluation = Evaluation(graph, runtime, gate, scenario.evaluation, tasks, scenario.seed)
        rollout = Rollout(self.graph, runtime, gate, scenario.seed, scenario.rollout.max_broken, self.source)
        return Session(
            scenario, store, run, self.policy, engine, self.learner, self.plan, self.curriculum,
            rollout, evaluation, gate, novelty, folder_of(store, run),
        )  # fmt: skip

    def _engines(self, gate: Gate) -> tuple[Any, dict[str, Any]]:
        """The policy's engine, and the engines by role name (``policy`` serves every role without its own)."""
        policy = _engine(self.scenario.engine, self.policy)
        served = {POLICY: gate.engine(policy)}
        for name, spec in self.scenario.roles.items():
            if spec.engine is None:
                continue
            if spec.trainable:
                raise EngineError(
                    f"role {name!r} has an engine of its own and is trainable; only the shared policy is trained. "
                    f"Set roles.{name}.trainable=false or remove its engine"
                )
            served[name] = gate.engine(_engine(spec.engine, self.policy))
        return policy, served

    def _held_out(self) -> list[tuple[str, Task]]:
        """The evaluation's tasks: the environment's held-out split, spread evenly over the curriculum's arms."""
        scenario = self.scenario
        if not scenario.evaluation.every:
            return []
        cells = arms(scenario.curriculum.options.get("arms", {}))
        rng = np.random.Generator(np.random.Philox(derive(scenario.seed, "evaluation", "tasks")))
        names = list(cells)
        return [
            (name, self.environment.held_out(cells[name], rng))
            for name in (names[index % len(names)] for index in range(scenario.evaluation.tasks))
        ]


def _engine(ref: Ref, policy: Policy) -> Any:
    part = engines.get(ref.kind)
    config = part.Config.model_validate(ref.options)
    return part.serve(config, policy) if hasattr(part, "serve") else part(config)


def _learner(policy: Policy, plan: Plan) -> Learner:
    """The learner with the heads and the reference that the plan's losses need."""
    parts = [*plan.losses.values(), *(getattr(planned.part, "advantage", None) for planned in plan.trainers)]
    needs = frozenset[str]().union(*(getattr(part, "needs", frozenset()) for part in parts))
    heads = sorted(need.removeprefix(HEAD) for need in needs if need.startswith(HEAD))
    reference = Model(copy.deepcopy(policy.model).requires_grad_(False)) if REFERENCE in needs else None
    return Learner(Model(policy.model, heads), plan.losses, plan.scenario.training, reference)
