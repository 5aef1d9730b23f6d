"""Runs side by side: runs whose scenarios differ by seed only are one side, with a mean and an interval per step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparring.envs.types import canonical

from .intervals import Interval, difference, mean_interval
from .records import EvaluationRow

APART = frozenset({"seed", "source", "store"})  # what two runs of one scenario may differ in
ABSENT = "absent"


@dataclass(frozen=True)
class Measured:
    """One run: its scenario as stored, its seed and every held-out figure."""

    run: str
    name: str
    seed: int
    scenario: Mapping[str, Any]
    evaluations: Sequence[EvaluationRow]

    def curve(self, metric: str) -> dict[int, float]:
        """By step, over the whole held-out set."""
        return {row.step: row.value for row in self.evaluations if row.name == metric and not row.parameters}


@dataclass(frozen=True)
class Side:
    """Runs of one scenario. ``curve`` maps each step that any of them measured to the interval over those that did."""

    label: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    curve: Mapping[int, Interval]
    values: Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Contrast:
    """A side minus the first one at ``step``, the last that all their runs measured; ``None`` where there is none."""

    label: str
    step: int | None
    interval: Interval | None
    how: str


@dataclass(frozen=True)
class Compared:
    """``finals`` maps each held-out figure to its newest value on each side, ``None`` where no run measured it.

    ``keys`` maps a dotted key of the scenario to its value on each side, where these differ.
    """

    metric: str
    sides: tuple[Side, ...]
    contrasts: tuple[Contrast, ...]
    finals: Mapping[str, tuple[Interval | None, ...]] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def compared(runs: Sequence[Measured], metric: str) -> Compared:
    """The runs as sides, in the order in which they are given."""
    grouped: defaultdict[str, list[Measured]] = defaultdict(list)
    for one in runs:
        grouped[canonical({key: value for key, value in one.scenario.items() if key not in APART})].append(one)
    groups = list(grouped.values())
    sides = tuple(_side(group, metric) for group in groups)
    contrasts = tuple(_contrast(groups[0], group, metric) for group in groups[1:])
    return Compared(metric, sides, contrasts, _finals(groups), differing([group[0].scenario for group in groups]))


def _side(group: Sequence[Measured], metric: str) -> Side:
    names = list(dict.fromkeys(one.name for one in group))
    runs = tuple(one.run for one in group)
    steps = sorted({step for one in group for step in one.curve(metric)})
    values = {step: {one.run: one.curve(metric)[step] for one in group if step in one.curve(metric)} for step in steps}
    curve = {step: mean_interval(list(values[step].values())) for step in steps}
    label = f"{', '.join(names)} ({', '.join(runs)})"
    return Side(label, runs, tuple(one.seed for one in group), curve, values)


def _finals(groups: Sequence[Sequence[Measured]]) -> dict[str, tuple[Interval | None, ...]]:
    names = dict.fromkeys(
        row.name for group in groups for one in group for row in one.evaluations if not row.parameters
    )

    def newest(group: Sequence[Measured], name: str) -> Interval | None:
        curves = [curve for one in group if (curve := one.curve(name))]
        return mean_interval([curve[max(curve)] for curve in curves]) if curves else None

    return {name: tuple(newest(group, name) for group in groups) for name in names}


def _contrast(first: Sequence[Measured], group: Sequence[Measured], metric: str) -> Contrast:
    label = f"{', '.join(one.run for one in group)} - {', '.join(one.run for one in first)}"
    steps = set.intersection(*(set(one.curve(metric)) for one in (*first, *group)))
    if not steps:
        return Contrast(label, None, None, "no step that all of them measured")
    step = max(steps)
    one, two = ([(run.seed, run.curve(metric)[step]) for run in side] for side in (first, group))
    if len(dict(one)) < len(one) or len(dict(two)) < len(two):
        return Contrast(label, step, None, "a seed stands twice on one side: these runs are copies, not samples")
    found, how = difference(dict(one), dict(two))
    return Contrast(label, step, found, how)


def differing(scenarios: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Dotted keys at which scenarios differ, with each one's value as JSON text.

    >>> differing([{"seed": 1, "a": {"b": 2}}, {"seed": 2, "a": {"b": 3}}])
    {'a.b': ('2', '3')}
    """
    flat = [dict(_flat(scenario)) for scenario in scenarios]
    keys = sorted({key for one in flat for key in one if key.partition(".")[0] not in APART})
    told = {key: tuple(one.get(key, ABSENT) for one in flat) for key in keys}
    return {key: values for key, values in told.items() if len(set(values)) > 1}


def _flat(value: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        place = f"{above}{key}"
        if isinstance(item, Mapping) and item:
            found += _flat(item, f"{place}.")
        else:
            found.append((place, canonical(item)))
    return found
