"""What ``rescore`` is asked to do, checked before anything is begun: which turns of which run, scored by what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sparring.scenarios.errors import RunNotFound, ScenarioError

from .options import typed
from .reading import scenario_of
from .running import sandbox

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario
    from sparring.storage.rescores import Asked, Kind, Rescore
    from sparring.storage.store import Store
    from sparring.training.rescoring import Scorer


@dataclass(frozen=True)
class Plan:
    """A scoring to do: by what, of which turns; ``one`` when it has begun already."""

    store: Store
    run: str
    kind: Kind
    name: str
    options: dict[str, Any]
    scenario: Scenario
    asked: Asked
    one: Rescore | None

    def begun(self) -> Rescore:
        """The scoring as it stands now, begun where it was not."""
        from sparring.storage.rescores import begin, rescore

        if self.one is None:
            return begin(self.store, self.run, self.kind, self.name, self.options, self.asked)
        return rescore(self.store, self.run, self.one.number)

    def with_room(self, workers: int) -> Plan:
        """The plan for so many answers side by side."""
        from sparring.training.rescoring import roomy

        return replace(self, scenario=roomy(self.scenario, workers)) if self.kind == "verifier" else self

    def scorer(self, workers: int, unsafe: bool) -> Scorer:
        """What scores, with everything it needs at hand: a judge that is not there is told now."""
        from sparring.storage.answers import steps_after
        from sparring.training.rescoring import scorer_of

        scheduled = self.scenario.scheduled
        figures = {step.step: step.metrics for step in steps_after(self.store, self.run, -1)} if scheduled else {}
        return scorer_of(self.kind, self.options, self.scenario, figures, workers, unsafe)

    def guarded(self, unsafe: bool) -> AbstractContextManager[Any]:
        """The sandbox of an environment that runs programs."""
        return sandbox(self.scenario, unsafe) if self.kind == "verifier" else nullcontext()


@dataclass(frozen=True)
class Wanted:
    """Which turns of a run, and the stored score they are compared by."""

    store: Store
    run: str
    roles: tuple[str, ...]
    steps: tuple[int | None, int | None]
    against: str | None

    def verifier(self, scenario: Scenario) -> dict[str, Any]:
        """The options of a scoring by the environment. ``RunNotFound`` where it cannot judge this run's answers."""
        from sparring.storage.rescores import authors
        from sparring.training.rescoring import verifier_options

        if self.store.run(self.run).info.get("recorded"):
            raise RunNotFound(
                f"{self.run} was recorded by sparring serve: a client's own code stood for the environment, and is not "
                f"stored; measure its answers by criteria: {self._instead()}"
            )
        if not authors(self.store, self.run)[1]:
            raise RunNotFound(
                f"{self.run} holds no verifier score: environment {scenario.environment.kind!r} judged no answer of "
                f"it; measure them by criteria: {self._instead()}"
            )
        return self._with(verifier_options(scenario), ["verifier"])

    def rubric(self, scenario: Scenario, file: Path, judge: str | None) -> dict[str, Any]:
        """The options of a scoring by the rubric in a file. ``ScenarioError`` where it is none."""
        from sparring.storage.rescores import authors
        from sparring.training.rescoring import rubric_options

        options = rubric_options(scenario, file, judge)
        spoke, judged = authors(self.store, self.run)
        if not self.roles and not judged:
            raise ScenarioError(
                f"{self.run} holds no verifier score that would tell whose turns are answers; name them with --role; "
                f"the roles are {', '.join(spoke) or 'none'}"
            )
        return self._with(options, ["rubric", "advice", "verifier"])

    def asked(self, kind: Kind) -> Asked:
        """The turns: those the environment judged, or all of the roles that are named."""
        from sparring.storage.rescores import Asked

        return Asked(self.roles, *self.steps, judged=kind == "verifier" or not self.roles)

    def _with(self, options: dict[str, Any], usual: Sequence[str]) -> dict[str, Any]:
        from sparring.scenarios.problems import unknown
        from sparring.storage.rescores import authors, score_names

        spoke, names = authors(self.store, self.run)[0], score_names(self.store, self.run)
        for role in self.roles:
            if role not in spoke:
                raise ScenarioError(f"--role {role}: {unknown('role', role, spoke)}")
        if self.against is not None and self.against not in names:
            raise ScenarioError(f"--against {self.against}: {unknown('score', self.against, names)}")
        against = self.against or next((name for name in usual if name in names), usual[-1])
        return {**options, "against": against, "roles": sorted(self.roles), "steps": list(self.steps)}

    def _instead(self) -> str:
        return typed(self.store, f"rescore {self.run} --rubric FILE --role ROLE")


