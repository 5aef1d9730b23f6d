"""From a checked scenario to running objects: the only place that wires parts together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import numpy as np

from sparring.agents.engine import Serving
from sparring.agents.graph import RoleGraph, build_graph
from sparring.agents.rewards import rewards_of
from sparring.agents.role import check_sees, make_role
from sparring.agents.stage import POLICY, Runtime
from sparring.agents.world import Pool
from sparring.envs.base import Environment
from sparring.envs.types import Episode, Task
from sparring.scenarios.errors import EngineError
from sparring.scenarios.registry import curricula, engines, environments, make, task_sources
from sparring.scenarios.schema import Ref, Scenario, located
from sparring.scenarios.seeds import derive
from sparring.storage.records import ResumePoint, StepRecord
from sparring.storage.remembering import recall
from sparring.storage.store import Store

from .ahead import check_ahead
from .auditing import audited
from .canary import Canary
from .course import Course, Moment, adapters_of, folder_of, info, learner_for
from .curriculum.base import Curriculum
from .curriculum.grid import arms, evenly, spread
from .evaluate import Evaluation, Measured, evaluation_graph
from .gate import Gate
from .plan import Plan
from .policy import Policy, load_policy
from .probabilities import ask, probabilities
from .published import Published
from .rollout import Novelty, Rollout, Source
from .summary import Figures


@dataclass(frozen=True)
class World:
    """The scenario's environment as a run uses it: ``ref`` it was made from, instances to lend, where tasks come from.

    ``first`` is one of the instances, for what needs no episode. ``held_out`` makes tasks for evaluation: the source's
    own, where it has some, else the environment's.
    """

    ref: Ref
    pool: Pool
    first: Environment
    source: Source | None
    held_out: Source
    unsafe: bool = False

    @classmethod
    def of(cls, scenario: Scenario, unsafe: bool = False) -> World:
        """Made anew; close its pool. ``unsafe`` is the second yes that an environment without a sandbox asks for."""
        ref = located(scenario.environment, scenario.base)
        asks = "allow_unsafe" in signature(environments.get(ref.kind)).parameters
        allowed = {"allow_unsafe": True} if unsafe and asks else {}
        pool = Pool(lambda: make(environments, ref, **allowed))
        with pool.lend() as environment:
            first = environment
        tasks = scenario.task_source()
        maker = None if tasks is None else make(task_sources, tasks, environment=first)
        source = None if maker is None else maker.sample
        return cls(scenario.environment, pool, first, source, getattr(maker, "held_out", first.held_out), unsafe)

    @property
    def tools(self) -> tuple[str, ...]:
        """A line for each tool, as prompts show them."""
        return tuple(tool.line for tool in self.first.toolbox())


@dataclass(kw_only=True)
class Session(Course):
    """A run that plays: everything built and ready.

    ``engine`` serves the shared policy; other engines are reached through the rollout's runtime.
    """

    engine: Serving
    canary: Canary
    curriculum: Curriculum
    rollout: Rollout
    evaluation: Evaluation | None
    gate: Gate
    novelty: Novelty
    world: World

    def follow(self, step: int) -> Moment:
        """Also what roles, rollout and curriculum read anew."""
        moment = super().follow(step)
        scenario = moment.scenario
        if scenario.environment != self.world.ref:
            self.world.pool.close()
            self.world = World.of(scenario, self.world.unsafe)
            self.rollout.source = self.world.source
            self.rollout.runtime = replace(self.rollout.runtime, environments=self.world.pool)
        memories = recall(self.store, self.run, scenario, step)
        self.rollout.runtime = replace(self.rollout.runtime, memories=memories)
        if scenario is not self.scenario:
            roles = {name: make_role(name, spec, scenario.base) for name, spec in scenario.roles.items()}
            self.rollout.runtime = replace(self.rollout.runtime, roles=roles, rewards=rewards_of(scenario))
            curriculum = make(curricula, scenario.curriculum)
            curriculum.load_state_dict(self.curriculum.state_dict())
            self.curriculum = curriculum
        return moment

    def go_on(self, point: ResumePoint) -> None:
        """Also the curriculum and what was seen."""
        super().go_on(point)
        self.curriculum.load_state_dict(point.curriculum_state)
        self.novelty.seen |= self.store.task_keys(point.run)

    def examined(self, record: StepRecord, episodes: Sequence[Episode]) -> StepRecord:
        """Also what cheap answers earn now, in the steps that try it."""
        cheap = self.health.audited(record.step, episodes, self.rollout.runtime.environments.lend)
        return self.health.examined(record, episodes, self.plan.scenario.roles, cheap)

    @property
    def weights(self) -> Published:
        """The policy as it is now, for engines that keep a copy; folders of it lie beside the checkpoints."""
        return Published(self.learner, self.policy.tokenizer, lambda: self.folder / "served")

    async def serve(self, version: int) -> Figures:
        """Put the policy as it is now into the engine, as ``version``, and hear whether it is in."""
        await self.engine.load(version, self.weights)
        if getattr(self.engine, "untrainable", ""):  # it serves a model of its own, and nothing is trained
            return {}
        return await self.canary.check(self.engine, self.weights, version, self.folder)

    def close(self) -> None:
        """Give threads, environments, locks and connections back."""
        self.gate.close()
        self.engine.close()
        self.rollout.runtime.environments.close()
        super().close()


@dataclass(frozen=True)
class Allowed:
    """What a person has allowed outside the scenario: programs without a sandbox, a verifier that the audit fools."""

    unsafe: bool = False
    verifier: bool = False


def start(scenario: Scenario, store: Store, command: str = "", allowed: Allowed = Allowed()) -> Session:
    """A new run: everything is built before its row is made, so a scenario that cannot run leaves nothing behind.

    The verifier is audited first. Raises ``ContractBroken`` when it is fooled, unless that is allowed.
    """
    world = World.of(scenario, allowed.unsafe)
    try:
        found = audited(scenario, world.first, world.source, trust=allowed.verifier)
    except BaseException:
        world.pool.close()
        raise
    session = _Parts(scenario, world).session(store, "")
    about = info(command, audit=found)
    row = store.start_run(scenario.name, scenario.resolved(), scenario.digest, scenario.seed, about)
    session.run, session.folder = row.id, folder_of(store, row.id)
    return session


def resume(scenario: Scenario, store: Store, point: ResumePoint, allowed: Allowed = Allowed()) -> Session:
    """Go on from the last whole step, or from the beginning when there is none."""
    session = _Parts(scenario, World.of(scenario, allowed.unsafe)).session(store, point.run)
    if point.checkpoint is not None and point.last_step is not None:
        session.go_on(point)
    return session


class _Parts:
    """Builds in the order in which failures are cheapest: graph and environment first, the model last."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        self.scenario, self.world = scenario, world
        self.spec = scenario.graph_spec()
        self.graph: RoleGraph = build_graph(self.spec)
        self.roles = {name: make_role(name, spec, scenario.base) for name, spec in scenario.roles.items()}
        self.curriculum: Curriculum = make(curricula, scenario.curriculum)
        for role in self.roles.values():
            check_sees(role, self.world.first.disclosures)
        self.policy: Policy = load_policy(scenario.policy, scenario.base, adapters_of(scenario))
        self.plan = Plan.of(scenario, self.policy.renderer)
        self.learner = learner_for(self.policy, self.plan)
        self.readers: list[Any] = []  # engines that read the run's own checkpoints

    def session(self, store: Store, run: str) -> Session:
        scenario = self.scenario
        gate = Gate(scenario.rollout.workers, scenario.rollout.deterministic)
        engine, served = self._engines(gate)
        check_ahead(scenario, engine, self.plan.losses)
        tasks = kept_apart(scenario, self.world)
        novelty = Novelty(reserved=frozenset(task.key for _, task in tasks))
        runtime = Runtime(
            roles=self.roles,
            engines=served,
            renderer=self.policy.renderer,
            environments=self.world.pool,
            tools=self.world.tools,
            admit_filter=novelty,
            reserved=novelty.reserved,
            policy_version=lambda: int(engine.policy_version),
            rewards=rewards_of(scenario),
        )
        evaluation = None
        if scenario.evaluation.every:
            graph = evaluation_graph(self.spec, scenario.evaluation.metrics)
            # what is proposed here may come again in every evaluation, and is nothing that training has met
            apart = replace(runtime, admit_filter=lambda task: None)
            evaluation = Evaluation(
                graph, self.graph, apart, gate, scenario.evaluation, tasks, scenario.seed, self._exact()
            )
        rollout = Rollout(self.graph, runtime, gate, scenario.seed, scenario.rollout.max_broken, self.world.source)
        session = Session(
            scenario=scenario, store=store, run=run, policy=self.policy, learner=self.learner, plan=self.plan,
            folder=folder_of(store, run), engine=engine, curriculum=self.curriculum, rollout=rollout,
            canary=Canary(scenario.canary, self.policy.renderer, scenario.seed),
            evaluation=evaluation, gate=gate, novelty=novelty, world=self.world,
            lasting=[reader.versions for reader in self.readers],
        )  # fmt: skip
        for reader in self.readers:
            reader.folder = session.folder_at
        return session

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
            own = _engine(spec.engine, self.policy, policy)
            self.readers += [own] if hasattr(own, "versions") else []
            served[name] = gate.engine(own)
        return policy, served

    def _exact(self) -> Callable[[float], Measured] | None:
        """What gives the environment's own measures, where the evaluation asks for any."""
        first = self.world.first
        if not set(first.measures) & set(self.scenario.evaluation.metrics):
            return None
        asked = ask(first.positions(), self.roles, self.spec, self.policy.renderer, self.world.tools)

        def measured(temperature: float) -> Measured:
            found = probabilities(self.policy.model, asked, temperature)
            return Measured(first.measure(found), len(found))

        return measured


def kept_apart(scenario: Scenario, world: World) -> list[tuple[str, Task]]:
    """The evaluation's tasks: the environment's held-out split, spread evenly over its arms or the curriculum's."""
    if not scenario.evaluation.every:
        return []
    cells = arms(scenario.evaluation.arms) if scenario.evaluation.arms else spread(scenario.curriculum.options)
    rng = np.random.Generator(np.random.Philox(derive(scenario.seed, "evaluation", "tasks")))
    names = evenly(list(cells), scenario.evaluation.tasks)
    return [(name, world.held_out(cells[name], rng)) for name in names]


def _engine(ref: Ref, policy: Policy, present: Any = None) -> Any:
    """``present`` is the engine that serves the policy, for those that speak beside it."""
    part = engines.get(ref.kind)
    config = part.Config.model_validate(ref.options)
    if present is not None and hasattr(part, "beside"):
        return part.beside(config, policy, present)
    return part.serve(config, policy) if hasattr(part, "serve") else part(config)
