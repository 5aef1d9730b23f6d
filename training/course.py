"""A run being trained: what a run that plays and one that reads stored episodes have in common. Each step is whole."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sparring.envs.types import Episode
from sparring.scenarios.errors import EngineError, StoreError
from sparring.scenarios.load import from_resolved
from sparring.scenarios.schedule import Now
from sparring.scenarios.schema import Scenario
from sparring.storage import queries
from sparring.storage.answers import steps_after
from sparring.storage.records import AdvantageRow, CheckpointRow, EvaluationRow, GroupRow, ResumePoint, StepRecord
from sparring.storage.store import Store

from . import checkpoint
from .earlier import settle
from .health.run import Health
from .learner import HEAD, Learner
from .model import Model
from .plan import Plan, Planned, with_tokens
from .policy import Policy, load_policy
from .ranks import current
from .rows import REFERENCE, TEACHER
from .summary import Figures

KEPT_PACKAGES = ("sparring", "torch", "transformers", "langgraph", "gymnasium", "sqlalchemy")


@dataclass(frozen=True)
class Told:
    """What a watcher is told after each whole step; ``news`` are health alarms that began or ended in it."""

    step: int
    steps: int
    figures: Figures
    arms: dict[str, float]
    evaluations: tuple[EvaluationRow, ...]
    seconds: float
    news: tuple[str, ...] = ()


Watch = Callable[[Told], None]


@dataclass(frozen=True)
class Moment:
    """A step's own scenario and plan, with every scheduled number as it is then, and the trainers that take part."""

    scenario: Scenario
    plan: Plan
    due: Sequence[Planned]


@dataclass(frozen=True)
class Lesson:
    """What a step's episodes taught: who was compared, how each turn pulled, and the update's figures.

    ``earlier`` are the database ids of episodes of earlier steps that taught too, in the order in which ``advantages``
    number them after the step's own.
    """

    groups: tuple[GroupRow, ...]
    advantages: tuple[AdvantageRow, ...]
    figures: Figures
    earlier: tuple[int, ...] = ()


