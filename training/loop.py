"""The story of a run, step by step: pick, play, credit, train, remember. Each step is all or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparring.envs.types import Episode, Pick
from sparring.scenarios.schema import Scenario
from sparring.scenarios.seeds import derive
from sparring.storage.records import AdvantageRow, EvaluationRow, StepRecord

from .ahead import Ahead
from .course import Moment, Told, Watch
from .curriculum.base import Outcome, Wanted, figures
from .session import Session
from .summary import Figures, lateness, searched, summarise


@dataclass(frozen=True)
class Played:
    """What was played for a step: the curriculum's picks, the episodes in their order, and how long it took.

    ``rounds``: how many episodes there were after each round; later ones are what stages asked for.
    """

    moment: Moment
    picks: Sequence[Pick]
    episodes: Sequence[Episode]
    seconds: float
    rounds: Sequence[int]


async def learn(session: Session, watch: Watch = lambda told: None, stop: Callable[[], bool] = lambda: False) -> str:
    """Run to the last step or until ``stop()``: ``done`` or ``stopped``. Step 0 measures the untouched policy."""
    steps = session.scenario.training.steps
    served = await session.serve(max(0, session.last_step))  # whatever the engine held before
    if session.last_step < 0:
        await _begin(session, served, watch)
        if stop():
            return "stopped" if steps else "done"
    first = session.last_step + 1
    async with Ahead(lambda step: _play(session, step), first, steps, session.scenario.rollout.ahead) as ahead:
        for step in range(first, steps + 1):
            clock = time.monotonic()
            played = await ahead.take(step)
            lesson = await ahead.beside(session.update, played.moment, played.episodes, step, rounds=played.rounds)
            served = await session.serve(step)
            learnt = observe(session, played.picks, lesson.advantages, [episode.pick for episode in played.episodes])
            record = StepRecord(
                step=step,
                picks=tuple(played.picks),
                episodes=tuple(played.episodes),
                groups=lesson.groups,
                advantages=lesson.advantages,
                metrics=_figures(played, step) | lesson.figures | learnt | served,
                evaluations=await ahead.alone(_measure(session, step)),
                borrowed=lesson.earlier,
            )
            record = session.examined(record, played.episodes)
            _save(session, record, clock)
            _tell(session, watch, record, clock)
            if stop() or session.spent():
                return "stopped" if step < steps else "done"
    return "done"


def observe(
    session: Session, picks: Sequence[Pick], advantages: Sequence[AdvantageRow], pick_of: Sequence[int]
) -> Figures:
    """Tell the curriculum what came of each pick (in turns of the role it listens to); its figures for the step.

    Turns of earlier steps say nothing of this step's picks.
    """
    role = getattr(session.curriculum, "role", None)
    own = [row for row in advantages if row.episode < len(pick_of) and role in (None, row.role)]
    came: list[list[AdvantageRow]] = [[] for _ in picks]
    for row in session.plan.compared(own):
        came[pick_of[row.episode]].append(row)
    outcomes = [Outcome.of(rows, pick_of.count(index)) for index, rows in enumerate(came)]
    for pick, outcome in zip(picks, outcomes, strict=True):
        session.curriculum.observe(pick, outcome)
    return {f"curriculum/{name}": value for name, value in figures(session.curriculum, outcomes).items()}


async def _play(session: Session, step: int) -> Played:
    """The step's episodes, and whatever the trainers' stages ask for on top until they ask for nothing."""
    clock = time.monotonic()
    moment = session.follow(step)
    plan, due, rollout = moment.plan, moment.due, moment.scenario.rollout
    wanted = Wanted(rollout.picks, rollout.episodes, step, session.scenario.training.steps)
    picks = session.curriculum.propose(wanted, _rng(session, step))
    episodes = await session.rollout.play(picks, step)
    rounds = [len(episodes)]
    while wants := plan.wants(due, episodes, len(rounds) - 1, rounds[0]):
        episodes += await session.rollout.more(wants, picks, episodes, step)
        rounds.append(len(episodes))
    return Played(moment, picks, plan.offer(due, episodes), time.monotonic() - clock, rounds)


def _figures(played: Played, step: int) -> Figures:
    trained = {name for name, role in played.moment.scenario.roles.items() if role.trainable}
    late = lateness(played.episodes, step, trained)
    found = searched(played.episodes, played.moment.scenario.graph_spec())
    return {**summarise(played.episodes), **late, **found, "play_seconds": played.seconds}


async def _begin(session: Session, served: Figures, watch: Watch) -> None:
    clock = time.monotonic()
    record = session.examined(StepRecord(step=0, metrics=served, evaluations=await _measure(session, 0)), ())
    _save(session, record, clock)
    _tell(session, watch, record, clock)


def _save(session: Session, record: StepRecord, clock: float) -> None:
    session.save(replace(record, curriculum_state=session.curriculum.state_dict()), clock)


def _tell(session: Session, watch: Watch, record: StepRecord, clock: float) -> None:
    steps, weights = session.scenario.training.steps, session.curriculum.weights()
    figures: Figures = dict(record.metrics)
    news = tuple(session.health.news)
    watch(Told(record.step, steps, figures, weights, record.evaluations, time.monotonic() - clock, news))


async def _measure(session: Session, step: int) -> tuple[EvaluationRow, ...]:
    settings: Scenario = session.scenario
    due = settings.evaluation.every and (step % settings.evaluation.every == 0 or step == settings.training.steps)
    return await session.evaluation.measure(step) if due and session.evaluation is not None else ()


def _rng(session: Session, step: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(derive(session.scenario.seed, step, "curriculum")))
