"""Held-out figures: attempts at unseen tasks, scores when the whole graph plays, an environment's own measures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

from sparring.agents.conditions import VERIFIER, outcome
from sparring.agents.graph import RoleGraph, build_graph, play
from sparring.agents.settle import settle
from sparring.agents.stage import Runtime
from sparring.envs.types import Episode, Task
from sparring.scenarios.checks import SCORE_OF
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.schema import Edge, EvaluationSpec, GraphSpec, RoleSpec
from sparring.storage.records import EvaluationRow

from .gate import Gate
from .summary import Figures, summarise

SUCCESS = "succ@"
ALL = {"samples": 1, "pick": "all", "at_most": None}


def attempt_graph(spec: GraphSpec, samples: int) -> GraphSpec:
    """The part of a graph that answers a task: its first role node whose turn the environment steps, and that step.

    Who the environment goes on with directly after that step (the same role, using tools; other seats) belongs to it;
    a search between the two is passed by: what is measured is the policy alone.
    Raises ``ScenarioError`` when no role's turn is ever acted out: there is no accuracy to measure.
    """
    arrows = [arrow for arrow in spec.straight() if {arrow.source, arrow.target} <= set(spec.nodes)]
    acted = {(source, target) for source, target, _ in arrows}
    for first, step, _ in arrows:
        if spec.nodes[step].do == "step" and spec.nodes[first].role is not None:
            players = [name for name in spec.nodes if name == first or {(name, step), (step, name)} <= acted]
            nodes = {name: spec.nodes[name].model_copy(update=ALL) for name in players}
            nodes[first] = nodes[first].model_copy(update={"samples": samples})
            inside = [arrow for arrow in arrows if {arrow.source, arrow.target} <= {*players, step}]
            edges = tuple(Edge.model_validate({"from": a, "to": [b], "if": condition}) for a, b, condition in inside)
            return GraphSpec(nodes={**nodes, step: spec.nodes[step]}, edges=edges, start=first)
    raise ScenarioError("evaluation: no role's turn leads to a `do: step` node in this graph; set evaluation.every: 0")


def samples_needed(metrics: Sequence[str]) -> int:
    """Attempts per task: the largest k of ``pass@k``.

    >>> samples_needed(["accuracy", "pass@4"])
    4
    """
    return max((int(name.removeprefix("pass@")) for name in metrics if name.startswith("pass@")), default=1)


def attempted(metrics: Sequence[str]) -> list[str]:
    """The metrics that come of playing: all but an environment's own measures.

    >>> attempted(["accuracy", "exploitability"])
    ['accuracy']
    """
    return [name for name in metrics if name == "accuracy" or name.startswith(("pass@", SUCCESS))]


def pass_at(k: int, right: Sequence[bool]) -> float:
    """Unbiased chance that one of k attempts drawn from these is right: 1 - C(n-c, k) / C(n, k) (arXiv 2107.03374).

    >>> pass_at(1, [True, False])
    0.5
    """
    n, wrong = len(right), len(right) - sum(right)
    return 1.0 - math.comb(wrong, k) / math.comb(n, k)


class Wanted(NamedTuple):
    """A metric ``NAME.SCORE``: the mean of one score over the turns of a node or of a role."""

    metric: str
    name: str
    score: str

    def values(self, episode: Episode) -> list[float]:
        """The valued scores of an episode."""
        found = (
            episode.score(turn.index, self.score) for turn in episode.turns if self.name in (turn.node, turn.author)
        )
        return [score.value for score in found if score is not None and score.value is not None]


def scored(metrics: Sequence[str]) -> list[Wanted]:
    """The metrics that come of playing the whole graph.

    >>> scored(["accuracy", "revise.verifier"])
    [Wanted(metric='revise.verifier', name='revise', score='verifier')]
    """
    found = ((metric, SCORE_OF.fullmatch(metric)) for metric in metrics)
    return [Wanted(metric, match["whose"], match["score"]) for metric, match in found if match is not None]


@dataclass(frozen=True)
class Measured:
    """An environment's measures by name, and the number of positions they are taken over."""

    figures: Mapping[str, float]
    positions: int


