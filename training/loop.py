"""The story of a run, step by step: pick, play, credit, train, remember. Each step is all or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from sparring.envs.types import Pick
from sparring.scenarios.registry import advantages
from sparring.scenarios.seeds import derive
from sparring.storage.records import EvaluationRow, StepRecord

from .credit import Credit, credit
from .pack import pack
from .session import Session, make
from .summary import Figures, summarise


@dataclass(frozen=True)
class Told:
    """What a watcher is told after each whole step."""

    step: int
    steps: int
    figures: Figures
    arms: dict[str, float]
    evaluations: tuple[EvaluationRow, ...]
    seconds: float


async def learn(
    session: Session, watch: Callable[[Told], None] = lambda told: None, stop: Callable[[], bool] = lambda: False
) -> str:
    """Run to the last step or until ``stop()``: ``done`` or ``stopped``. Step 0 measures the untouched policy."""
    settings = session.scenario.training
    estimate = make(advantages, settings.advantage)
    stages = session.stages()
    if session.last_step < 0:
        await _begin(session, watch)
        if stop():
            return "stopped" if settings.steps else "done"
    for step in range(session.last_step + 1, settings.steps + 1):
        clock = time.monotonic()
        picks = session.curriculum.propose(*_size(session), _rng(session, step))
        episodes = await session.rollout.play(picks, step)
        played = time.monotonic()
        earned = credit(episodes, session.scenario.roles, estimate, session.baselines, stages)
        update = session.trainer.step(pack(episodes, earned.advantages, session.scenario.roles))
        trained = time.monotonic()
        session.engine.policy_version = step
        observe(session, picks, earned, [episode.pick for episode in episodes])
        figures = summarise(episodes) | update.metrics()
        figures |= {"play_seconds": played - clock, "train_seconds": trained - played}
        record = StepRecord(
            step=step,
            picks=tuple(picks),
            episodes=tuple(episodes),
            groups=earned.groups,
            advantages=earned.advantages,
            metrics=figures,
            evaluations=await _measure(session, step),
        )
        session.baselines = dict(earned.baselines)
        _save(session, record, clock)
        session.spent_tokens += int(figures["tokens"] or 0)
        session.spent_s += time.monotonic() - clock
        _tell(session, watch, step, figures, record.evaluations, clock)
        if stop() or _spent(session):
            return "stopped" if step < settings.steps else "done"
    return "done"


def observe(session: Session, picks: Sequence[Pick], earned: Credit, pick_of: Sequence[int]) -> None:
    """Tell the curriculum each pick's mean absolute advantage (of the role it listens to)."""
    role = getattr(session.curriculum, "role", None)
    moved: dict[int, list[float]] = {}
    for row in earned.advantages:
        if role is None or row.role == role:
            moved.setdefault(pick_of[row.episode], []).append(abs(row.value))
    for index, pick in enumerate(picks):
        values = moved.get(index)
        session.curriculum.observe(pick.arm, fmean(values) if values else None)


async def _begin(session: Session, watch: Callable[[Told], None]) -> None:
    clock = time.monotonic()
    record = StepRecord(step=0, evaluations=await _measure(session, 0))
    _save(session, record, clock)
    _tell(session, watch, 0, {}, record.evaluations, clock)


def _tell(
    session: Session,
    watch: Callable[[Told], None],
    step: int,
    figures: Figures,
    evaluations: tuple[EvaluationRow, ...],
    clock: float,
) -> None:
    steps, weights = session.scenario.training.steps, session.curriculum.weights()
    watch(Told(step, steps, figures, weights, evaluations, time.monotonic() - clock))


async def _measure(session: Session, step: int) -> tuple[EvaluationRow, ...]:
    settings = session.scenario
    due = settings.evaluation.every and (step % settings.evaluation.every == 0 or step == settings.training.steps)
    return await session.evaluation.measure(step) if due and session.evaluation is not None else ()


def _save(session: Session, record: StepRecord, clock: float) -> None:
    """Checkpoint beside, then one transaction that names it: the step exists once the transaction is in."""
    step, every = record.step, session.scenario.training.checkpoint.every
    last = step == session.scenario.training.steps
    state = {"step": step, "optimizer_steps": session.trainer.steps}
    whole = replace(
        record,
        policy_version=step,
        weights_sha=session.trainer.weights_sha(),
        checkpoint=session.save_checkpoint(step, state) if step % every == 0 or last else None,
        curriculum_state=session.curriculum.state_dict(),
        state={"baselines": session.baselines},
        seconds=time.monotonic() - clock,
    )
    session.store.save_step(session.run, whole)
    session.last_step = step
    if whole.checkpoint is not None:
        session.prune_checkpoints(step)


def _size(session: Session) -> tuple[int, int]:
    return session.scenario.rollout.picks, session.scenario.rollout.episodes


def _rng(session: Session, step: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(derive(session.scenario.seed, step, "curriculum")))


def _spent(session: Session) -> bool:
    budget = session.scenario.budget
    late = budget.minutes is not None and session.spent_s > 60 * budget.minutes
    return late or (budget.tokens is not None and session.spent_tokens >= budget.tokens)