@dataclass(kw_only=True)
class Course:
    """A run with its policy. ``last_step`` is the newest whole step, -1 before the first.

    ``figures`` are the last step's, ``controls`` the memory of schedules. ``spent_s`` and ``spent_tokens`` are what the
    run has used of its budget, before a resume included. ``lasting`` say which steps' policies are needed after a step.
    """

    scenario: Scenario
    store: Store
    run: str
    policy: Policy
    learner: Learner
    plan: Plan
    folder: Path
    last_step: int = -1
    figures: Figures = field(default_factory=dict)
    controls: dict[str, Any] = field(default_factory=dict)
    spent_s: float = 0.0
    spent_tokens: int = 0
    lasting: Sequence[Callable[[int], Sequence[int]]] = ()
    health: Health = field(init=False)
    _sweeper: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "old-checkpoints"), repr=False)

    def __post_init__(self) -> None:
        self.health = Health(self.scenario)

    def follow(self, step: int) -> Moment:
        """The step as the scenario's schedules, and the figures of the newest whole step, have it."""
        scenario = self.scenario.at(Now(step, self.scenario.training.steps, self.figures, self.controls))
        plan = self.plan if scenario is self.scenario else self.plan.at(scenario)
        return Moment(scenario, plan, plan.due(step, self.figures))

    def update(
        self,
        moment: Moment,
        episodes: Sequence[Episode],
        step: int,
        own: Sequence[int] = (),
        rounds: Sequence[int] = (),
    ) -> Lesson:
        """What the trainers make of the episodes, applied to the policy.

        ``own`` are the database ids of the episodes, where they are stored already; ``rounds``: how many there were
        after each round of play.
        """
        clock = time.monotonic()
        if moment.plan is not self.plan:
            self.plan = moment.plan
            self.learner.losses, self.learner.spec = self.plan.losses, moment.scenario.training
        made = self.plan.make(moment.due, episodes, step, rounds)
        done = self.learner.step(made.rows, made.shapes)
        advantages = with_tokens(made.advantages, done.rows, made.shapes)
        earlier = queries.episode_ids(self.store, self.run, made.earlier) if made.earlier else []
        settled = settle(advantages, len(episodes), own, earlier)
        figures: Figures = {**made.figures, **done.metrics(), "train_seconds": time.monotonic() - clock}
        return Lesson(tuple(made.groups), settled.advantages, figures, settled.borrowed)

    def examined(self, record: StepRecord, episodes: Sequence[Episode]) -> StepRecord:
        """The record with the step's health in it; ``episodes`` are what it learnt from."""
        return self.health.examined(record, episodes, self.plan.scenario.roles)

    def save(self, record: StepRecord, clock: float) -> None:
        """Checkpoint beside, then one transaction that names it: the step exists once the transaction is in."""
        step, settings = record.step, self.scenario.training
        due = step % settings.checkpoint.every == 0 or step == settings.steps or step in self._needed(step)
        sha = self.learner.weights_sha()
        self.figures = {name: value for name, value in record.metrics.items() if not name.endswith("seconds")}
        whole = replace(
            record,
            policy_version=step,
            weights_sha=sha,
            checkpoint=self.save_checkpoint(step, sha) if due else None,
            state={"trainers": self.plan.states, "figures": self.figures, "controls": self.controls},
            seconds=time.monotonic() - clock,
        )
        self.store.save_step(self.run, whole)
        self.last_step = step
        if whole.checkpoint is not None:
            self.prune_checkpoints(step)
        self.spent_tokens += int(record.metrics.get("tokens") or 0)
        self.spent_s += time.monotonic() - clock

    def spent(self) -> bool:
        """Whether the run is to end here: the budget is used up, or a health alarm that began says so."""
        budget = self.scenario.budget
        late = budget.minutes is not None and self.spent_s > 60 * budget.minutes
        return late or (budget.tokens is not None and self.spent_tokens >= budget.tokens) or self.health.stops

    def go_on(self, point: ResumePoint) -> None:
        """Stand where ``point`` says: weights, optimiser, trainers' memories, schedules and what was spent."""
        assert point.checkpoint is not None and point.last_step is not None  # the caller asked for a whole step
        state = checkpoint.read(
            Path(point.checkpoint.path), point.checkpoint.sha, self.learner.whole, self.learner.optimizer
        )
        self.learner.steps = int(state["optimizer_steps"])
        self.plan.states = point.state.get("trainers", {})
        self.figures, self.controls = point.state.get("figures", {}), point.state.get("controls", {})
        self.last_step = point.last_step
        self._renew_reference()
        self.health.recall(steps_after(self.store, point.run, -1))
        done = queries.steps(self.store, point.run)
        self.spent_s, self.spent_tokens = sum(step.seconds for step in done), sum(step.tokens or 0 for step in done)
        if (sha := self.learner.weights_sha()) != point.weights_sha:
            raise StoreError(
                f"run {point.run}: the checkpoint's weights hash to {sha[:12]}, the database says otherwise"
            )
        self.prune_checkpoints(self.last_step)  # what a kill left unswept, a half-written folder included

    def save_checkpoint(self, step: int, sha: str) -> CheckpointRow:
        """Write the checkpoint of ``step``, whole or absent; ``sha`` is what its weights hash to."""
        state = {"step": step, "optimizer_steps": self.learner.steps}
        learner, tokenizer = self.learner, self.policy.tokenizer
        return checkpoint.write(self.folder_at(step), learner.whole, tokenizer, learner.optimizer, state, sha)

    def folder_at(self, step: int) -> Path:
        """Where the checkpoint of ``step`` lies."""
        return self.folder / f"step-{step:06d}"

    def _reference_step(self, step: int) -> int:
        """The step whose policy is the reference after ``step``; 0 while it is the one the run began with."""
        every = self.scenario.training.reference.every
        return step - step % every if every else 0

    def _needed(self, step: int) -> set[int]:
        """Steps whose checkpoints are read again after ``step``: the reference's, and those of policies that play."""
        steps = {one for lasting in self.lasting for one in lasting(step)} | {self._reference_step(step)}
        return steps - {0}

    def _renew_reference(self) -> None:
        """Give the reference the policy it was at the point where the run goes on, from that step's checkpoint."""
        step = self._reference_step(self.last_step)
        if step and self.learner.reference is not None:
            self.learner.ranks.load_reference(
                self.learner, lambda model: checkpoint.read_weights(self.folder_at(step), model)
            )

    def prune_checkpoints(self, newest: int) -> None:
        """Keep the newest ``training.checkpoint.keep`` checkpoints up to step ``newest``, and those that are needed."""
        written = sorted(str(folder) for folder in self.folder.glob("step-??????"))
        whole = [path for path in written if path <= str(self.folder_at(newest))]
        kept = set(whole[-self.scenario.training.checkpoint.keep :])
        kept |= {str(self.folder_at(step)) for step in self._needed(newest)}
        checkpoint.prune(self.folder, kept, self._sweeper)

    def close(self) -> None:
        """Give locks and connections back."""
        self._sweeper.shutdown()
        self.store.close()


