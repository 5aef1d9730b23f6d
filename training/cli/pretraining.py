"""``pretrain``: makes the built-in model again, from random weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .output import console, duration

Report = Callable[[int, float], None]


def pretrain(
    out: Annotated[Path, typer.Argument(help="The folder to write the model to; it must not hold one yet.")],
    examples: Annotated[
        int | None, typer.Option(help="Demonstrations in all; every lesson is shortened or drawn out alike.", min=3)
    ] = None,
    seed: Annotated[int, typer.Option(help="Added to the seed of every lesson.", min=0)] = 0,
    start: Annotated[Path | None, typer.Option(help="A folder of an earlier lesson to go on from.")] = None,
    measure: Annotated[bool, typer.Option(help="Measure the result for its model card.")] = True,
) -> None:
    """Teach a small model the roles from generated demonstrations and write it as a Hugging Face folder."""
    if (out / "config.json").exists():
        raise typer.BadParameter(f"{out} holds a model already; name another folder", param_hint="OUT")
    from .running import hush

    hush()
    from sparring.training.pretrain import LESSONS, save
    from sparring.training.pretrain import pretrain as teach

    total = sum(lesson.examples for lesson in LESSONS)
    scale = 1.0 if examples is None else examples / total
    lessons = [
        replace(lesson, examples=max(1, round(lesson.examples * scale)), seed=lesson.seed + seed) for lesson in LESSONS
    ]
    total = sum(lesson.examples for lesson in lessons)
    began = time.monotonic()
    with _progress(total) as report:
        model = teach(lessons, report, start)
    save(model, out)
    if measure:
        from sparring.training import card

        card.write(out, lessons, card.measure(out))
    typer.echo(f"{out}: {total:,} demonstrations in {duration(time.monotonic() - began)}")
    typer.echo(f"use it with   sparring run SCENARIO -s policy.model={out.resolve()}")


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("pretrain")(pretrain)


@contextmanager
def _progress(total: int) -> Iterator[Report]:
    """A bar on a terminal; elsewhere a line for every twentieth."""
    screen = console()
    if not screen.is_terminal:
        yield _lines(total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("loss {task.fields[loss]:.3f}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen) as progress:
        task = progress.add_task("", total=total, loss=float("nan"))
        yield lambda done, loss: progress.update(task, completed=done, loss=loss)


def _lines(total: int) -> Report:
    began, told = time.monotonic(), 0

    def report(done: int, loss: float) -> None:
        nonlocal told
        if done * 20 // total > told:
            told = done * 20 // total
            left = (time.monotonic() - began) / done * (total - done)
            typer.echo(f"{done:,}/{total:,}  loss {loss:.3f}  {duration(left)} left")

    return report
