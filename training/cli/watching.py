"""``watch`` and ``tail``: a run that another process writes, followed from its committed steps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparring.scenarios.errors import SparringError

from .live import Progress, Screen, line, picture
from .options import AsJson, Db, place, reading, typed
from .output import colour, console, number, one_line, plain, spoken
from .reading import scenario_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from sparring.envs.types import Episode, Turn
    from sparring.scenarios.schema import Scenario
    from sparring.storage.alarms import AlarmSpan
    from sparring.storage.answers import KeptEpisode, WholeStep
    from sparring.storage.store import Store
    from sparring.training.course import Told

Run = Annotated[str, typer.Argument(help="A run: r1; without it the newest.")]
Every = Annotated[float, typer.Option(help="Seconds between two looks at the database.", min=0.05)]
WENT_ON = "the run goes on; only watching has ended"


def watch(run: Run = "latest", every: Every = 1.0, as_json: AsJson = False, db: Db = None) -> None:
    """Show a run's figures while another process writes it, until it ends; Ctrl-C ends the watching alone."""
    from sparring.scenarios.load import from_resolved

    with closing(reading(db)) as store:
        name = place(store, run).run
        scenario = from_resolved(scenario_of(store, name), checked=False)
        followed = _followed(store, name, every)
        if as_json:
            for steps in followed:
                for step in steps:
                    typer.echo(json.dumps({"run": name, **plain(step)}))
            return
        try:
            _show(scenario, store, name, followed)
        except KeyboardInterrupt:
            typer.echo(WENT_ON, err=True)
            return
        typer.echo(_ended(store, name))


