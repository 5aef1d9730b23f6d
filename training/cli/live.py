"""What a person sees while a run learns: a live view on a terminal, one plain line per step anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import typer

from .output import colour, console, duration, number, sparkline
from .reading import curve
from .stopping import write

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from sparring.scenarios.schema import Scenario
    from sparring.storage.records import EvaluationRow
    from sparring.training.course import Told

BAR = 28  # columns of the longest bar
KEPT = 200  # newest steps that are remembered: a run of a million must not fill the memory
SHARES = (("first/right", "first attempts right"), ("accepted", "proposals accepted"))


@dataclass
class Progress:
    """What was told of the newest steps, and what follows from it. ``measured`` begins with what the run's earlier
    parts measured."""

    scenario: Scenario
    title: str
    database: str
    measured: list[EvaluationRow] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    note: str = "Ctrl-C stops after this step"

    def add(self, told: Told) -> None:
        """Take in a whole step."""
        self.told.append(told)
        del self.told[:-KEPT]
        self.measured.extend(told.evaluations)
        self.began = time.monotonic()

    def history(self, figure: str) -> list[float | None]:
        """One figure over the steps told; the step that only measures has none."""
        return [told.figures.get(figure) for told in self.told if told.figures]

    def latest(self, figure: str) -> float | None:
        """The newest value of a figure, of the newest step."""
        return self.told[-1].figures.get(figure) if self.told else None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens sampled per second of the newest step, training and saving included."""
        tokens = self.latest("tokens")
        return tokens / max(self.told[-1].seconds, 1e-9) if tokens is not None else None

    @property
    def left(self) -> float | None:
        """Seconds to the last step at the pace so far; ``None`` before there is a pace."""
        paces = [told.seconds for told in self.told if told.figures]
        if not paces:
            return None
        return sum(paces) / len(paces) * (self.told[-1].steps - self.told[-1].step)

    def rewards(self) -> Iterator[tuple[str, str, float | None]]:
        """Role, reward and its mean of the newest step, in the order of the scenario."""
        for role, spec in self.scenario.roles.items():
            for name in spec.reward:
                yield role, name, self.latest(f"score/{role}/{name}")

    def balanced(self) -> list[str]:
        """Roles whose verdicts could be compared with the truth in some step."""
        return [role for role in self.scenario.roles if any(told.figures.get(f"balanced/{role}") for told in self.told)]

    def troubles(self) -> list[str]:
        """What of the newest step could not be used, in words: scores, the update, all of it."""
        figures = self.told[-1].figures if self.told else {}
        found = [
            f"{name.removeprefix('invalid/')} invalid on {count:.0f} turns"
            for name, count in figures.items()
            if name.startswith("invalid/") and count
        ]
        if figures.get("train/refused"):
            found.append("update refused, loss or gradient not finite")
        elif figures.get("train/tokens") == 0:
            found.append("nothing to learn from, weights as they were")
        return found


class View(Protocol):
    """Called with every whole step; ``say`` shows a line at once and is safe in a signal's handler."""

    def __call__(self, told: Told) -> None: ...
    def say(self, line: str) -> None: ...