def adapters_of(scenario: Scenario) -> list[str]:
    """LoRA adapters beside the policy's own: what roles speak with, and what trainers make into models of their own."""
    named = [spec.adapter for spec in scenario.roles.values()]
    named += [str(spec.options.get("adapter") or "") for spec in scenario.training.trainers.values()]
    return sorted({name for name in named if name})


def learner_for(policy: Policy, plan: Plan) -> Learner:
    """The learner with the heads, the reference and the teacher that the plan's losses need; all ranks build it."""
    current().tell("scenario", scenario=plan.scenario.resolved())
    heads = sorted(need.removeprefix(HEAD) for need in plan.needs if need.startswith(HEAD))
    model = Model(policy.model, heads, plan.scenario.training.layout)
    reference = _reference(model, policy, plan) if plan.needs & {REFERENCE, TEACHER} else None
    return Learner(model, plan.losses, plan.scenario.training, reference)


def follower(resolved: Mapping[str, Any]) -> Learner:
    """The learner of a rank that follows another's words."""
    scenario = from_resolved(resolved)
    policy = load_policy(scenario.policy, scenario.base, adapters_of(scenario))
    return learner_for(policy, Plan.of(scenario, policy.renderer))


def _reference(model: Model, policy: Policy, plan: Plan) -> Model:
    """The policy as it is now, or the model the scenario names, which must have the policy's vocabulary."""
    scenario = plan.scenario
    name = scenario.training.reference.model
    if name == "start":
        return model.reference()
    spec = scenario.policy.model_copy(update={"model": name, "lora": None, "checkpointing": False})
    try:
        other = load_policy(spec, scenario.base)
    except EngineError as error:
        raise EngineError(f"training.reference.model {name!r}: {error}") from error
    mine, theirs = policy.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    if mine != theirs:
        odd = min(mine.items() ^ theirs.items())
        raise EngineError(
            f"training.reference.model {name!r} has another vocabulary than {scenario.policy.model!r} "
            f"({len(theirs)} and {len(mine)} tokens; {odd[0]!r} is one that differs), so their log-probs cannot be "
            "compared; name a model with the policy's tokenizer, or start"
        )
    other.model.requires_grad_(False)
    return Model(other.model)


def folder_of(store: Store, run: str) -> Path:
    """Where a run's checkpoints lie: beside a database file, in this folder for one on a server."""
    return store.checkpoints / run


def info(command: str, **more: Any) -> dict[str, Any]:
    """What a later reader wants to know about where a run was made."""
    return {
        "command": command,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": {name: version(name) for name in KEPT_PACKAGES},
        **more,
    }
