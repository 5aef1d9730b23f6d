"""``diff``: where two episodes part, what each of them said there, and what they earned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from sparring.scenarios.errors import RunNotFound

from .options import AsJson, Db, place, reading, typed
from .output import colour, console, number, print_json, table, visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from sparring.envs.types import Episode
    from sparring.storage.answers import KeptEpisode
    from sparring.storage.divergence import Comparison, Parting, Side
    from sparring.storage.store import Store

TITLES = {"read": "what was read", "said": "what was said", "is there": "a turn that only one has"}


def diff(
    first: Annotated[str, typer.Argument(help="An episode: r1/3/5.")],
    second: Annotated[str, typer.Argument(help="Another, of any run: r2/3/5.")],
    limit: Annotated[int, typer.Option(help="Branches shown, of those that part.", min=1)] = 1,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Find the first difference of two episodes: where the trees part, what each said there, and the rewards."""
    from sparring.storage.divergence import compared

    with closing(reading(db)) as store:
        one, two = _kept(store, first), _kept(store, second)
    found = compared(one.episode, two.episode)
    if as_json:
        print_json({"first": one.name, "second": two.name, "comparison": found})
        return
    screen = console()
    for part in _told(one, two, found, limit):
        screen.print(part)


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("diff")(diff)


def _kept(store: Store, word: str) -> KeptEpisode:
    from sparring.storage.answers import kept_episodes

    at = place(store, word)
    if at.episode is None:
        raise RunNotFound(
            f"diff compares two episodes, and {word} is none; write {at.run}/{at.step or 1}/0, or see which there are: "
            f"{typed(store, f'show {at.run}/{at.step or 1}')}"
        )
    ((kept,),) = kept_episodes(store, at.run, at.step, at.episode)
    return kept


def _told(one: KeptEpisode, two: KeptEpisode, found: Comparison, limit: int) -> Iterator[RenderableType]:
    from rich.text import Text

    for kept in (one, two):
        yield _title(kept.name, kept.episode)
    yield Text()
    turns = "1 turn is" if found.same_turns == 1 else f"{found.same_turns} turns are"
    if not found.partings:
        yield Text(f"{turns} the same; nothing read, said or done differs", style="bold")
    else:
        branches = len(found.partings)
        more = f" (the first of {branches} branches that part)" if branches > 1 else ""
        yield Text(f"{turns} the same, then they part{more}", style="bold")
    for parting in found.partings[:limit]:
        yield from _parted(one.name, two.name, parting)
    if found.scored:
        yield Text()
        yield _scored(one.name, two.name, found.scored[: max(limit, 8)])
    if found.rewards:
        yield Text()
        yield _rewards(one.name, two.name, found.rewards)


def _title(name: str, episode: Episode) -> Text:
    from rich.text import Text

    given = ", ".join(f"{key}={value}" for key, value in episode.parameters.items())
    facts = [given, str(episode.ending), f"{len(episode.turns)} turns"]
    return Text(name, style="bold").append("  " + ", ".join(filter(None, facts)), style="not bold")


def _parted(one: str, two: str, parting: Parting) -> Iterator[RenderableType]:
    from rich.text import Text

    line = Text(parting.author, style=f"bold {colour(parting.author)}").append(f" {parting.node}", style="not bold dim")
    yield line.append("  " + ", ".join(TITLES.get(name, name) for name in parting.fields), style="not bold default")
    for name, side in ((one, parting.first), (two, parting.second)):
        yield from _side(name, side, parting)


def _side(name: str, side: Side, parting: Parting) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    if side.turn is None:
        yield Text(f"  {name} has no turn here", style="dim")
        return
    earned = "".join(f"  {score} {value}" for score, value in side.scores.items())
    yield Text(f"  {name} #{side.turn}", style="bold").append(visible(earned), style="not bold dim")
    by_reading = "read" in parting.fields and "said" not in parting.fields
    words = side.read if by_reading else side.said
    at = parting.same_characters
    told = Text(visible(words[:at]), style="dim").append(visible(words[at:]), style="not dim")
    yield Padding(told if words else Text("(nothing)", style="dim"), (0, 0, 0, 4), expand=False)


def _scored(one: str, two: str, scored: tuple[Parting, ...]) -> Table:
    shown = table("same words, other reward", one, two, right=(one, two))
    for parting in scored:
        for name in parting.fields:
            label = f"#{parting.first.turn} {parting.author} {name}"
            shown.add_row(label, parting.first.scores.get(name, "-"), parting.second.scores.get(name, "-"))
    return shown


def _rewards(one: str, two: str, rewards: Mapping[str, tuple[float | None, float | None]]) -> Table:
    shown = table("mean reward", one, two, "difference", right=(one, two, "difference"))
    for name, (first, second) in rewards.items():
        change = "-" if first is None or second is None else f"{second - first:+.3f}"
        shown.add_row(name, number(first), number(second), change)
    return shown
