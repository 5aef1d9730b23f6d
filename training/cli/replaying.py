"""``replay``: stored episodes played again from their recorded words; every reward must come out the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparring.scenarios.errors import RunNotFound

from .options import AsJson, Db, Place, place, reading
from .output import console, duration, one_line, print_json
from .reading import scenario_of
from .running import Unsafe, hush, sandbox

if TYPE_CHECKING:
    from rich.text import Text

    from sparring.storage.differences import Difference
    from sparring.storage.store import Store
    from sparring.training.replaying import Replayed


def replay(
    what: Annotated[str, typer.Argument(help="r1/3/5 (an episode), r1/3 (a step), r1 (every step of a run).")],
    limit: Annotated[int, typer.Option(help="Differences shown per episode.", min=1)] = 5,
    unsafe: Unsafe = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Play stored episodes again from their recorded words, and name every difference; exit code 1 if there is one."""
    began = time.monotonic()
    found: list[Replayed] = []
    screen = console()
    with closing(reading(db)) as store:
        at = place(store, what)
        for done in _replayed(store, at, unsafe):
            found += done
            if not as_json:
                for line in _told(done, limit):
                    screen.print(line, soft_wrap=False)
    seconds = time.monotonic() - began
    if as_json:
        print_json({"what": what, **_sum(found), "seconds": seconds, "replayed": [_row(one) for one in found]})
    else:
        screen.print(_verdict(found, seconds), style="bold", markup=False)
    if any(one.differences for one in found):
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("replay")(replay)


def _replayed(store: Store, at: Place, unsafe: bool) -> Iterator[list[Replayed]]:
    """The episodes of each step, played again."""
    from sparring.scenarios.load import from_resolved
    from sparring.storage.answers import kept_episodes, steps_after, task_homes
    from sparring.storage.remembering import recall
    from sparring.storage.thinning import refuse_thinned

    if store.run(at.run).info.get("recorded"):
        raise RunNotFound(
            f"{at.run} was recorded by sparring serve: a client's own code drove its episodes, and is not stored; "
            "only episodes that 'sparring run' played can be replayed"
        )
    refuse_thinned(store, "a replay", at.run, at.step, at.episode)
    kept = kept_episodes(store, at.run, at.step, at.episode)
    first = next(kept)  # names what is absent before anything is built
    scenario = from_resolved(scenario_of(store, at.run))
    figures = {step.step: step.metrics for step in steps_after(store, at.run, -1)}
    with sandbox(scenario, unsafe):
        hush()
        from sparring.training.replaying import Replay

        past = partial(recall, store, at.run)
        with closing(Replay(scenario, figures, task_homes(store, at.run), unsafe, past)) as again:
            yield again.step(first[0].step, first)
            for step in kept:
                yield again.step(step[0].step, step)


def _told(done: list[Replayed], limit: int) -> Iterator[Text]:
    """A step's line, then a line for each difference."""
    from rich.text import Text

    run, step, _ = done[0].episode.split("/")
    name = done[0].episode if len(done) == 1 else f"{run}/{step}"
    yield Text(f"{name}  {_counted(done)}")
    for one in done:
        for difference in one.differences[:limit]:
            yield Text.assemble("  ", (_where(one.episode, difference), "bold"), f" {difference.field}")
            yield Text(f"    stored  {one_line(difference.stored, 100)}")
            yield Text(f"    new     {one_line(difference.new, 100)}")
        if len(one.differences) > limit:
            yield Text(f"  {one.episode} has {len(one.differences) - limit} more: --limit {len(one.differences)}")


def _counted(done: list[Replayed]) -> str:
    played = [one for one in done if not one.broke]
    turns, rewards = sum(one.turns for one in played), sum(one.rewards for one in played)
    told = f"{turns} turns, {rewards} rewards: "
    if len(done) > 1:
        told = f"{len(played)} episodes, {told}"
    odd = sum(bool(one.differences) for one in played)
    told += "all byte-equal" if not odd else f"{odd} of {len(played)} episodes differ"
    broke = len(done) - len(played)
    return told if not broke else f"{told}; {broke} broke when played, nothing to compare"


def _where(episode: str, difference: Difference) -> str:
    return episode if difference.turn is None else f"{episode} #{difference.turn} {difference.author}"


def _sum(found: list[Replayed]) -> dict[str, int]:
    played = [one for one in found if not one.broke]
    return {
        "episodes": len(found),
        "byte_equal": sum(one.same_bytes and not one.differences for one in played),
        "rewards_equal": sum(one.rewards_equal for one in played),
        "broke": len(found) - len(played),
        "turns": sum(one.turns for one in played),
        "rewards": sum(one.rewards for one in played),
    }


def _row(one: Replayed) -> dict[str, Any]:
    from .output import plain

    return {**plain(one), "rewards_equal": one.rewards_equal}


def _verdict(found: list[Replayed], seconds: float) -> str:
    counts = _sum(found)
    played = counts["episodes"] - counts["broke"]
    told = f"{counts['byte_equal']} of {played} episodes byte-equal"
    if counts["rewards_equal"] != counts["byte_equal"]:
        told += f", {counts['rewards_equal']} with byte-equal rewards"
    return f"{told}, in {duration(seconds)}"
