"""Which trainers take part in a step, and what they make of it together: one list of rows for one update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from sparring.envs.types import Episode
from sparring.scenarios.registry import make, trainers
from sparring.scenarios.seeds import derive
from sparring.storage.records import AdvantageRow

from .losses.base import Loss
from .rows import ADVANTAGE, Row
from .stages.base import Want
from .trainers.base import Made, Played, TrainerPart
from .trainers.policy_gradient import MAIN

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario, TrainerSpec

States = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Planned:
    """A trainer part under its name in the scenario."""

    name: str
    spec: TrainerSpec
    part: TrainerPart

    def loss_name(self, own: str) -> str:
        """A loss's name in the run: the trainer's, and its own where the trainer has several."""
        return self.name if own == MAIN else f"{self.name}/{own}"


@dataclass
class Plan:
    """The scenario's trainers. ``states`` are their memories by name: JSON, saved with each step."""

    scenario: Scenario
    renderer: Any
    trainers: list[Planned]
    states: States = field(default_factory=dict)

    @classmethod
    def of(cls, scenario: Scenario, renderer: Any) -> Plan:
        """Every trainer built from its options."""
        specs = scenario.training.trainers.items()
        return cls(scenario, renderer, [Planned(name, spec, make(trainers, spec, scenario)) for name, spec in specs])

    @property
    def losses(self) -> dict[str, Loss]:
        """Every trainer's losses by the names rows carry."""
        return {planned.loss_name(own): loss for planned in self.trainers for own, loss in planned.part.losses.items()}

    @property
    def needs(self) -> frozenset[str]:
        """Everything that some loss or token-level estimator needs to be computed."""
        parts = [*self.losses.values(), *(getattr(planned.part, "advantage", None) for planned in self.trainers)]
        return frozenset[str]().union(*(getattr(part, "needs", frozenset()) for part in parts))

    def at(self, moment: Scenario) -> Plan:
        """The same trainers with the numbers of a moment, and the same memories."""
        fresh = Plan.of(moment, self.renderer)
        fresh.states = self.states
        return fresh

    def due(self, step: int, figures: Mapping[str, float | None]) -> list[Planned]:
        """The trainers that take part in this step, given the last step's figures."""
        return [planned for planned in self.trainers if planned.spec.due(step, figures)]

    def wants(self, due: Sequence[Planned], episodes: Sequence[Episode], round: int, first: int) -> list[Want]:
        """What the stages of these trainers ask to be played before the groups are final.

        The step began with ``first`` episodes.
        """
        found: list[Want] = []
        for planned in due:
            ask = getattr(planned.part, "wants", None)
            found += ask(episodes, self.scenario.roles, round, first) if ask is not None else []
        return found

    def offer(self, due: Sequence[Planned], episodes: Sequence[Episode]) -> list[Episode]:
        """The episodes with whatever turns these trainers put beside the sampled ones (demonstrations)."""
        found = list(episodes)
        for planned in due:
            give = getattr(planned.part, "offer", None)
            found = give(found, self.renderer) if give is not None else found
        return found

    def compared(self, rows: Sequence[AdvantageRow]) -> Sequence[AdvantageRow]:
        """Those of trainers that compare turns, where there are some; else all of them.

        Other trainers name the same turns again, with marks (imitated, chosen, rejected) that are no advantages.
        """
        comparing = {one.name for one in self.trainers if getattr(one.part, "advantage", None) is not None}
        return [row for row in rows if row.trainer in comparing] or rows

    def make(self, due: Sequence[Planned], episodes: Sequence[Episode], step: int, rounds: Sequence[int] = ()) -> Made:
        """Rows, groups, advantages and estimators of these trainers, under names and numbers of the step.

        An advantage of a turn of ``earlier[k]`` has the ``episode`` len(episodes) + k. ``rounds``: how many episodes
        there were after each round of play.
        """
        whole = Made([], [], [], {}, {})
        for planned in due:
            rng = np.random.Generator(np.random.Philox(derive(self.scenario.seed, step, "trainer", planned.name)))
            state = self.states.setdefault(planned.name, {})
            played = Played(episodes, self.scenario.roles, step, rng, self.renderer, state, rounds)
            made = planned.part.make(played)
            first, weight = len(whole.groups), planned.spec.weight
            earlier = list(dict.fromkeys([*whole.earlier, *made.earlier]))
            places = [len(episodes) + earlier.index(home) for home in made.earlier]
            whole = Made(
                [*whole.rows, *(_scaled(row, planned.loss_name(row.loss), weight) for row in made.rows)],
                [
                    *whole.groups,
                    *(replace(group, index=first + group.index, trainer=planned.name) for group in made.groups),
                ],
                [*whole.advantages, *_moved(made.advantages, first, places, planned)],
                {**whole.shapes, **{planned.loss_name(own): shape for own, shape in made.shapes.items()}},
                whole.figures | {f"{planned.name}/{name}": v for name, v in (played.told | made.figures).items()},
                earlier,
            )
        return whole


def _scaled(row: Row, name: str, weight: float) -> Row:
    return replace(row, loss=name, coefficient_T=[weight * share for share in row.coefficient_T])


def _moved(rows: Sequence[AdvantageRow], first: int, places: Sequence[int], planned: Planned) -> Iterator[AdvantageRow]:
    """``places`` are the numbers, in the step, of the episodes of earlier steps."""
    for row in rows:
        episode = row.episode if row.episode >= 0 else places[-row.episode - 1]
        pull = planned.spec.weight * row.pull
        yield replace(row, episode=episode, group=first + row.group, trainer=planned.name, pull=pull)


def with_tokens(
    advantages: Sequence[AdvantageRow], rows: Sequence[Row], shaped: Mapping[str, Any]
) -> list[AdvantageRow]:
    """Advantages with their values per token, where the learner spread them.

    ``value`` is then their mean, and ``pull`` the sum over the turn's tokens of coefficient x advantage.
    """
    spread: dict[tuple[str, int, int], tuple[tuple[float, ...], float]] = {}
    for row in rows:
        if row.loss in shaped:
            trainer = row.loss.partition("/")[0]
            for span in row.spans:
                value_T = row.streams[ADVANTAGE][span.start : span.stop]
                share_T = row.coefficient_T[span.start : span.stop]
                pull = math.fsum(share * value for share, value in zip(share_T, value_T, strict=True))
                spread[trainer, span.episode, span.turn] = tuple(value_T), pull
    found = []
    for advantage in advantages:
        per_token, pull = spread.get((advantage.trainer, advantage.episode, advantage.turn), ((), 0.0))
        if per_token:
            advantage = replace(advantage, value=fmean(per_token), pull=pull, tokens=per_token)
        found.append(advantage)
    return found
