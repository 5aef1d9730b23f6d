"""The story of a run, step by step: pick, play, credit, train, remember. Each step is all or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from sparring.envs.types import Episode, Pick
from sparring.scenarios.seeds import derive
from sparring.storage.records import AdvantageRow, EvaluationRow, StepRecord

from .plan import Planned, with_tokens
from .session import Session
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
    if session.last_step < 0:
        await _begin(session, watch)
        if stop():
            return "stopped" if settings.steps else "done"
    for step in range(session.last_step + 1, settings.steps + 1):
        clock = time.monotonic()
        picks = session.curriculum.propose(*_size(session), _rng(session, step))
        due = session.plan.due(step, session.figures)
        episodes = await _play(session, picks, due, step)
        played = time.monotonic()
        made = session.plan.make(due, episodes, step)
        update = session.learner.step(made.rows, made.shapes)
        trained = time.monotonic()
        session.engine.policy_version = step
        advantages = with_tokens(made.advantages, update.rows, made.shapes)
        observe(session, picks, advantages, [episode.pick for episode in episodes])
        figures = summarise(episodes) | made.figures | update.metrics()
        figures |= {"play_seconds": played - clock, "train_seconds": trained - played}
        record = StepRecord(
            step=step,
            picks=tuple(picks),
            episodes=tuple(episodes),
            groups=tuple(made.groups),
            advantages=tuple(advantages),
            metrics=figures,
            evaluations=await _measure(session, step),
        )
        session.figures = {name: value for name, value in figures.items() if not name.endswith("seconds")}
        _save(session, record, clock)
        session.spent_tokens += int(figures["tokens"] or 0)
        session.spent_s += time.monotonic() - clock
        _tell(session, watch, step, figures, record.evaluations, clock)
        if stop() or _spent(session):
            return "stopped" if step < settings.steps else "done"
    return "done"


def observe(session: Session, picks: Sequence[Pick], advantages: Sequence[AdvantageRow], pick_of: Sequence[int]) -> None:
    """Tell the curriculum each pick's mean absolute advantage (of the role it listens to)."""
    role = getattr(session.curriculum, "role", None)
    moved: dict[int, list[float]] = {}
    for row in advantages:
        if role is None or row.role == role:
            moved.setdefault(pick_of[row.episode], []).append(abs(row.value))
    for index, pick in enumerate(picks):
        values = moved.get(index)
        session.curriculum.observe(pick.arm, fmean(values) if values else None)


async def _play(session: Session, picks: Sequence[Pick], due: Sequence[Planned], step: int) -> list[Episode]:
    """The step's episodes, and whatever the trainers' stages ask for on top until they ask for nothing."""
    episodes = await session.rollout.play(picks, step)
    round = 0
    while wants := session.plan.wants(due, episodes, round):
        episodes += await session.rollout.more(wants, picks, episodes, step)
        round += 1
    return episodes


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
    state = {"step": step, "optimizer_steps": session.learner.steps}
    whole = replace(
        record,
        policy_version=step,
        weights_sha=session.learner.weights_sha(),
        checkpoint=session.save_checkpoint(step, state) if step % every == 0 or last else None,
        curriculum_state=session.curriculum.state_dict(),
        state={"trainers": session.plan.states, "figures": session.figures},
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
