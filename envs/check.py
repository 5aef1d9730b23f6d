"""The environment contract as a test: every point is looked at, what breaks is listed, nothing is raised on the way.

The points themselves, Gymnasium's own checker among them, are in ``points.py``, the verifier audit in ``audit.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sparring.scenarios.errors import ContractBroken

from .audit import AuditReport
from .base import Environment
from .guard import Hung, bounded
from .points import POINTS, Factory, Finding, Look, play

__all__ = ["CheckReport", "Factory", "Finding", "check_environment", "inspect_environment", "play"]

PATIENCE_S = 300.0  # for one point; a step that waits for something that never comes ends here


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was checked, in order; ``audit`` is ``None`` when the environment was too broken to get there."""

    environment: str
    findings: tuple[Finding, ...]
    audit: AuditReport | None = None

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Points not kept."""
        return tuple(finding for finding in self.findings if finding.kept is False)


def check_environment(
    environment: Environment | type[Environment] | Factory, *, tasks: int = 8, seed: int = 0, most: float = 0.25
) -> CheckReport:
    """Check the whole contract; raises ``ContractBroken`` that lists every point broken, else returns the report."""
    report = inspect_environment(environment, tasks=tasks, seed=seed, most=most)
    if report.broken:
        lines = "\n".join(f"  {finding.name}: {finding.detail}" for finding in report.broken)
        raise ContractBroken(f"environment {report.environment} breaks its contract:\n{lines}")
    return report


def inspect_environment(
    environment: Environment | type[Environment] | Factory,
    *,
    tasks: int = 8,
    seed: int = 0,
    most: float = 0.25,
    patience_s: float = PATIENCE_S,
) -> CheckReport:
    """Like ``check_environment``, without raising: an error in the environment is a finding too.

    ``tasks`` are played by the verifier audit, ``most`` is what a cheap answer may earn on the average. A point that
    takes longer than ``patience_s`` is broken, and those after it are not looked at.
    """
    look = Look(_factory(environment), tasks, seed, most)
    found: list[Finding] = []
    stuck = ""
    for name, point in POINTS.items():
        if stuck:
            found.append(Finding(name, None, f"not looked at: {stuck!r} did not come to an end"))
            continue
        try:
            one = bounded(partial(point, look), patience_s, f"check of {name!r}")
        except Hung:
            stuck = name
            one = Finding("", False, f"no end after {patience_s:g} s; does reset or step wait for something?")
        except Exception as error:  # the environment is a plug-in: whatever it raises is the finding
            one = Finding("", False, f"{type(error).__name__}: {error}")
        found.append(Finding(name, one.kept, one.detail))
    return CheckReport(_name(look), tuple(found), look.__dict__.get("audit"))


def _factory(environment: Environment | type[Environment] | Factory) -> Factory:
    if isinstance(environment, Environment):
        kind, config = type(environment), environment.config
        return lambda: kind(config)
    return environment


def _name(look: Look) -> str:
    if isinstance(look.factory, type):
        return look.factory.__name__
    with look.opened() as sample:
        return type(sample).__name__