@dataclass
class Evaluation:
    """Plays the attempt graph on ``tasks`` and reports every metric overall and per arm.

    ``graph`` is the part that attempts a task, ``None`` where no metric asks for it; ``whole`` the scenario's own.
    ``exact`` gives the environment's own measures at a temperature; nothing is played for them.
    """

    graph: RoleGraph | None
    whole: RoleGraph
    runtime: Runtime
    gate: Gate
    spec: EvaluationSpec
    tasks: Sequence[tuple[str, Task]]
    seed: int
    exact: Callable[[float], Measured] | None = None

    async def roles(self, whole: RoleGraph, count: int) -> Figures:
        """Figures of every role (see ``summarise``) when the ``whole`` graph plays ``count`` of the held-out tasks."""
        return summarise(await self._play(whole, self.runtime, self.tasks[:count]))

    async def _play(self, graph: RoleGraph, runtime: Runtime, tasks: Sequence[tuple[str, Task]]) -> list[Episode]:
        own = dataclasses.replace(runtime, seed=(self.seed, "evaluation"), work=self.gate.work)
        starts = [partial(play, graph, own, task=task, index=index) for index, (_, task) in enumerate(tasks)]
        played: list[Episode] = await self.gate.play(starts)
        with own.environments.lend() as environment:
            return [settle(episode, own.roles, environment, own.rewards) for episode in played]

    async def measure(self, step: int, temperature: float | None = None) -> tuple[EvaluationRow, ...]:
        """Every metric at ``temperature`` (the scenario's when absent). The same draws at every step of a run."""
        heat = self.spec.temperature if temperature is None else temperature
        return await self._attempted(step, heat) + await self._scored(step, heat) + self._exact(step, heat)

    def _exact(self, step: int, heat: float) -> tuple[EvaluationRow, ...]:
        found = self.exact(heat) if self.exact is not None else Measured({}, 0)
        wanted = [name for name in self.spec.metrics if name in found.figures]
        return tuple(EvaluationRow(step, name, found.figures[name], found.positions, {}, heat) for name in wanted)

    async def _attempted(self, step: int, heat: float) -> tuple[EvaluationRow, ...]:
        metrics = attempted(self.spec.metrics)
        if not metrics or self.graph is None:
            return ()
        episodes = await self._play(self.graph, self._at(heat), self.tasks)
        return tuple(
            EvaluationRow(step, name, value, len(group), scope, heat)
            for scope, group in self._scopes(episodes)
            for name, value in {
                **figures([outcomes(episode) for episode in group], metrics),
                **successes([conversations(episode) for episode in group], metrics),
            }.items()
        )

    async def _scored(self, step: int, heat: float) -> tuple[EvaluationRow, ...]:
        wanted = scored(self.spec.metrics)
        if not wanted:
            return ()
        episodes = await self._play(self.whole, self._at(heat), self.tasks)
        found = []
        for scope, group in self._scopes(episodes):
            for one in wanted:
                values = [value for episode in group for value in one.values(episode)]
                if values:
                    found.append(EvaluationRow(step, one.metric, fmean(values), len(values), scope, heat))
        return tuple(found)

    def _at(self, heat: float) -> Runtime:
        """What is played with, every role at this temperature and on its own."""
        cooled = {name: _at(role, heat) for name, role in self.runtime.roles.items()}
        return dataclasses.replace(self.runtime, roles=cooled)

    def _scopes(self, episodes: Sequence[Episode]) -> list[tuple[Mapping[str, Any], list[Episode]]]:
        """All episodes, and those of each arm where there are several."""
        by_arm: dict[str, list[Episode]] = {}
        for (arm, _), episode in zip(self.tasks, episodes, strict=True):
            by_arm.setdefault(arm, []).append(episode)
        apart = [({"arm": arm}, group) for arm, group in by_arm.items()] if len(by_arm) > 1 else []
        return [({}, [episode for group in by_arm.values() for episode in group]), *apart]


def outcomes(episode: Episode) -> list[bool]:
    """Whether each attempt of an episode is right; one the verifier could not judge is left out."""
    verdicts = (outcome(episode.score(turn.index, VERIFIER)) for turn in episode.turns)
    return [verdict for verdict in verdicts if verdict is not None]


def conversations(episode: Episode) -> list[list[bool]]:
    """Whether the answers of each conversation of an episode are right, in the order in which they were given."""
    verdicts = {turn.index: outcome(episode.score(turn.index, VERIFIER)) for turn in episode.turns}
    known = {index: right for index, right in verdicts.items() if right is not None}
    above = {index: [turn.index for turn in episode.ancestors(index)[:0:-1] if turn.index in known] for index in known}
    inner = {before for befores in above.values() for before in befores}
    return [[known[one] for one in (*above[index], index)] for index in known if index not in inner]


def successes(tasks: Sequence[Sequence[Sequence[bool]]], metrics: Sequence[str]) -> dict[str, float]:
    """``succ@k``: the share of a task's conversations with a right one among their first k answers, over tasks."""
    found = {}
    for name in metrics:
        judged = [talks for talks in tasks if talks] if name.startswith(SUCCESS) else []
        if judged:
            k = int(name.removeprefix(SUCCESS))
            found[name] = fmean(fmean(any(talk[:k]) for talk in talks) for talks in judged)
    return found


def figures(attempts: Sequence[Sequence[bool]], metrics: Sequence[str]) -> dict[str, float]:
    """``accuracy`` (mean over all attempts) and ``pass@k`` over tasks that have at least k judged attempts."""
    found = {}
    for name in metrics:
        if name.startswith(SUCCESS):
            continue
        if name == "accuracy":
            values = [fmean(right) for right in attempts if right]
        else:
            k = int(name.removeprefix("pass@"))
            values = [pass_at(k, right) for right in attempts if len(right) >= k]
        if values:
            found[name] = fmean(values)
    return found


def _at(role: Any, temperature: float) -> Any:
    spec: RoleSpec = role.spec
    cooled = spec.sampling.model_copy(update={"temperature": temperature})
    alone = spec.model_copy(update={"sampling": cooled, "demonstrated": 0.0, "scaffold": None})
    return type(role)(role.name, alone, role.folder)


def evaluation_graph(spec: GraphSpec, metrics: Sequence[str]) -> RoleGraph | None:
    """The compiled attempt graph with as many samples as the metrics need; ``None`` when none needs it."""
    return build_graph(attempt_graph(spec, samples_needed(metrics))) if attempted(metrics) else None
