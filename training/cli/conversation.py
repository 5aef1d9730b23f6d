"""An episode as a person reads it: a tree of turns, each with what it read, said, was scored and how it was moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from sparring.envs.types import CriterionScore, Episode, Score, Task, Turn, Validity

from .output import colour, number, one_line, spoken, visible

if TYPE_CHECKING:
    from .reading import Row

SIGNS = {True: ("✓", "green"), False: ("✗", "red"), None: ("?", "yellow")}


def conversation(name: str, episode: Episode, credits: Mapping[int, Row]) -> RenderableType:
    """The episode called ``name``; ``credits`` holds reward, advantage and pull by turn index."""
    read_by: dict[str, int] = {}
    branches: dict[int | None, Tree] = {None: Tree(_title(name, episode), guide_style="dim")}
    for turn in episode.turns:
        above = branches.get(turn.parent, branches[None])
        branches[turn.index] = above.add(Group(*_turn(episode, turn, credits.get(turn.index), read_by)))
    return branches[None]


def _title(name: str, episode: Episode) -> Text:
    title = Text(name, style="bold")
    given = ", ".join(f"{key}={value}" for key, value in episode.parameters.items())
    title.append(f"  {given}  " if given else "  ", style="not bold").append(str(episode.ending), style="not bold")
    if episode.error:
        title.append(f": {visible(episode.error)}", style="red")
    return title


def _turn(episode: Episode, turn: Turn, credit: Row | None, read_by: dict[str, int]) -> Iterator[RenderableType]:
    speaker = _speaker(turn, credit)
    if turn.author == "environment":
        yield speaker.append(f"  {one_line(turn.said, 100)}")
    else:
        yield speaker
        yield from _words(turn, read_by)
    yield from map(_inward, _findings(episode, turn))


def _words(turn: Turn, read_by: dict[str, int]) -> Iterator[RenderableType]:
    """What the turn newly read, unless an earlier turn read the same, and what it said."""
    if turn.context is not None:
        first = read_by.setdefault(turn.context.text, turn.index)
        if first == turn.index:
            read = visible(turn.context.text).strip("\n").split("\n")
            yield _inward(Text("\n".join(f"> {line}" for line in read), style="dim italic"))
        else:
            yield _inward(Text(f"(reads what #{first} read)", style="dim"))
    yield _inward(spoken(turn.said) if turn.said else Text("(says nothing)", style="dim"))


def _inward(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)


def _speaker(turn: Turn, credit: Row | None) -> Text:
    line = Text(f"#{turn.index} ", style="dim").append(turn.author, style=f"bold {colour(turn.author)}")
    line.append(f" {turn.node}", style="dim")
    if turn.sample:
        line.append(f"[{turn.sample}]", style="dim")
    if turn.finish is not None and str(turn.finish) != "stop":
        line.append(f" cut off ({turn.finish})", style="yellow")
    if credit is not None:
        line.append(f"  reward {number(credit['reward'])}, advantage ", style="dim")
        line.append(f"{credit['advantage']:+.2f}", style="green" if credit["advantage"] > 0 else "red")
    return line


def _findings(episode: Episode, turn: Turn) -> Iterator[RenderableType]:
    """What came of a turn: a refusal, a new task, its rubric's record, its scores."""
    if turn.index in episode.refusals:
        refusal = episode.refusals[turn.index]
        yield Text(f"refused: {refusal.reason} {visible(refusal.detail)}".rstrip(), style="red")
    before = None if turn.parent is None else episode.turns[turn.parent].task
    task = episode.task(turn.task)
    if task is not None and turn.task != before:
        yield _task(task)
    if turn.parsed is not None and turn.parsed.problem:
        yield Text(f"cannot be read: {visible(turn.parsed.problem)}", style="yellow")
    if turn.index in episode.rubrics:
        yield from _record(episode, turn.index)
    for score in episode.scores.get(turn.index, ()):
        yield _score(score)
        yield from (_inward(_criterion(episode, item)) for item in score.criteria)


def _task(task: Task) -> Text:
    made = f"task {task.key}" + (f", by {task.origin}" if task.origin else "")
    secret = ", ".join(f"{key}: {_shown(value)}" for key, value in task.secret.items())
    return Text(made + (f"; known to the environment alone: {one_line(secret, 110)}" if secret else ""), style="dim")


def _shown(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _score(score: Score) -> Text:
    line = Text(f"{score.name} ")
    if score.validity is Validity.VALUED:
        line.append(number(score.value), style="bold")
    else:
        line.append(str(score.validity), style="yellow")
    about = " ".join(part for part in (f"by {score.by}", visible(score.note)) if part)
    return line.append(f"  {about}", style="dim")


def _criterion(episode: Episode, item: CriterionScore) -> Text:
    met = None if item.share is None else item.share >= 0.5
    sign, style = SIGNS[met]
    line = Text(f"{sign} ", style=style)
    rubric = episode.rubrics.get(-1 if item.rubric_turn is None else item.rubric_turn)
    if rubric is not None and item.criterion < len(rubric.criteria):
        criterion = rubric.criteria[item.criterion]
        line.append(f"{criterion.points:g} {visible(criterion.text)}", style="default")
    else:
        line.append(f"criterion {item.criterion}", style="default")
    wrote = "came with the task" if item.rubric_turn is None else f"of #{item.rubric_turn}"
    line.append(f"  {wrote}, by {item.by}", style="dim")
    if item.quote:
        line.append(f" “{one_line(item.quote)}”", style="dim")
    return line


def _record(episode: Episode, writer: int) -> Iterator[Text]:
    """For each criterion of the rubric a turn wrote: how many of those it was put to met it."""
    met: Counter[int] = Counter()
    asked: Counter[int] = Counter()
    for scores in episode.scores.values():
        for item in (item for score in scores for item in score.criteria):
            if item.rubric_turn == writer and item.share is not None:
                asked[item.criterion] += 1
                met[item.criterion] += item.share >= 0.5
    for index, criterion in enumerate(episode.rubrics[writer].criteria):
        told = f"met by {met[index]} of {asked[index]}" if asked[index] else "put to no answer"
        yield Text(f"{criterion.points:g} {visible(criterion.text)}  ").append(told, style="dim")
