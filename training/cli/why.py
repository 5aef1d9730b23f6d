"""``why``: what one step's update, or one episode's part of it, was made of: from the turns that pulled hardest down to
criteria and curriculum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, Db, place, reading
from .output import colour, console, number, one_line, print_json, spoken, visible

if TYPE_CHECKING:
    from rich.text import Text

    from sparring.storage.lineage import CriterionWhy, LineageReport, RoleWhy, ScoreWhy, TaskWhy, TurnWhy


def why(
    step: Annotated[
        str,
        typer.Argument(help="A step: r1/57, 57 of the newest run, or a run for its last step; an episode: r1/57/3."),
    ] = "latest",
    limit: Annotated[int, typer.Option(help="Turns per role.", min=1)] = 3,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Tell why a step or an episode moved the policy: which turns pulled hardest, what they earned, for which task."""
    from sparring.storage import lineage
    from sparring.storage.thinning import dropped_on

    with closing(reading(db)) as store:
        at = place(store, step)
        number_of = at.step if at.step is not None else store.run(at.run).last_step or 0
        report = lineage.why(store, at.run, number_of, limit, at.episode)
        thinned = dropped_on(store, at.run, number_of)
    if as_json:
        print_json(report)
        return
    screen = console()
    for line in told(report):
        screen.print(line)
    if thinned is not None:
        screen.print(f"tokens of this step were dropped on {thinned[:10]}: what each token earned is gone, sums stay")


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("why")(why)


def told(report: LineageReport) -> Iterator[Text]:
    """The report, a line each."""
    from rich.text import Text

    made = f"{report.run}/{report.step} made policy {report.made_version}, weights {report.weights_sha[:16]}"
    if report.episode is not None:
        made += f"; {report.episode} has {_percent(report.share or 0.0, 1.0)} of its pull"
    yield Text(made, style="bold")
    if not report.roles:
        nothing = "the weights stayed as they were" if report.episode is None else "the episode has no part in it"
        yield Text(f"no turn had an advantage: nothing pulled, {nothing}")
    total = sum(role.pull_abs for role in report.roles)
    for role in report.roles:
        yield Text()
        yield _role(role, total, "step" if report.episode is None else "episode")
        for turn in role.turns:
            yield from _turn(turn, role)


def _role(role: RoleWhy, total: float, whole: str) -> Text:
    from rich.text import Text

    line = Text(role.role, style=f"bold {colour(role.role)}")
    if role.trainer != "rl":
        line.append(f" in {visible(role.trainer)}", style="not bold default")
    turns = "1 turn" if role.n_turns == 1 else f"{role.n_turns} turns"
    line.append(f"  {turns}, {_percent(role.pull_abs, total)} of the {whole}'s pull", style="not bold default")
    if len(role.turns) < role.n_turns:
        line.append(f"; the {len(role.turns)} that pulled hardest:", style="not bold default")
    return line


def _turn(turn: TurnWhy, role: RoleWhy) -> Iterator[Text]:
    from rich.text import Text

    head = Text(f"  {_percent(turn.pull, role.pull_abs):>6} ", style="bold")
    head.append(f" {turn.episode} #{turn.turn} {turn.node}" + (f"[{turn.sample}]" if turn.sample else ""))
    group, sign = turn.group, "green" if turn.advantage > 0 else "red"
    head.append("  advantage ", style="dim").append(f"{turn.advantage:+.2f}", style=sign)
    compared = f"  reward {number(turn.reward)} among {group.size} {group.scope}, mean {number(group.mean)}"
    entered = f", {visible(turn.entered)}" if turn.entered else ""
    yield head.append(f"{compared}, {turn.n_tokens} tokens{entered}", style="dim")
    yield _under("said ").append_text(spoken(one_line(turn.said, 110), colour(role.role)))
    for score in turn.scores:
        yield from _score(score)
    if turn.task is not None:
        yield from _task(turn.task)
    given = ", ".join(f"{key}={value}" for key, value in turn.parameters.items())
    yield _under(f"arm {visible(turn.arm)}").append("" if given in ("", turn.arm) else f" ({given})", style="dim")


def _score(score: ScoreWhy) -> Iterator[Text]:
    value = number(score.value) if score.validity == "valued" else score.validity
    about = f"  by {score.by} {visible(score.note)}".rstrip()
    yield _under(f"{score.name} ").append(value, style="bold").append(about, style="dim")
    for criterion in score.criteria:
        yield _criterion(criterion)


def _criterion(criterion: CriterionWhy) -> Text:
    from .conversation import SIGNS

    sign, style = SIGNS[None if criterion.share is None else criterion.share >= 0.5]
    text = "a criterion that is not stored" if criterion.text is None else visible(criterion.text)
    points = "" if criterion.points is None else f"{criterion.points:g} "
    wrote = criterion.written_by or "the task"
    if criterion.rubric_turn is not None:
        wrote += f" (#{criterion.rubric_turn})"
    line = _under("  ").append(f"{sign} ", style=style).append(f"{points}{text}")
    return line.append(f"  written by {wrote}, read by {criterion.by}", style="dim")


def _task(task: TaskWhy) -> Iterator[Text]:
    came = task.origin or "unknown"
    if task.origin_turn is not None:
        came += f", proposed in #{task.origin_turn}"
    yield _under(f"task {task.key} ").append(one_line(task.summary, 80)).append(f"  {came}", style="dim")
    if task.parent is not None:
        told = "not in this run" if task.parent_summary is None else one_line(task.parent_summary, 70)
        yield _under(f"  made from {task.parent} ").append(told, style="default")


def _under(text: str) -> Text:
    from rich.text import Text

    return Text(f"          {text}", style="default")


def _percent(part: float, whole: float) -> str:
    return f"{100 * abs(part) / whole:.1f} %" if whole else "0 %"
