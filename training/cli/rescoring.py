"""``rescore``: what would a run's stored answers earn from another verifier, or by another rubric?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sparring.scenarios.errors import RunNotFound, ScenarioError

from .options import AsJson, Db, Overrides, place, reading, typed
from .output import console, number, one_line, print_json, table
from .reading import scenario_of
from .running import Unsafe, sandbox
from .stopping import Stop, write

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sparring.scenarios.schema import Scenario
    from sparring.storage.rescore_figures import Compared
    from sparring.storage.rescores import Asked, Rescore
    from sparring.storage.store import Store

ASKED = "stopping after the turns at hand, so that nothing is lost; once more stops at once"
Again = Literal["invalid", "missing"]


def rescore(
    run: Annotated[str, typer.Argument(help="A run's id such as r1, or latest. Alone: lists its scorings.")],
    verifier: Annotated[
        bool, typer.Option("--verifier", help="The scenario's environment judges the stored answers again.")
    ] = False,
    rubric: Annotated[
        Path | None, typer.Option("--rubric", metavar="FILE", help="Criteria from a file measure the stored answers.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="ROLE|URL#MODEL", help="Who answers criteria that no rule reads.")
    ] = None,
    overrides: Overrides = None,
    role: Annotated[list[str] | None, typer.Option(help="Only turns of this role; repeatable.")] = None,
    steps: Annotated[str | None, typer.Option(metavar="FIRST:LAST", help="Only these steps, both included.")] = None,
    against: Annotated[str | None, typer.Option(metavar="SCORE", help="The stored score to compare with.")] = None,
    join: Annotated[int | None, typer.Option(metavar="N", help="Take part in scoring N, or show it.", min=1)] = None,
    again: Annotated[Again | None, typer.Option(help="Score turns that ended so once more.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin anew although the same one is unfinished.")] = False,
    workers: Annotated[int, typer.Option(help="Answers judged side by side.", min=1, max=256)] = 2,
    limit: Annotated[int, typer.Option(help="Most changed episodes shown.", min=0)] = 5,
    unsafe: Unsafe = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Score a run's stored answers once more, by another verifier or rubric, and compare. Changes nothing stored."""
    if sum((verifier, rubric is not None, join is not None)) > 1:
        raise typer.BadParameter("--verifier, --rubric and --join exclude each other")
    with closing(reading(db)) as store:
        name = place(store, run).run
        if not verifier and rubric is None and join is None:
            _list(store, name, as_json)
            return
        wanted = _Wanted(store, name, tuple(role or ()), _range(steps), against)
        if join is not None:
            one, scenario = _joined(store, name, join, overrides or [], again is not None)
        else:
            scenario = _scenario(store, name, overrides or [], None if verifier else judge or "")
            options = wanted.verifier(scenario) if rubric is None else wanted.rubric(scenario, rubric, judge)
            one = _chosen(wanted, rubric, options, None if new else again or "unfinished")
        if again is not None:
            _take_up(store, one, again)
        code = _work(store, one, scenario, workers, unsafe, as_json)
        _print(store, one, limit, as_json)
    if code:
        raise typer.Exit(code)


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("rescore")(rescore)


@dataclass(frozen=True)
class _Wanted:
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

    def asked(self, kind: str) -> Asked:
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


def _range(steps: str | None) -> tuple[int | None, int | None]:
    """``10:20``, ``10:``, ``:20`` or ``12`` as first and last step."""
    found = re.fullmatch(r"(\d{1,9})|(\d{0,9}):(\d{0,9})", steps or ":")
    if found is None:
        raise typer.BadParameter(f"--steps {steps}: write FIRST:LAST, as in 10:20, 10: or :20, or one step")
    one, first, last = found.groups()
    low, high = (one, one) if one else (first, last)
    return (int(low) if low else None, int(high) if high else None)


def _scenario(store: Store, run: str, overrides: list[str], judge: str | None) -> Scenario:
    """The run's scenario; ``judge`` is ``None`` where the verifier scores. Refuses overrides that have no say."""
    from sparring.scenarios.load import from_resolved

    say = "environment" if judge is None else f"roles.{judge}"
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key != say and not key.startswith(f"{say}."):
            what = "the verifier" if judge is None else "the judge"
            raise ScenarioError(f"-s {override}: only {say}... has a say in what {what} finds; take it out")
    return from_resolved(scenario_of(store, run), overrides=overrides)


def _joined(store: Store, run: str, join: int, overrides: list[str], again: bool) -> tuple[Rescore, Scenario]:
    """Scoring ``join`` of a run, and the run's scenario as it was scored with."""
    from sparring.scenarios.load import from_resolved
    from sparring.storage import rescores
    from sparring.training.rescoring import same_code

    if overrides:
        raise ScenarioError(f"-s {overrides[0]}: scoring {join} has its options already; begin another without --join")
    one = rescores.rescore(store, run, join)
    resolved = scenario_of(store, run)
    environment = one.options.get("environment", resolved["environment"])
    scenario = from_resolved({**resolved, "environment": environment})
    if one.waiting or again:
        same_code(one, scenario)
    return one, scenario


