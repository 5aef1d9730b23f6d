"""Training without an engine: the episodes another run stored are the steps, and any trainer may learn from them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparring.envs.types import Episode
from sparring.scenarios.errors import StoreError
from sparring.scenarios.schema import Scenario
from sparring.scenarios.seeds import derive
from sparring.storage import queries
from sparring.storage.records import ResumePoint, StepRecord
from sparring.storage.store import Store
from sparring.storage.thinning import refuse_thinned

from .course import Course, Told, Watch, adapters_of, folder_of, info, learner_for
from .plan import Plan
from .policy import load_policy
from .summary import summarise


@dataclass(kw_only=True)
class Study(Course):
    """A run that reads. ``source`` is the run whose episodes it learns from, ``stored`` the steps that hold some.

    One of its steps trains on one stored step, so the groups are those that were played. Each pass takes the stored
    steps in an order of its own. What ``source`` stores after this run began is not read, also after a resume.
    """

    source: str
    stored: tuple[int, ...]

    def episodes(self, step: int) -> tuple[list[Episode], tuple[int, ...]]:
        """The episodes of this step (from 1) and their database ids."""
        turn, at = divmod(step - 1, len(self.stored))
        order = np.random.Generator(np.random.Philox(derive(self.scenario.seed, "study", turn)))
        number = self.stored[int(order.permutation(len(self.stored))[at])]
        found = queries.stored_episodes(self.store, self.source, range(number, number + 1))
        return [one.episode for one in found], tuple(one.id for one in found)


def study(course: Study, watch: Watch = lambda told: None, stop: Callable[[], bool] = lambda: False) -> str:
    """Train to the last step or until ``stop()``: ``done`` or ``stopped``. Nothing is played or measured."""
    steps = course.scenario.training.steps
    if course.last_step < 0:
        course.save(StepRecord(step=0), time.monotonic())
    for step in range(course.last_step + 1, steps + 1):
        clock = time.monotonic()
        episodes, ids = course.episodes(step)
        lesson = course.update(course.follow(step), episodes, step, ids)
        record = StepRecord(
            step=step,
            groups=lesson.groups,
            advantages=lesson.advantages,
            borrowed=(*ids, *lesson.earlier),
            metrics=summarise(episodes) | lesson.figures,
        )
        record = course.examined(record, episodes)
        course.save(record, clock)
        news = tuple(course.health.news)
        watch(Told(step, steps, dict(record.metrics), {}, (), time.monotonic() - clock, news))
        if stop() or course.spent():
            return "stopped" if step < steps else "done"
    return "done"


def start(scenario: Scenario, store: Store, source: str, command: str = "") -> Study:
    """A new run that learns from the episodes of ``source``. Raises ``StoreError`` when it holds none."""
    course = _built(scenario, store, source, "")
    about = info(command, offline=source, until=course.stored[-1])
    row = store.start_run(scenario.name, scenario.resolved(), scenario.digest, scenario.seed, about)
    course.run, course.folder = row.id, folder_of(store, row.id)
    return course


def resume(scenario: Scenario, store: Store, point: ResumePoint, source: str) -> Study:
    """Go on from the last whole step, or from the beginning when there is none."""
    course = _built(scenario, store, source, point.run)
    if point.checkpoint is not None and point.last_step is not None:
        course.go_on(point)
    return course


def _built(scenario: Scenario, store: Store, source: str, run: str) -> Study:
    until = store.run(run).info.get("until") if run else None
    found = (step.step for step in queries.steps(store, source) if step.episodes)
    stored = tuple(step for step in found if until is None or step <= until)
    if not stored:
        raise StoreError(f"run {source} holds no episode to learn from; name a run that played: sparring runs")
    refuse_thinned(store, "learning from it", source)
    policy = load_policy(scenario.policy, scenario.base, adapters_of(scenario))
    plan = Plan.of(scenario, policy.renderer)
    return Study(
        scenario=scenario, store=store, run=run, policy=policy, learner=learner_for(policy, plan), plan=plan,
        folder=folder_of(store, run), source=source, stored=stored,
    )  # fmt: skip
