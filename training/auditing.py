"""Before a run begins: does a cheap answer fool its verifier? Then training would teach that answer, and is refused.

The audit itself is in ``envs/audit.py``; here are the run's own tasks, its limit, and what a person is told.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from numpy.random import Generator

from sparring.envs.audit import AuditReport, Result, audit
from sparring.envs.base import Environment
from sparring.envs.guard import Hung, bounded
from sparring.envs.types import Task
from sparring.scenarios.errors import ContractBroken, ScenarioError
from sparring.scenarios.schema import Scenario

from .curriculum.grid import spread

LIMIT_S = 20.0  # a run does not wait longer for it; the likeliest ways come first
HANGS_S = 300.0  # an episode that is not over by then waits for something that never comes

Source = Callable[[dict[str, Any], Generator], Task]


def audited(
    scenario: Scenario, environment: Environment, source: Source | None = None, *, trust: bool = False
) -> dict[str, Any]:
    """The audit as plain data, to keep with the run; ``source`` gives the run's tasks when no role proposes them.

    Raises ``ContractBroken`` when a cheap answer surely earns more than ``audit.most``, unless ``trust``. Draws from a
    generator of its own, and leaves ``environment`` in an episode: reset it before use.
    """
    report = audit_scenario(scenario, environment, source)
    best = report.best
    if best is not None and best.least > scenario.audit.most and not trust:
        raise ContractBroken(refusal(scenario, environment, best))
    return {**report.to_json(), "most": scenario.audit.most, "trusted": trust}


def audit_scenario(scenario: Scenario, environment: Environment, source: Source | None = None) -> AuditReport:
    """Every cheap way of answering on ``audit.tasks`` tasks, spread over the curriculum's arms.

    Raises ``ContractBroken`` when the environment does not come back, ``ScenarioError`` when ``source`` has no task.
    """
    draw = _Draw(scenario, source or environment.sample)
    kind = scenario.environment.kind
    try:
        report = bounded(
            lambda: audit(environment, draw, tasks=scenario.audit.tasks, seed=scenario.seed, limit_s=LIMIT_S),
            HANGS_S,
            f"the audit of environment {kind!r}",
        )
    except Hung as error:
        way = f"sparring check environment:{kind}"
        raise ContractBroken(f"{error}: its reset or step waits for something; {way} says at which point") from None
    if source is not None and draw.failure is not None and not draw.given:
        raise ScenarioError(no_task(scenario, environment, draw.failure)) from draw.failure
    return report


def no_task(scenario: Scenario, environment: Environment, failure: Exception) -> str:
    """What the source said, and which parameters the curriculum leaves out."""
    cell = dict(_arms(scenario)[0])
    left = [name for name in environment.parameters if name not in cell]
    values = ", ".join(f"{name}: [{json.dumps(environment.parameters[name][0], default=str)}]" for name in left)
    hint = (
        f"; the curriculum gives it no {', '.join(left)}: curriculum: {{kind: random, arms: {{{values}}}}}"
        if left and scenario.tasks is None  # a source of tasks has parameters of its own
        else ""
    )
    said = f"{type(failure).__name__}: {failure}"
    return (
        f"environment {scenario.environment.kind!r}: no task can be drawn with {cell or 'no parameters'}: {said}{hint}"
    )


def refusal(scenario: Scenario, environment: Environment, best: Result) -> str:
    """What was found, why it matters, and every way on."""
    kind = scenario.environment.kind
    chosen = environment.config.model_dump(mode="json", exclude_defaults=True)
    options = "".join(f" -s {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in chosen.items())
    enough = math.ceil(best.mean * 20) / 20
    return (
        f"the verifier of environment {kind!r} is fooled: {best.name}{best.where} earns {best.mean:.3f} on the average "
        f"of {best.tasks} tasks, and audit.most is {scenario.audit.most:g}; training would teach that answer\n"
        f"  see what else was tried: sparring check environment:{kind}{options}\n"
        f"  where few answers are possible this is their nature (yes or no: 0.5): -s audit.most={enough:g}\n"
        f"  train all the same: --trust-verifier"
    )


def _arms(scenario: Scenario) -> list[Mapping[str, Any]]:
    return list(spread(scenario.curriculum.options).values())


class _Draw:
    """Tasks for the audit, an arm after the other; ``given`` of them, ``failure`` is the last error."""

    def __init__(self, scenario: Scenario, source: Source) -> None:
        self.cells, self.source = _arms(scenario), source
        self.given = 0
        self.failure: Exception | None = None

    def __call__(self, rng: Generator, index: int) -> Task:
        try:
            task = self.source(dict(self.cells[index % len(self.cells)]), rng)
        except Exception as error:  # kept for the message; the audit goes on to the next arm
            self.failure = error
            raise
        self.given += 1
        return task