def range_of(steps: str | None) -> tuple[int | None, int | None]:
    """``10:20``, ``10:``, ``:20`` or ``12`` as first and last step."""
    found = re.fullmatch(r"(\d{1,9})|(\d{0,9}):(\d{0,9})", steps or ":")
    if found is None:
        raise typer.BadParameter(f"--steps {steps}: write FIRST:LAST, as in 10:20, 10: or :20, or one step")
    one, first, last = found.groups()
    low, high = (one, one) if one else (first, last)
    return (int(low) if low else None, int(high) if high else None)


def _scenario(store: Store, run: str, overrides: Sequence[str], judge: str | None) -> Scenario:
    """The run's scenario; ``judge`` is ``None`` where the verifier scores. Refuses overrides that have no say."""
    from sparring.scenarios.load import from_resolved

    say = "environment" if judge is None else f"roles.{judge}"
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key != say and not key.startswith(f"{say}."):
            what = "the verifier" if judge is None else "the judge"
            raise ScenarioError(f"-s {override}: only {say}... has a say in what {what} finds; take it out")
    return from_resolved(scenario_of(store, run), overrides=overrides)


def joined(store: Store, run: str, join: int, overrides: Sequence[str], again: bool) -> Plan:
    """Scoring ``join`` of a run, by what it was begun with. ``ScenarioError`` where that is not what is here."""
    from sparring.scenarios.load import from_resolved
    from sparring.storage.rescores import Asked, rescore
    from sparring.training.rescoring import same_code

    if overrides:
        raise ScenarioError(f"-s {overrides[0]}: scoring {join} has its options already; begin another without --join")
    one = rescore(store, run, join)
    resolved = scenario_of(store, run)
    scenario = from_resolved({**resolved, "environment": one.options.get("environment", resolved["environment"])})
    if one.waiting or again:
        same_code(one, scenario)
    return Plan(store, run, one.kind, one.name, dict(one.options), scenario, Asked(), one)


def planned(
    wanted: Wanted, file: Path | None, judge: str | None, overrides: Sequence[str], taken_up: str | None
) -> Plan:
    """A scoring by the verifier, or by the rubric in ``file``: a new one, or the newest by the same means.

    ``taken_up``: "unfinished" goes on with one that has turns waiting, a validity with any, ``None`` with none.
    """
    from sparring.storage.rescores import rescores, same_means

    store, run = wanted.store, wanted.run
    scenario = _scenario(store, run, overrides, None if file is None else judge or "")
    options = wanted.verifier(scenario) if file is None else wanted.rubric(scenario, file, judge)
    kind: Kind = "verifier" if file is None else "rubric"
    name = str(options["environment"]["kind"]) if file is None else file.name
    named = [one for one in rescores(store, run)[::-1] if (one.kind, one.name) == (kind, name)]
    alike = [one for one in named if same_means(one, options) and (one.waiting or taken_up != "unfinished")]
    if taken_up not in (None, "unfinished") and not alike:
        raise RunNotFound(
            f"{run} has no scoring by these means to take {taken_up} turns of; '{typed(store, f'rescore {run}')}' "
            "lists its scorings, and --join N names one"
        )
    one = alike[0] if alike and taken_up is not None else None
    return Plan(store, run, kind, name, options, scenario, wanted.asked(kind), one)
