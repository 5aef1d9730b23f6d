"""What is remembered from step to step: figures that compare with earlier steps, and which alarms are on.

All of it follows from the stored figures and evaluations alone: a run that goes on reads them again, in order, and
stands where it stood.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sparring.scenarios.health_spec import STEP, HealthSpec, LimitSpec
from sparring.storage.records import AlarmRow, EvaluationRow

from .figures import Figure, Found
from .meanings import note

FIRST = 5  # steps whose mean length is what later lengths are compared with
LEARNT = 0.9  # share of the possible reward from which on a role that pulls nothing has nothing left to learn
SURE = 2.0  # standard errors that a held-out figure must have fallen to count as lost


@dataclass
class _Signal:
    """One figure with a limit: its newest values, whether the alarm is on, and ``calm``: steps without cause."""

    limit: LimitSpec
    recent: deque[Figure]
    calm: int = 0
    on: bool = False
    value: float = 0.0
    bound: float = 0.0
    above: bool = False

    @classmethod
    def under(cls, limit: LimitSpec) -> _Signal:
        return cls(limit, deque(maxlen=limit.window))

    def take(self, figure: Figure) -> None:
        """Compare anew. Too few samples say nothing, and leave an alarm as it is.

        It takes a mean past a bound, and ``patience`` steps that are past it by themselves: one odd step moves a mean.
        """
        self.recent.append(figure)
        samples = sum(one.n for one in self.recent)
        if samples < (self.limit.least or 1):
            return
        self.value = math.fsum(one.value * one.n for one in self.recent) / samples
        bound = self.limit.passed(self.value)
        patience = min(self.limit.patience or 1, self.limit.window or 1)
        if bound is not None and sum(self.limit.passed(one.value) == bound for one in self.recent) >= patience:
            self.on, self.calm, self.bound, self.above = True, 0, bound, self.value > bound
        else:
            self.calm += 1
            self.on = self.on and self.calm < patience

    def row(self, name: str) -> AlarmRow:
        return AlarmRow(name, self.value, self.bound, note(name, self.value, self.bound, self.above))


@dataclass
class _Length:
    """The lengths a role began with."""

    steps: int = 0
    tokens: float = 0.0
    turns: int = 0


@dataclass
class Watch:
    """The memory of a run's health. ``began`` and ``ended`` are the alarms that the newest step turned on and off."""

    spec: HealthSpec
    signals: dict[str, _Signal] = field(default_factory=dict)
    lengths: dict[str, _Length] = field(default_factory=dict)
    idle: dict[str, int] = field(default_factory=dict)
    best: dict[str, tuple[float, int]] = field(default_factory=dict)
    alarms: tuple[AlarmRow, ...] = ()
    began: tuple[AlarmRow, ...] = ()
    ended: tuple[str, ...] = ()

    def take(
        self,
        figures: Mapping[str, Figure],
        evaluations: Sequence[EvaluationRow],
        metrics: Mapping[str, float | None] | None = None,
    ) -> Found:
        """A step's own figures; returns them with those that compare it with earlier ones.

        ``metrics`` are the step's others, for limits on these.
        """
        whole: Found = dict(figures)
        whole |= self._lengths(figures) | self._starved(figures) | self._forgetting(evaluations)
        before = {alarm.name for alarm in self.alarms}
        for name, figure in {**whole, **self._limited(metrics or {})}.items():
            signal = self._signal(name)
            if signal is not None:
                signal.take(figure)
        self.alarms = tuple(signal.row(name) for name, signal in sorted(self.signals.items()) if signal.on)
        self.began = tuple(alarm for alarm in self.alarms if alarm.name not in before)
        self.ended = tuple(sorted(before - {alarm.name for alarm in self.alarms}))
        return whole

    def _signal(self, name: str) -> _Signal | None:
        if name not in self.signals:
            limit = self.spec.limit(name)
            if limit is None or (limit.below is None and limit.above is None):
                return None
            self.signals[name] = _Signal.under(limit)
        return self.signals[name]

    def _limited(self, metrics: Mapping[str, float | None]) -> Found:
        """The step's metrics that have a limit, one sample each."""
        values = {name: metrics.get(name.removeprefix(STEP)) for name in self.spec.limits if name.startswith(STEP)}
        return {name: Figure(value, 1) for name, value in values.items() if value is not None and math.isfinite(value)}

    def _lengths(self, figures: Mapping[str, Figure]) -> Found:
        """By role: mean tokens of a turn against those of the first steps it spoke in."""
        found: Found = {}
        for name, figure in figures.items():
            kind, _, role = name.partition("/")
            if kind != "length":
                continue
            first = self.lengths.setdefault(role, _Length())
            if first.steps < FIRST:
                first.steps, first.turns = first.steps + 1, first.turns + figure.n
                first.tokens += figure.value * figure.n
            elif first.tokens:
                found[f"length_change/{role}"] = Figure(figure.value * first.turns / first.tokens, figure.n)
        return found

    def _starved(self, figures: Mapping[str, Figure]) -> Found:
        """By role: for how many steps in a row it pulled nothing while others did, and earned too little to be done."""
        found: Found = {}
        for name, figure in figures.items():
            kind, _, role = name.partition("/")
            if kind == "pull":
                earned = figures.get(f"earned/{role}", Figure(0.0, 0))
                done = figure.value or earned.value >= LEARNT
                self.idle[role] = 0 if done else self.idle.get(role, 0) + 1
                found[f"starved/{role}"] = Figure(float(self.idle[role]), 1)
        return found

    def _forgetting(self, evaluations: Sequence[EvaluationRow]) -> Found:
        """By arm: what the held-out figure has surely lost since its best, two standard errors taken off."""
        found: Found = {}
        for row in evaluations:
            if not 0 <= row.value <= 1 or not (row.name == "accuracy" or row.name.startswith("pass@")):
                continue
            arm = "/".join(str(value) for value in row.parameters.values())
            key = f"{row.name}/{arm}"
            best, _ = self.best.get(key, (row.value, row.n))
            if row.value >= best:
                self.best[key] = (row.value, row.n)
            if row.name == "accuracy":
                middle = (best + row.value) / 2
                doubt = SURE * math.sqrt(2 * middle * (1 - middle) / max(1, row.n))
                lost = max(0.0, best - row.value - doubt) if row.value < best else 0.0
                found[f"forgetting/{arm}" if arm else "forgetting"] = Figure(lost, row.n)
        return found
