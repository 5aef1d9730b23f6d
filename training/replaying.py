"""Stored episodes played again: recorded words drive graph, tools, environment and rewards, and the result is compared.

No model is loaded and nothing is written. What only the run could know is taken from the record: which policy was the
newest at a moment, what the trainers put beside the played turns, and whether a task was held out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sparring.agents.book import ENVIRONMENT
from sparring.agents.engine import DEMONSTRATION
from sparring.agents.graph import RoleGraph, build_graph, play
from sparring.agents.replay import RecordedEngine, is_given, offered, recorded_filter
from sparring.agents.rewards import rewards_of
from sparring.agents.role import make_role
from sparring.agents.settle import settle
from sparring.agents.stage import POLICY, RULE, Runtime
from sparring.envs.types import Ending, Episode
from sparring.scenarios.errors import EngineError
from sparring.scenarios.schedule import Now
from sparring.scenarios.schema import Scenario
from sparring.storage.answers import KeptEpisode
from sparring.storage.differences import Difference, differences
from sparring.storage.hashes import episode_hash

from .engines.render import ChatRenderer
from .gate import Gate
from .policy import locate
from .session import World, kept_apart

Recall = Callable[[Scenario, int], Mapping[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Replayed:
    """One episode played again. ``broke``: it broke when it was played, so there is no reward to compare.

    ``rewards`` were compared, over ``turns`` turns; ``same_bytes`` says that the new episode hashes to what the stored
    one was saved with, durations apart.
    """

    episode: str
    broke: bool
    turns: int
    rewards: int
    same_bytes: bool
    differences: tuple[Difference, ...] = ()

    @property
    def rewards_equal(self) -> bool:
        """Whether every reward came out with the same bytes."""
        return not any(difference.rewards for difference in self.differences)


class Replay:
    """Plays stored steps of one run again. ``figures`` are each step's metrics, by step, for scheduled numbers.

    ``known`` maps the key of a task to the episodes that hold it; ``recall`` gives what roles read of their own past.
    Close it after use.
    """

    def __init__(
        self,
        scenario: Scenario,
        figures: Mapping[int, Mapping[str, float | None]],
        known: Mapping[str, Sequence[str]],
        unsafe: bool = False,
        recall: Recall = lambda scenario, step: {},
    ) -> None:
        self._scenario, self._figures, self._known, self._unsafe = scenario, figures, known, unsafe
        self._graph: RoleGraph = build_graph(scenario.graph_spec())
        self._renderer = renderer_of(scenario)
        self._gate = Gate(scenario.rollout.workers)
        self._recall = recall
        self._world: World | None = None
        self._reserved = self._kept_apart()

    def close(self) -> None:
        """Give threads and environments back."""
        self._gate.close()
        if self._world is not None:
            self._world.pool.close()

    def step(self, number: int, kept: Sequence[KeptEpisode]) -> list[Replayed]:
        """These episodes of step ``number``, played side by side, in order."""
        scenario = moment(self._scenario, number, self._figures)
        world = self._world_of(scenario)
        able = [one for one in kept if one.episode.ending is not Ending.BROKE]
        engine = self._gate.engine(RecordedEngine([one.episode for one in able], self._renderer))
        runtime = Runtime(
            roles={name: make_role(name, spec, scenario.base) for name, spec in scenario.roles.items()},
            engines={POLICY: engine},
            renderer=self._renderer,
            environments=world.pool,
            reserved=self._reserved,
            tools=world.tools,
            seed=(scenario.seed, number),
            work=self._gate.work,
            rewards=rewards_of(scenario),
            memories=self._recall(scenario, number),
        )
        starts = [partial(self._play, runtime, one) for one in able]
        played: list[Episode] = asyncio.run(self._gate.play(starts)) if starts else []
        with world.pool.lend() as environment:
            settled = [settle(episode, runtime.roles, environment, runtime.rewards) for episode in played]
        new = {one.name: episode for one, episode in zip(able, settled, strict=True)}
        return [_compared(one, new.get(one.name)) for one in kept]

    async def _play(self, runtime: Runtime, kept: KeptEpisode) -> Episode:
        stored = kept.episode
        given = next((stored.task(turn.task) for turn in stored.turns[:1] if is_given(turn)), None)

        def known(key: str) -> bool:
            return any(home != kept.name for home in self._known.get(key, ()))

        own = replace(runtime, admit_filter=recorded_filter(stored, known))
        # a seed went to the start node, a task that a role proposed in an earlier episode past it
        admitted = any(turn.parent == 0 and turn.node != self._graph.spec.start for turn in stored.turns)
        return await play(
            self._graph, own, stored.parameters, task=given, index=stored.index, pick=stored.pick, admitted=admitted
        )

    def _kept_apart(self) -> frozenset[str]:
        """The keys of the evaluation's tasks, which the run did not draw either."""
        if not any(node.do == "draw" for node in self._graph.spec.nodes.values()):
            return frozenset()
        return frozenset(task.key for _, task in kept_apart(self._scenario, self._world_of(self._scenario)))

    def _world_of(self, scenario: Scenario) -> World:
        if self._world is not None and self._world.ref != scenario.environment:
            self._world.pool.close()
            self._world = None
        if self._world is None:
            self._world = World.of(scenario, self._unsafe)
        return self._world


