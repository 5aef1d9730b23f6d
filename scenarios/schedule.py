"""A number that moves during a run: curves over the step, the progress or a metric, and a controller that follows one.

Pure arithmetic and its YAML forms; in which places of a scenario a schedule may stand is ``schedules.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

from .problems import KeyPath, dotted

Number = Annotated[float, Strict()]


@dataclass(frozen=True)
class Now:
    """A moment of a run, for ``Scenario.at``.

    ``metrics`` are the newest known values, of the step before (empty at first; ``None`` or NaN is no news). ``state``
    is plain JSON data that schedules write to: keep it with the step and give it back after a resume.
    """

    step: int
    steps: int
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def progress(self) -> float:
        """``step / steps``: 0 before the first update, 1 at the last, never more."""
        return min(1.0, self.step / self.steps) if self.steps > 0 else 0.0


class Curve(BaseModel):
    """``of`` names what the number follows: ``progress`` (0 to 1), ``step`` (1, 2, ...) or a metric's last value."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
    of: str = Field(default="progress", min_length=1)

    @property
    def first(self) -> float:
        """The value while the argument is not known."""
        raise NotImplementedError

    def value(self, x: float) -> float:
        """The number at argument ``x``."""
        raise NotImplementedError

    def ends(self) -> tuple[float, ...]:
        """Values of the curve between which all others lie."""
        raise NotImplementedError

    def moved(self, now: Now, key: str) -> float:
        """The number of this moment. A metric's last value is kept in ``now.state`` for steps without news."""
        if self.of == "progress":
            return self.value(now.progress)
        if self.of == "step":
            return self.value(float(now.step))
        heard = news(now, self.of)
        if heard is not None:
            now.state[key] = {"seen": heard}
        seen = now.state.get(key, {}).get("seen")
        return self.first if seen is None else self.value(float(seen))

    def written(self) -> Any:
        """What stands in YAML under the kind's name."""
        return self.model_dump(mode="json", by_alias=True)


def news(now: Now, metric: str) -> float | None:
    """A metric's newest value when it is a finite number, else ``None``."""
    value = now.metrics.get(metric)
    return float(value) if value is not None and math.isfinite(value) else None


class Constant(Curve):
    """``{constant: 0.3}``: always that number."""

    level: Number

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            raise ValueError("a number is needed, as in {constant: 0.3}")
        return {"level": value}

    @property
    def first(self) -> float:
        return self.level

    def value(self, x: float) -> float:
        return self.level

    def ends(self) -> tuple[float, ...]:
        return (self.level,)

    def written(self) -> Any:
        return self.level


class Between(Curve):
    """From one number to another; never outside the two."""

    start: Number = Field(alias="from")
    stop: Number = Field(alias="to")

    @model_validator(mode="after")
    def _near_enough(self) -> Between:
        if not math.isfinite(self.stop - self.start):
            raise ValueError("from and to are too far apart")
        return self

    @property
    def first(self) -> float:
        return self.start

    def share(self, x: float) -> float:
        """How much of the way from ``from`` to ``to`` is done at ``x``, 0 to 1."""
        raise NotImplementedError

    def value(self, x: float) -> float:
        done = self.share(x)
        if done >= 1:
            return self.stop  # exactly: from + (to - from) may round past it
        low, high = sorted((self.start, self.stop))
        return min(high, max(low, self.start + (self.stop - self.start) * done))

    def ends(self) -> tuple[float, ...]:
        return (self.start, self.stop)


class Ramp(Between):
    """``from`` until ``after``, then to ``to`` within ``over``, then ``to``. ``over`` is the rest of the progress."""

    after: Number = 0.0
    over: Number | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _has_an_end(self) -> Ramp:
        if self.over is None and (self.of != "progress" or self.after >= 1):
            why = f"after: {self.after:g} is the end" if self.of == "progress" else f"of: {self.of} has no end"
            raise ValueError(f"over: is needed, how much of {self.of} the way from 'from' to 'to' takes ({why})")
        return self

    def share(self, x: float) -> float:
        over = 1 - self.after if self.over is None else self.over
        return min(1.0, max(0.0, (x - self.after) / over))


class Linear(Ramp):
    """``{linear: {from: 0, to: 1, over: 0.1}}``: the same change all the way."""


class Cosine(Ramp):
    """``{cosine: {from: 1e-3, to: 1e-5}}``: slow, fast, slow; half a wave (SGDR, arXiv 1608.03983)."""

    def share(self, x: float) -> float:
        return (1 - math.cos(math.pi * super().share(x))) / 2


class Exponential(Ramp):
    """``{exponential: {from: 0, to: 0.75, rate: 4}}``: (rate^u - 1) / (rate - 1) of the way at share u of ``over``.

    Above 1 slow at first, below 1 fast at first (ZeroSearch's noise, arXiv 2505.04588, has 4). Without ``rate`` every
    step multiplies by the same factor: rate = to / from, so both need one sign.
    """

    rate: Number | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _has_a_rate(self) -> Exponential:
        if self.rate is None and not self.start * self.stop > 0:
            raise ValueError("rate: is needed unless from and to are both above 0 (or both below)")
        return self

    def share(self, x: float) -> float:
        growth = math.log(self.stop / self.start if self.rate is None else self.rate)
        done = super().share(x)
        return done if growth == 0 or done in (0.0, 1.0) else math.expm1(growth * done) / math.expm1(growth)