class Lines:
    """One line per step."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __call__(self, told: Told) -> None:
        """Print the step, then the alarms that began or ended in it."""
        self.progress.add(told)
        for one in (line(self.progress), *told.news):
            typer.echo(one)

    def say(self, line: str) -> None:
        """To standard error, without the locks that ``print`` takes."""
        write(line)


class Screen:
    """The live view; redrawn by its own thread, so the clock goes on inside a step."""

    def __init__(self, progress: Progress, live: Any) -> None:
        self.progress, self.live = progress, live

    def __call__(self, told: Told) -> None:
        """Take in the step and redraw."""
        self.progress.add(told)
        self.alert(told)

    def alert(self, told: Told) -> None:
        """Redraw; alarms stay above, where they scroll away."""
        for one in told.news:
            self.live.console.print(one, style="bold yellow", markup=False)
        self.live.refresh()

    def say(self, line: str) -> None:
        """In the last row, from the next redraw on."""
        self.progress.note = line


@contextmanager
def view(progress: Progress) -> Iterator[View]:
    """The view that fits where standard output goes."""
    screen = console()
    if not screen.is_terminal:
        yield Lines(progress)
        return
    from rich.live import Live

    with Live(get_renderable=lambda: picture(progress), console=screen, refresh_per_second=2) as live:
        yield Screen(progress, live)


def line(progress: Progress) -> str:
    """The newest step as one line of text."""
    told = progress.told[-1]
    parts = [f"step {told.step}/{told.steps}"]
    parts += [f"{row.name} {row.value:.3f}" for row in told.evaluations if not row.parameters]
    for figure, name in SHARES:
        if progress.latest(figure) is not None:
            parts.append(f"{name} {number(progress.latest(figure))}")
    parts += [f"{role} {name} {number(value)}" for role, name, value in progress.rewards() if value is not None]
    parts += [f"{role} balanced {number(progress.latest(f'balanced/{role}'))}" for role in progress.balanced()]
    parts += progress.troubles()
    if progress.tokens_per_second is not None:
        parts.append(f"{progress.tokens_per_second:.0f} tokens/s")
    if progress.left:
        parts.append(f"{duration(progress.left)} left")
    return "  ".join(parts)


def picture(progress: Progress) -> RenderableType:
    """The whole live view."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_head(progress), _measured(progress)]
    if progress.told and progress.told[-1].figures:
        parts += [Text(), _rewards(progress)]
    if progress.told:
        parts += [Text(), _arms(progress)]
    parts += [Text(one, style="yellow") for one in progress.troubles()]
    parts += [Text(), Text(f"{progress.database}   {progress.note}", style="dim")]
    return Group(*parts)


def _head(progress: Progress) -> Text:
    from rich.text import Text

    head = Text(progress.title, style="bold")
    waited = duration(time.monotonic() - progress.began)
    if not progress.told:
        return head.append(f"  measuring the untouched policy, {waited}", style="not bold")
    told = progress.told[-1]
    done = round(BAR * told.step / max(1, told.steps))
    head.append(f"  step {told.step}/{told.steps} ")
    head.append("━" * done, style="green").append("━" * (BAR - done), style="dim")
    if told.step < told.steps:
        head.append(f"  next for {waited}", style="not bold")
    if progress.tokens_per_second is not None:
        head.append(f", {progress.tokens_per_second:,.0f} tokens/s", style="not bold")
    if progress.left:
        head.append(f", {duration(progress.left)} left", style="not bold")
    return head


def _measured(progress: Progress) -> Table:
    """Held-out figures, then shares of the newest step, each with its history."""
    grid = _grid()
    for name in dict.fromkeys(row.name for row in progress.measured if not row.parameters):
        points = [row.value for row in curve(progress.measured, name)]
        grid.add_row(f"held-out {name}", f"{points[0]:.3f} → {points[-1]:.3f}", sparkline(points))
    shares = [*SHARES, *((f"balanced/{role}", f"{role} balanced") for role in progress.balanced())]
    for figure, name in shares:
        past = progress.history(figure)
        if any(value is not None for value in past):
            grid.add_row(name, number(progress.latest(figure)), sparkline(past))
    return grid


def _rewards(progress: Progress) -> Table:
    from rich.text import Text

    grid = _grid()
    for role, name, value in progress.rewards():
        past = sparkline(progress.history(f"score/{role}/{name}"))
        grid.add_row(Text(role, style=colour(role)).append(f" {name}", style="default"), number(value), past)
    return grid


def _arms(progress: Progress) -> Table:
    grid = _grid()
    arms = progress.told[-1].arms
    top = max(arms.values(), default=0.0)
    for name, weight in arms.items():
        grid.add_row(name, f"{weight:.2f}", "█" * round(BAR * weight / top if top else 0))
    return grid


def _grid() -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=24)
    grid.add_column(justify="right", min_width=13)
    grid.add_column()
    return grid