def _chosen(wanted: _Wanted, file: Path | None, options: dict[str, Any], taken_up: str | None) -> Rescore:
    """The newest scoring by the same means that is unfinished (or, to score turns again, any), else a new one."""
    from sparring.storage import rescores

    store, run = wanted.store, wanted.run
    kind: rescores.Kind = "verifier" if file is None else "rubric"
    name = str(options["environment"]["kind"]) if file is None else file.name
    if taken_up is not None:
        named = [one for one in rescores.rescores(store, run)[::-1] if (one.kind, one.name) == (kind, name)]
        alike = [one for one in named if rescores.same_means(one, options)]
        if taken_up == "unfinished":
            alike = [one for one in alike if one.waiting]
        if alike:
            return alike[0]
        if taken_up != "unfinished":
            raise RunNotFound(
                f"{run} has no scoring by these means to take {taken_up} turns of; "
                f"'{typed(store, f'rescore {run}')}' lists its scorings, and --join N names one"
            )
    return rescores.begin(store, run, kind, name, options, wanted.asked(kind))


def _take_up(store: Store, one: Rescore, again: Again) -> None:
    from sparring.envs.types import Validity
    from sparring.storage.rescores import take_up

    n = take_up(store, one, Validity(again))
    typer.echo(f"{n} turns that ended {again} are scored again", err=True)


def _work(store: Store, one: Rescore, scenario: Scenario, workers: int, unsafe: bool, quiet: bool) -> int:
    """Score what waits; the exit code of a stop that was asked for, else 0."""
    from sparring.storage.answers import steps_after
    from sparring.storage.rescores import rescore

    one = rescore(store, one.run, one.number)
    if not one.waiting:
        return 0
    if one.waiting < one.turns:
        typer.echo(f"scoring {one.number} of {one.run} goes on: {one.waiting} of {one.turns} turns wait", err=True)
    from sparring.training.rescoring import scorer_of, work

    figures = {step.step: step.metrics for step in steps_after(store, one.run, -1)} if scenario.scheduled else {}
    guarded = sandbox(scenario, unsafe) if one.kind == "verifier" else nullcontext()
    with (
        guarded,
        closing(scorer_of(one, scenario, figures, workers, unsafe)) as scorer,
        _progress(one, quiet) as tell,
        Stop(lambda _: write(ASKED)) as stop,
    ):
        done = work(store, one, scorer, stop.asked, tell)
    if done.lost:
        typer.echo(f"{done.lost} turns were scored by another process first; its scores count", err=True)
    return stop.exit_code if stop.asked() else 0


@contextmanager
def _progress(one: Rescore, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A line on a terminal that tells how far this process and the others are."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=quiet or not screen.is_terminal) as shown:
        bar = shown.add_task("scoring", total=one.turns, completed=one.turns - one.waiting)

        def tell(done: int, held: int) -> None:
            shown.update(bar, advance=done, description=f"waiting for {held} of others" if held else "scoring")

        yield tell


def _list(store: Store, run: str, as_json: bool) -> None:
    from sparring.storage.rescores import rescores

    found = rescores(store, run)
    if as_json:
        print_json(found)
        return
    if not found:
        begin = typed(store, f"rescore {run} --verifier")
        typer.echo(f"the answers of {run} were not scored once more yet; '{begin}' does, or --rubric FILE")
        return
    counts = ("turns", "waiting", "valued", "invalid", "missing")
    shown = table("scoring", "by", "name", "begun", *counts, right=("scoring", *counts))
    for one in found:
        numbers = (str(getattr(one, count)) for count in counts)
        shown.add_row(str(one.number), one.kind, one_line(one.name), one.made_at[:16].replace("T", " "), *numbers)
    console().print(shown)


def _print(store: Store, one: Rescore, limit: int, as_json: bool) -> None:
    from sparring.storage.rescore_figures import compared
    from sparring.storage.rescores import rescore

    found = compared(store, rescore(store, one.run, one.number), limit)
    if as_json:
        print_json(found)
        return
    screen = console()
    title = f"{one.run} scoring {one.number}: {one.kind} {one.name}, beside the stored {found.against} score"
    screen.print(title, style="bold", markup=False)
    for part in _parts(store, found):
        screen.print(part, markup=False)


def _parts(store: Store, found: Compared) -> Iterator[RenderableType]:
    yield _figures(found)
    if found.most_changed:
        yield ""
        yield _episodes(found)
        yield f"look at one with: {typed(store, f'show {found.most_changed[0].episode}')}"
    for note, n in found.invalid:
        yield f"{n} could not be judged: {one_line(note, 120)}"
    one = found.rescore
    if one.invalid:
        yield f"try these again with: {typed(store, f'rescore {one.run} --join {one.number} --again invalid')}"
    for left in one.left_out:
        yield f"left out: {left['turns']} turns of {left['role']}: {left['why']}"
    if one.waiting:
        yield f"{one.waiting} turns wait; go on with: {typed(store, f'rescore {one.run} --join {one.number}')}"


def _figures(found: Compared) -> RenderableType:
    counts = ("turns", "stored", "now", "agree", "to right", "to wrong", "invalid", "missing")
    shown = table("role", *counts, right=counts)
    for row in (*found.roles, *([found.total] if len(found.roles) > 1 else [])):
        agree = "-" if row.agreement is None else f"{row.agreement:.1%}"
        new = row.mean if row.new is None else row.new  # nothing stored to compare with: the mean of all
        flips = (str(row.to_right), str(row.to_wrong), str(row.invalid), str(row.missing))
        shown.add_row(row.role or "all", str(row.turns), number(row.stored), number(new), agree, *flips)
    return shown


def _episodes(found: Compared) -> RenderableType:
    counts = ("turns", "stored", "now", "to right", "to wrong")
    shown = table("most changed", *counts, right=counts)
    for row in found.most_changed:
        flips = (str(row.to_right), str(row.to_wrong))
        shown.add_row(row.episode, str(row.compared), number(row.stored), number(row.new), *flips)
    return shown
