"""A run's health as data: the figures that are watched, from where on one is bad, and what an alarm does.

How figures are taken is told in ``training/health``; here are their names and the limits a run has unless it says
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from .problems import unknown
from .ref import Flag, Number, Spec, Whole

FIGURES = (
    "entropy", "entropy_unpaid", "answer_diversity", "duplicate_proposals", "repetition", "length", "length_change",
    "judge_false", "judge_gap", "verdict_false", "length_bias", "duplicate_answers", "spoof", "audit", "format_only",
    "forgetting", "truncated_turns", "truncated_tokens", "context_overflow", "untrained_tokens", "invalid",
    "earned", "pull", "trained", "starved",
)  # fmt: skip


class LimitSpec(Spec):
    """From where on a figure is bad: ``below`` or ``above`` these bounds.

    It is the figure's mean over its newest ``window`` steps, each counting by its samples, that is compared, once these
    hold ``least`` samples. An alarm begins when it is past a bound, and so are ``patience`` of these steps by
    themselves; it ends after as many steps in a row without cause.
    """

    below: Number | None = None
    above: Number | None = None
    window: Whole | None = Field(default=None, ge=1, le=1000)
    patience: Whole | None = Field(default=None, ge=1, le=1000)
    least: Whole | None = Field(default=None, ge=1)

    def over(self, other: LimitSpec) -> LimitSpec:
        """This limit with what it leaves open from ``other``; a bound of its own leaves ``other`` none."""
        own = self.model_dump(exclude_none=True)
        keep = {"window", "patience", "least"} if own.keys() & {"below", "above"} else set(LimitSpec.model_fields)
        return LimitSpec(**(other.model_dump(include=keep) | own))

    def passed(self, value: float) -> float | None:
        """The bound that ``value`` is past, ``None`` when it is inside both."""
        if self.below is not None and value < self.below:
            return self.below
        return self.above if self.above is not None and value > self.above else None


def _limit(window: int, patience: int, least: int, **bounds: float) -> LimitSpec:
    return LimitSpec(window=window, patience=patience, least=least, **bounds)


LIMITS: Mapping[str, LimitSpec] = {
    "entropy_unpaid": _limit(8, 5, 500, below=0.01),
    "answer_diversity": _limit(8, 5, 40, below=0.05),
    "duplicate_proposals": _limit(8, 5, 40, above=0.6),
    "repetition": _limit(8, 5, 2000, above=0.7),
    "length_change": _limit(8, 5, 100, below=0.1, above=8.0),
    "judge_false": _limit(8, 3, 100, above=0.05),
    "length_bias": _limit(8, 3, 200, below=-0.5, above=0.5),
    "duplicate_answers": _limit(8, 3, 200, above=0.3),
    "spoof": _limit(8, 3, 200, above=0.01),
    "audit": _limit(2, 2, 4, above=0.25),
    "format_only": _limit(16, 8, 200, above=0.9),
    "forgetting": _limit(2, 2, 20, above=0.05),
    "truncated_tokens": _limit(8, 5, 500, above=0.5),
    "context_overflow": _limit(8, 5, 40, above=0.1),
    "untrained_tokens": _limit(16, 8, 500, above=0.95),
    "invalid": _limit(8, 3, 40, above=0.2),
    "starved": _limit(1, 1, 1, above=20.0),
}
_DEFAULT = _limit(8, 5, 40)
STEP = "step/"  # before a metric of the step, where a limit is on that
_OF_A_STEP = _limit(5, 3, 5)
_OWN = ("health/", "health_n/")  # metrics of a step that hold the figures above


def _of_a_step(own: LimitSpec) -> LimitSpec:
    """What ``own`` leaves open: a step is one sample, and a window is full once it holds as many as it has steps."""
    window = own.window or _OF_A_STEP.window or 1
    return _OF_A_STEP.model_copy(update={"least": min(window, _OF_A_STEP.least or 1)})


def _reached(name: str, own: LimitSpec) -> None:
    """Raise ``ValueError`` where so many samples never come together."""
    window = own.window or _OF_A_STEP.window or 1
    if own.least is not None and own.least > window:
        raise ValueError(f"{name}: least: {own.least} samples never lie in window: {window} steps, one in each")


class HealthSpec(Spec):
    """Figures of every step that tell a run that goes wrong, and limits on them.

    ``limits`` by a figure's name (``entropy``: every role's) or name and whom (``entropy/solver``); ``null``: none.
    ``step/METRIC`` is a limit on any other metric of the steps, ``step/curriculum/entropy`` say.
    What is not named keeps its own limit. ``on_alarm``: an alarm that begins is told (``warn``), or ends the run in a
    whole step too (``stop``). Every ``audit_every`` steps (0: never) the verifier is tried with cheap answers on the
    step's own tasks. ``enabled: false`` takes no figures at all.
    """

    enabled: Flag = True
    limits: dict[str, LimitSpec | None] = Field(default_factory=dict)
    on_alarm: Literal["warn", "stop"] = "warn"
    audit_every: Whole = Field(default=20, ge=0)

    @field_validator("limits")
    @classmethod
    def _known(cls, value: dict[str, LimitSpec | None]) -> dict[str, LimitSpec | None]:
        for name, limit in value.items():
            if name.partition("/")[0] not in FIGURES and not (name.startswith(STEP) and name != STEP):
                raise ValueError(unknown("figure", name, FIGURES))
            if (metric := name.removeprefix(STEP)) != name and metric.startswith(_OWN):
                raise ValueError(f"{name} is a figure of its own: write {metric.partition('/')[2]}")
            if limit is not None and metric != name:
                _reached(name, limit)
        return value

    def limit(self, name: str) -> LimitSpec | None:
        """The limit on a figure by its whole name (``entropy/solver``), the most special one that is given."""
        if name.startswith(STEP):
            own = self.limits.get(name)
            return None if own is None else own.over(_of_a_step(own))
        found = LIMITS.get(name.partition("/")[0])
        for given in dict.fromkeys((name.partition("/")[0], name)):
            if given in self.limits:
                own = self.limits[given]
                found = None if own is None else own.over(found or _DEFAULT)
        return found