def tail(
    run: Run = "latest",
    last: Annotated[int, typer.Option("--last", help="Episodes shown of each step, the first of them.", min=1)] = 3,
    role: Annotated[str | None, typer.Option(help="Only what this role says.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Every word, not a line of each turn.")] = False,
    follow: Annotated[bool, typer.Option(help="Wait for what comes; without it, the newest step alone.")] = True,
    every: Every = 1.0,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Show what is said in a run, from its newest step on, as steps are committed; Ctrl-C ends the reading alone."""
    with closing(reading(db)) as store:
        name = place(store, run).run
        screen = console()
        try:
            for step in _new_steps(store, name, every, follow):
                for part in _words(store, name, step, last, role, whole, as_json, screen.width):
                    if isinstance(part, str):
                        typer.echo(part)
                    else:
                        screen.print(part)
        except KeyboardInterrupt:
            typer.echo(WENT_ON, err=True)
            return
        if not as_json:
            typer.echo(_ended(store, name), err=True)


def add_to(app: typer.Typer) -> None:
    """Put these commands on ``app``."""
    app.command("watch")(watch)
    app.command("tail")(tail)


# -- following ---------------------------------------------------------------------------------------------------------


def _followed(store: Store, run: str, every: float, told: int = -1) -> Iterator[list[WholeStep]]:
    """New steps beyond ``told`` at each look, until the run has ended and all of them are told.

    A run that was resumed goes back to its newest checkpoint; its steps after that are told again.
    """
    from sparring.storage.answers import steps_after

    while True:
        row = store.run(run)  # before the steps: what is committed between the two looks is told at the next
        told = min(told, -1 if row.last_step is None else row.last_step)
        found = steps_after(store, run, told)
        if found:
            told = found[-1].step
        yield found
        if row.status != "running":
            return
        time.sleep(every)


def _new_steps(store: Store, run: str, every: float, follow: bool) -> Iterator[int]:
    """The number of the newest step, then those that come after it."""
    last = store.run(run).last_step
    if not follow:
        if last is not None:
            yield last
        return
    for steps in _followed(store, run, every, (last or 0) - 1):
        yield from (step.step for step in steps)


def _ended(store: Store, run: str) -> str:
    row = store.run(run)
    done = "no whole step" if row.last_step is None else f"step {row.last_step}"
    told = f"{run} is {row.status} after {done}"
    if row.status == "running":
        return f"{told}; follow it with {typed(store, f'watch {run}')}"
    if row.status in ("stopped", "killed", "failed"):
        return f"{told}; go on with {typed(store, f'resume {run}')}"
    return told


# -- watch -------------------------------------------------------------------------------------------------------------


def _show(scenario: Scenario, store: Store, run: str, followed: Iterator[list[WholeStep]]) -> None:
    """The live view of ``sparring run`` on a terminal, a line per step anywhere else."""
    progress = Progress(scenario, f"{scenario.name} {run}", f"database {store.name}", note="Ctrl-C ends the watching")
    screen = console()
    if not screen.is_terminal:
        for told in _told(scenario, store, run, followed):
            _add(progress, told)
            for one in (line(progress), *told.news):
                typer.echo(one)
        return
    from rich.live import Live

    with Live(get_renderable=lambda: picture(progress), console=screen, refresh_per_second=2) as live:
        shown = Screen(progress, live)
        for told in _told(scenario, store, run, followed):
            _add(shown.progress, told)
            shown.alert(told)


def _add(progress: Progress, told: Told) -> None:
    """Take in a step; one that is told again, after a resume, replaces what was told from there on."""
    if progress.told and told.step <= progress.told[-1].step:
        progress.told = [one for one in progress.told if one.step < told.step]
        progress.measured = [row for one in progress.told for row in one.evaluations]
    progress.add(told)


def _told(scenario: Scenario, store: Store, run: str, followed: Iterator[list[WholeStep]]) -> Iterator[Told]:
    from sparring.storage.alarms import alarms
    from sparring.training.course import Told

    for steps in followed:
        spans = alarms(store, run) if steps else []
        for step in steps:
            arms = _arms(scenario, step.curriculum_state)
            in_all, news = scenario.training.steps, tuple(_news(spans, step.step))
            yield Told(step.step, in_all, dict(step.metrics), arms, step.evaluations, step.seconds, news)


def _news(spans: list[AlarmSpan], step: int) -> Iterator[str]:
    """A line for each alarm that began or ended in this step."""
    for span in spans:
        if span.began == step:
            yield f"ALARM {span.name}: {span.note}"
        if span.ended == step:
            yield f"alarm over: {span.name}"


def _arms(scenario: Scenario, state: Any) -> dict[str, float]:
    """What the curriculum practised after a step; nothing where its part is not to be had here."""
    from sparring.scenarios.registry import curricula, make

    try:
        curriculum = make(curricula, scenario.curriculum)
        if state:
            curriculum.load_state_dict(state)
        return dict(curriculum.weights())
    except (SparringError, LookupError):  # a part of a file of the run's own, or one that has changed since
        return {}


# -- tail --------------------------------------------------------------------------------------------------------------


def _words(
    store: Store, run: str, step: int, last: int, role: str | None, whole: bool, as_json: bool, width: int
) -> Iterator[RenderableType | str]:
    from rich.text import Text

    from sparring.storage.answers import kept_episodes, number_of_episodes

    count = number_of_episodes(store, run, step)
    for index in range(min(last, count)):
        ((kept,),) = kept_episodes(store, run, step, index)
        turns = [turn for turn in kept.episode.turns if role is None or turn.author == role]
        if as_json:
            yield from (_row(kept, turn) for turn in turns)
            continue
        yield _title(kept)
        for turn in turns:
            yield from _turn(kept.episode, turn, whole, width)
    if count > last and not as_json:
        yield Text(f"{run}/{step} has {count - last} more: {typed(store, f'show {run}/{step}')}", style="dim")


def _row(kept: KeptEpisode, turn: Turn) -> str:
    scores = {score.name: plain(score.value) for score in kept.episode.scores.get(turn.index, ())}
    told = {"episode": kept.name, "turn": turn.index, "author": turn.author, "node": turn.node, "said": turn.said}
    return json.dumps({**told, "scores": scores})


def _title(kept: KeptEpisode) -> Text:
    from rich.text import Text

    given = ", ".join(f"{key}={value}" for key, value in kept.episode.parameters.items())
    facts = filter(None, [given, str(kept.episode.ending), f"reward {number(kept.reward)}"])
    return Text(kept.name, style="bold").append("  " + ", ".join(facts), style="not bold")


def _turn(episode: Episode, turn: Turn, whole: bool, width: int) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    earned = "".join(f"  {score.name} {number(score.value)}" for score in episode.scores.get(turn.index, ()))
    line = Text(f"  #{turn.index} ", style="dim").append(turn.author, style=f"not dim {colour(turn.author)}")
    if whole:
        yield line.append(earned, style="default")
        yield Padding(spoken(turn.said) if turn.said else Text("(says nothing)", style="dim"), (0, 0, 0, 4))
        return
    room = max(12, width - len(line.plain) - len(earned) - 1)
    yield line.append(f" {one_line(turn.said, room)}", style="not dim default").append(earned, style="dim")
