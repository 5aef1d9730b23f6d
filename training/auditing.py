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

from sparring.envs.audit import AuditReport, Draw, Result, audit
from sparring.envs.base import Environment
from sparring.envs.guard import Hung, bounded
from sparring.envs.types import Task
from sparring.scenarios.errors import ContractBroken
from sparring.scenarios.schema import Scenario

from .curriculum import arms

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

    Raises ``ContractBroken`` when the environment does not come back.
    """
    draw = _draw(scenario, environment, source)
    kind = scenario.environment.kind
    try:
        return bounded(
            lambda: audit(environment, draw, tasks=scenario.audit.tasks, seed=scenario.seed, limit_s=LIMIT_S),
            HANGS_S,
            f"the audit of environment {kind!r}",
        )
    except Hung as error:
        raise ContractBroken(
            f"{error}: its reset or step waits for something; sparring check environment:{kind}"
        ) from None


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


def _draw(scenario: Scenario, environment: Environment, source: Source | None) -> Draw:
    cells: list[Mapping[str, Any]] = list(arms(scenario.curriculum.options.get("arms", {})).values())

    def draw(rng: Generator, index: int) -> Task:
        parameters = dict(cells[index % len(cells)])
        return environment.sample(parameters, rng) if source is None else source(parameters, rng)

    return draw