class Sigmoid(Between):
    """``{sigmoid: {from: 1, to: 0, centre: 0.2, steepness: 125}}``: 1 / (1 + exp(-steepness (x - centre))) of the way.

    Half of the way at ``centre``; ``from`` and ``to`` are approached, not reached (RuscaRL, arXiv 2508.16949).
    """

    centre: Number = 0.5
    steepness: Number = Field(default=10.0, gt=0)

    def share(self, x: float) -> float:
        height = self.steepness * (x - self.centre)
        small = math.exp(-abs(height))
        return (1.0 if height >= 0 else small) / (1 + small)


class Cyclic(Between):
    """``{cyclic: {from: 0.2, to: 1, period: 0.25}}``: straight to ``to`` within half a period, and straight back.

    Cyclical curricula, arXiv 2202.05531.
    """

    period: Number = Field(gt=0)

    def share(self, x: float) -> float:
        return 1 - abs(2 * (x / self.period % 1.0) - 1)


class Steps(Curve):
    """``{steps: {0: 1.0, 20: 0.1}}``: the number of the greatest key that is reached; ``of`` is ``step`` by default."""

    of: str = Field(default="step", min_length=1)
    levels: tuple[tuple[Number, Number], ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("a mapping of where to what is needed, as in {steps: {0: 1.0, 20: 0.1}}")
        try:
            levels = [(float(key), level) for key, level in value.items() if key != "of"]
            levels.sort(key=lambda level: level[0])
        except (ValueError, TypeError):
            raise ValueError("every key but of: is a number, as in {steps: {0: 1.0, 20: 0.1}}") from None
        if wrong := [level for _, level in levels if type(level) not in (int, float)]:
            raise ValueError(f"found {wrong[0]!r}; a number is needed, as in {{steps: {{0: 1.0, 20: 0.1}}}}")
        if not levels or any(a[0] == b[0] for a, b in pairwise(levels)):
            raise ValueError("is empty" if not levels else "a key is there twice")
        return {"levels": levels, **({"of": value["of"]} if "of" in value else {})}

    @property
    def first(self) -> float:
        return self.levels[0][1]

    def value(self, x: float) -> float:
        return next((level for key, level in reversed(self.levels) if key <= x), self.first)

    def ends(self) -> tuple[float, ...]:
        levels = [level for _, level in self.levels]
        return (self.first, min(levels), max(levels))

    def written(self) -> Any:
        return {"of": self.of, **{f"{int(key) if key == int(key) else key}": level for key, level in self.levels}}


class Controller(Curve):
    """``{controller: {metric: entropy/solver, target: 0.4, gain: -0.1, from: 0, low: 0, high: 0.1}}``.

    Each step adds gain x (metric - target), kept inside [low, high]: integral control. A negative ``gain`` raises the
    number while the metric is too low. A step without news of the metric changes nothing; asking twice moves once.
    """

    of: str = Field(alias="metric", min_length=1)
    target: Number
    gain: Number
    start: Number = Field(alias="from")
    low: Number
    high: Number

    @model_validator(mode="after")
    def _ordered(self) -> Controller:
        if self.of in ("step", "progress"):
            raise ValueError(f"metric: {self.of} is no metric of a step; use another schedule with of: {self.of}")
        if not self.low <= self.start <= self.high:
            raise ValueError(f"low <= from <= high is needed; found {self.low:g}, {self.start:g}, {self.high:g}")
        return self

    @property
    def first(self) -> float:
        return self.start

    def value(self, x: float) -> float:
        return min(self.high, max(self.low, x))

    def ends(self) -> tuple[float, ...]:
        return (self.start, self.low, self.high)

    def moved(self, now: Now, key: str) -> float:
        """The number of this moment; ``now.state`` remembers it and the step that moved it."""
        held = now.state.get(key, {"value": self.start, "step": 0})
        value, heard = float(held["value"]), news(now, self.of)
        if now.step > held["step"]:
            if heard is not None:
                value += self.gain * (heard - self.target)
            now.state[key] = {"value": self.value(value), "step": now.step}
        return self.value(value)


KINDS: dict[str, type[Curve]] = {
    "constant": Constant,
    "linear": Linear,
    "cosine": Cosine,
    "exponential": Exponential,
    "sigmoid": Sigmoid,
    "cyclic": Cyclic,
    "steps": Steps,
    "controller": Controller,
}


@dataclass(frozen=True)
class Schedule:
    """One number's schedule. ``whole`` numbers are rounded to the nearest."""

    kind: str
    curve: Curve
    whole: bool = False

    @property
    def first(self) -> float | int:
        """The number before the first step."""
        curve = self.curve
        return self._as(curve.value(0.0) if curve.of in ("step", "progress") else curve.first)

    def ends(self) -> tuple[float | int, ...]:
        """Numbers between which it stays, the extremes among them."""
        return tuple(self._as(end) for end in self.curve.ends())

    def at(self, now: Now, path: KeyPath) -> float | int:
        """The number of this moment; ``path`` names its place in ``now.state``."""
        return self._as(self.curve.moved(now, dotted(path)))

    def written(self) -> dict[str, Any]:
        """The mapping that stands in YAML, every default filled in."""
        return {self.kind: self.curve.written()}

    def _as(self, value: float) -> float | int:
        return round(value) if self.whole else value


def place(data: Any, path: KeyPath, value: Any) -> None:
    """Put ``value`` at ``path`` in plain data, in place."""
    *above, last = path
    for key in above:
        data = data[key]
    data[last] = value
