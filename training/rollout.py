"""From curriculum picks to episodes: all of a step's episodes are played side by side through the gate, then settled.

A broken episode is data; the run stops only when their share passes ``rollout.max_broken``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sparring.agents.book import Book
from sparring.agents.graph import RoleGraph, play
from sparring.agents.settle import settle
from sparring.agents.stage import Runtime
from sparring.envs.guard import bounded, cause
from sparring.envs.types import Ending, Episode, Pick, Refusal, Task
from sparring.scenarios.errors import SparringError, TrainingStopped
from sparring.scenarios.seeds import derive

from .gate import Gate
from .stages.base import Want

DRAWING_S = 600.0  # a task that is not there by then will not come

Source = Callable[[dict[str, Any], np.random.Generator], Task]


@dataclass
class Novelty:
    """Refuses a task whose key was met before in the run, or is reserved for evaluation."""

    seen: set[str] = field(default_factory=set)
    reserved: frozenset[str] = frozenset()

    def __call__(self, task: Task) -> Refusal | None:
        """A refusal, or ``None`` after remembering the task."""
        if task.key in self.reserved:
            return Refusal("reserved", "this task is held out for evaluation")
        if task.key in self.seen:
            return Refusal("duplicate", "this task was set before in this run")
        self.seen.add(task.key)
        return None


class Again(NamedTuple):
    """A task to be played once more; ``admitted``: a role proposed it, so nothing is proposed about it."""

    task: Task
    admitted: bool


@dataclass
class Rollout:
    """Plays a step. ``source`` gives the task when the graph does not propose one, or what its proposals are about."""

    graph: RoleGraph
    runtime: Runtime
    gate: Gate
    seed: int
    max_broken: float
    source: Source | None = None

    async def play(self, picks: Sequence[Pick], step: int) -> list[Episode]:
        """One settled episode per pick count, in order. Raises ``TrainingStopped`` when too many broke."""
        plan = [(at, None) for at, pick in enumerate(picks) for _ in range(pick.count)]
        return await self._play(plan, picks, 0, step)

    async def more(
        self, wants: Sequence[Want], picks: Sequence[Pick], episodes: Sequence[Episode], step: int
    ) -> list[Episode]:
        """The episodes that stages want on top of ``episodes``: on the same task again, or fresh ones of a pick."""
        plan: list[tuple[int, Again | None]] = []
        for want in wants:
            origin = episodes[want.episode]
            again = None
            if want.kind == "again":
                task = origin.task(want.task) or origin.tasks[0]
                again = Again(task, admitted=task is not origin.tasks[0])
            plan += [(origin.pick, again)] * want.count
        return await self._play(plan, picks, len(episodes), step)

    async def _play(
        self, plan: Sequence[tuple[int, Again | None]], picks: Sequence[Pick], first: int, step: int
    ) -> list[Episode]:
        runtime = dataclasses.replace(self.runtime, seed=(self.seed, step), work=self.gate.work)
        starts = [
            partial(self._episode, runtime, picks[at], at, index, step, again)
            for index, (at, again) in enumerate(plan, first)
        ]
        played: list[Episode] = await self.gate.play(starts)
        self._check(played, step)
        with runtime.environments.lend() as environment:
            return [settle(episode, runtime.roles, environment, runtime.rewards) for episode in played]

    async def _episode(
        self, runtime: Runtime, pick: Pick, at: int, index: int, step: int, again: Again | None
    ) -> Episode:
        task = None if again is None else again.task
        if task is None and self.source is not None:
            try:
                task = await runtime.work(self._task, pick, step, index)
            except SparringError:
                raise  # the scenario asks for what is not there: no other episode would fare better
            except Exception as error:  # the task generator is a plug-in: an episode without a task is a broken one
                failure = f"no task was made: {cause(error)}"
                return Book(index, at, dict(pick.parameters)).freeze(Ending.BROKE, failure)
        before = again is not None and again.admitted
        return await play(self.graph, runtime, pick.parameters, task=task, index=index, pick=at, admitted=before)

    def _task(self, pick: Pick, step: int, index: int) -> Task:
        assert self.source is not None, "asked only where tasks come from a source"
        source, rng = self.source, np.random.Generator(np.random.Philox(derive(self.seed, step, "task", index)))
        return bounded(lambda: source(dict(pick.parameters), rng), DRAWING_S, "drawing a task")

    def _check(self, episodes: Sequence[Episode], step: int) -> None:
        broken = [episode for episode in episodes if episode.ending is Ending.BROKE]
        if len(broken) > self.max_broken * len(episodes):
            raise TrainingStopped(
                f"step {step}: {len(broken)} of {len(episodes)} episodes broke (rollout.max_broken is "
                f"{self.max_broken}); the first said: {broken[0].error}. Earlier steps are safe: mend the cause and go "
                "on with 'sparring resume', or set rollout.max_broken higher"
            )
