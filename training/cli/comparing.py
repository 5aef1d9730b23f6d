"""``compare``: held-out curves of runs side by side, with intervals over seeds, and what differs in their scenarios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from sparring.scenarios.errors import RunNotFound

from .options import AsJson, Db, place, reading, typed
from .output import console, one_line, print_json, table
from .reading import MAIN, scenario_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from sparring.storage.comparing import Compared, Measured, Side
    from sparring.storage.intervals import Interval
    from sparring.storage.store import Store

ROWS = 12  # steps shown of each curve; --json has them all


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Runs: r1 r2 r3. Those that differ by seed only count as one side.")
    ],
    metric: Annotated[str, typer.Option(help="The held-out figure.")] = MAIN,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Put held-out curves side by side: means and 95 % intervals over seeds, the difference, the scenarios' keys."""
    from sparring.storage.comparing import compared

    with closing(reading(db)) as store:
        measured = [_measured(store, name, metric) for name in dict.fromkeys(place(store, word).run for word in runs)]
    found = compared(measured, metric)
    if as_json:
        print_json(found)
        return
    screen = console()
    for part in _told(found, screen.width):
        screen.print(part)


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("compare")(compare)


def _measured(store: Store, run: str, metric: str) -> Measured:
    from sparring.storage.comparing import Measured

    row = store.run(run)
    evaluations = store.evaluations(run)
    names = list(dict.fromkeys(one.name for one in evaluations if not one.parameters))
    if metric not in names:
        has = f"it has {', '.join(names)}: add --metric {names[0]}" if names else "it measured nothing held out"
        raise RunNotFound(f"{run} has no held-out {metric!r}; {has}. '{typed(store, f'show {run}')}' shows the run")
    return Measured(run, row.name, row.seed, scenario_of(store, run), evaluations)


def _told(found: Compared, width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    yield from _picture(found, width)
    yield Text()
    yield _curves(found)
    yield Text()
    yield _finals(found)
    yield Text()
    if len(found.sides) == 1:
        yield Text("these runs differ by seed only: one side, so there is no difference to estimate")
        return
    for contrast in found.contrasts:
        line = Text(f"{contrast.label}  ", style="bold")
        if contrast.interval is None:
            yield line.append(contrast.how, style="not bold yellow")
            continue
        line.append(f"{found.metric} {_signed(contrast.interval)} at step {contrast.step}", style="not bold")
        yield line.append(f"  {contrast.how}", style="not bold dim")
    yield Text()
    yield _keys(found)


def _picture(found: Compared, width: int) -> Iterator[Text]:
    from rich.text import Text

    from .plotting import Line, mark, plot

    title = Text(f"held-out {found.metric} over steps", style="bold")
    yield title.append("  mean, dots: 95 % interval over seeds", style="not bold dim")
    lines = [
        Line(
            side.label,
            [(step, one.mean) for step, one in side.curve.items()],
            [
                (step, one.low, one.high)
                for step, one in side.curve.items()
                if one.low is not None and one.high is not None
            ],
        )
        for side in found.sides
    ]
    yield from plot(lines, min(width, 100))
    for at, side in enumerate(found.sides):
        sign, style = mark(at)
        yield Text(f"  {sign} ", style=style).append(one_line(side.label, width - 6), style="default")


def _curves(found: Compared) -> Table:
    """A row for each step: where there are many, some of them, the first and the last included."""
    heads = [_head(side) for side in found.sides]
    shown = table("step", *heads, right=("step", *heads))
    for step in _some(sorted({step for side in found.sides for step in side.curve})):
        shown.add_row(str(step), *(_cell(side.curve.get(step)) for side in found.sides))
    return shown


def _finals(found: Compared) -> Table:
    heads = [_head(side) for side in found.sides]
    shown = table("newest", *heads, right=heads)
    for name, values in found.finals.items():
        shown.add_row(name, *map(_cell, values))
    return shown


def _head(side: Side) -> str:
    return ", ".join(side.runs)


def _some(steps: Sequence[int]) -> list[int]:
    if len(steps) <= ROWS:
        return list(steps)
    return [steps[round(at * (len(steps) - 1) / (ROWS - 1))] for at in range(ROWS)]


def _cell(one: Interval | None) -> str:
    if one is None:
        return "-"
    return f"{one.mean:.3f}" if one.half is None else f"{one.mean:.3f} ± {one.half:.3f}"


def _signed(one: Interval) -> str:
    if one.low is None or one.high is None:
        return f"{one.mean:+.3f}"
    return f"{one.mean:+.3f} ({one.low:+.3f} to {one.high:+.3f})"


def _keys(found: Compared) -> Table:
    heads = [_head(side) for side in found.sides]
    shown = table("differs in the scenarios", *heads)
    for key, values in found.keys.items():
        shown.add_row(key, *(one_line(value, 60) for value in values))
    return shown
