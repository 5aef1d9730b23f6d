"""The health of one run: takes a step's record, gives it back with figures and alarms, and says what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.random import Generator

from sparring.envs.audit import audit
from sparring.envs.base import Environment
from sparring.envs.types import Episode, Task
from sparring.scenarios.schema import RoleSpec, Scenario
from sparring.scenarios.seeds import derive
from sparring.storage.answers import WholeStep
from sparring.storage.records import StepRecord

from .figures import Figure, Found, Seen, read, stored
from .step import figures
from .watch import Watch

AUDITED = 4  # tasks of a step that cheap answers are tried on; what seems to earn is tried on the step's others


@dataclass
class Health:
    """A run's health from step to step. ``news`` are lines about the newest step: alarms that began or ended."""

    scenario: Scenario
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.scenario.health)

    def examined(
        self, record: StepRecord, episodes: Sequence[Episode], roles: Mapping[str, RoleSpec], more: Found | None = None
    ) -> StepRecord:
        """The record with its figures and alarms.

        ``episodes`` are what it learnt from, in the order of advantages; ``roles`` as they were in this step.
        """
        if not self.scenario.health.enabled:
            return record
        own = figures(Seen(episodes, record.advantages, roles)) if episodes else {}
        whole = self.watch.take(own | (more or {}), record.evaluations, record.metrics)
        return replace(record, metrics={**record.metrics, **stored(whole)}, alarms=self.watch.alarms)

    def recall(self, steps: Iterable[WholeStep]) -> None:
        """Stand where a run stands after these steps, in order."""
        if self.scenario.health.enabled:
            for step in steps:
                own = {name: one for name, one in read(step.metrics).items() if name.partition("/")[0] not in COMPARED}
                self.watch.take(own, step.evaluations, step.metrics)

    @property
    def news(self) -> list[str]:
        """A line for each alarm that the newest step turned on or off."""
        on = [f"ALARM {alarm.name}: {alarm.note}" for alarm in self.watch.began]
        return on + [f"alarm over: {name}" for name in self.watch.ended]

    @property
    def stops(self) -> bool:
        """Whether the run is to end here: an alarm began, and the scenario says so."""
        return self.scenario.health.on_alarm == "stop" and bool(self.watch.began)

    def audited(self, step: int, episodes: Sequence[Episode], environment: Callable[[], Any]) -> Found:
        """What the best cheap answer surely earns on tasks of this step, in the steps that audit; else nothing.

        ``environment()`` lends one, as a context. Draws from a generator of its own.
        """
        settings = self.scenario.health
        if not (settings.enabled and settings.audit_every) or step % settings.audit_every:
            return {}
        tasks = list({task.key: task for episode in episodes for task in episode.tasks}.values())
        if not tasks:
            return {}
        with environment() as lent:
            return _audited(lent, tasks, derive(self.scenario.seed, step, "health"))


COMPARED = ("length_change", "starved", "forgetting")  # figures that the watch itself makes


def _audited(environment: Environment, tasks: Sequence[Task], seed: int) -> Found:
    def draw(rng: Generator, index: int) -> Task:
        return tasks[index % len(tasks)]

    try:
        report = audit(environment, draw, tasks=min(AUDITED, len(tasks)), seed=seed)
    except Exception:  # the environment is a plug-in: what it does to an audit must not end a run that plays
        return {}
    if report.best is None:
        return {}
    return {"audit": Figure(max(0.0, report.best.least), report.best.tasks)}