def moment(scenario: Scenario, step: int, figures: Mapping[int, Mapping[str, float | None]]) -> Scenario:
    """The scenario with scheduled numbers as they were in ``step``: every step up to it is followed again.

    A number that follows a metric under ``rollout.ahead`` saw whichever figures were the newest then; here it sees
    those of the step before.
    """
    memory: dict[str, Any] = {}
    found = scenario
    for number in range(1, step + 1):
        heard = {name: value for name, value in figures.get(number - 1, {}).items() if not name.endswith("seconds")}
        found = scenario.at(Now(number, scenario.training.steps, heard, memory))
        if found is scenario:  # nothing is scheduled
            break
    return found


def renderer_of(scenario: Scenario) -> ChatRenderer:
    """The policy's tokenizer and chat template, without its weights. Raises ``EngineError``."""
    from transformers import AutoTokenizer

    where = locate(scenario.policy.model, scenario.base)
    try:
        return ChatRenderer(AutoTokenizer.from_pretrained(where))
    except (OSError, ValueError) as error:
        raise EngineError(
            f"policy.model {scenario.policy.model!r}: its tokenizer cannot be loaded from {where}: {error}; a replay "
            "reads recorded tokens with it, so put the model folder back where the run had it"
        ) from error


def _compared(kept: KeptEpisode, new: Episode | None) -> Replayed:
    stored = kept.episode
    if new is None:
        return Replayed(kept.name, True, len(stored.turns), 0, False)
    new = _as_recorded(stored, new)
    found = differences(stored, new)
    equal = episode_hash(new) == kept.hash
    if not equal and not found:
        found = [Difference(None, "", "stored hash", kept.hash, episode_hash(new))]
    rewards = sum(len(scores) for scores in stored.scores.values())
    return Replayed(kept.name, False, len(stored.turns), rewards, equal, tuple(found))


def _as_recorded(stored: Episode, new: Episode) -> Episode:
    """``new`` with what is not computed in play: policy versions of turns nobody sampled, turns a trainer put in."""
    turns = [
        turn.amended(policy_version=old.policy_version)
        if old.author == turn.author and (turn.author == ENVIRONMENT or turn.engine in (DEMONSTRATION, RULE))
        else turn
        for turn, old in zip(new.turns, stored.turns, strict=False)
    ]
    turns += new.turns[len(turns) :]
    scores = dict(new.scores)
    for turn in stored.turns[len(turns) :]:
        if offered(turn):
            turns.append(turn)
            scores[turn.index] = stored.scores.get(turn.index, ())
    return replace(new, turns=tuple(turns), scores=scores)
