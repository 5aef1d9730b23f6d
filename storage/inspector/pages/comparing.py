"""Runs side by side, and two episodes up to where they part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from sparring.scenarios.errors import RunNotFound
from sparring.storage.answers import KeptEpisode, kept_episodes
from sparring.storage.comparing import Compared, Measured, Side, compared
from sparring.storage.divergence import Parting
from sparring.storage.divergence import Side as Branch
from sparring.storage.divergence import compared as parted
from sparring.storage.inspector.charts import figure
from sparring.storage.inspector.history import history
from sparring.storage.inspector.places import colours, episode_href, found_episode, scenario_of
from sparring.storage.inspector.registry import Asked, Link, Model, NotThere, page
from sparring.storage.inspector.shown import visible
from sparring.storage.intervals import mean_interval
from sparring.storage.queries import episode_number
from sparring.storage.records import RunRow
from sparring.storage.store import Store
from sparring.storage.tables import Runs

MOST = 12  # runs put side by side
LISTED = 30  # runs offered
POINTS = 160  # of a curve
CURVES = 8  # of training, beside the reward
KEYS = 80  # of the scenarios
MAIN = "accuracy"
DRAWN = ("score/", "entropy/", "train/loss", "train/kl", "train/grad_norm", "accepted", "tokens")
PARTINGS, SCORED, BEFORE, AFTER = 12, 24, 160, 1_200


@page("/compare", "compare.html", "Compare runs")
def compare(store: Store, asked: Asked) -> Model:
    """``?runs=r1,r2``: runs whose scenarios differ by seed only are one side; ``&metric=`` is the held-out figure."""
    named = [word.strip() for word in asked.query.get("runs", "").split(",") if word.strip()]
    with store.read() as session:
        newest = list(session.scalars(select(Runs.id).order_by(Runs.id.desc()).limit(LISTED)))
    offered = [store.run(f"r{number}") for number in newest]
    runs = [_found(store, word, offered) for word in dict.fromkeys(named[:MOST])]
    measured = [
        Measured(row.id, row.name, row.seed, scenario_of(store, row.id), store.evaluations(row.id)) for row in runs
    ]
    metrics = list(dict.fromkeys(one.name for run in measured for one in run.evaluations if not one.parameters))
    metric = asked.query.get("metric") or (MAIN if MAIN in metrics else next(iter(metrics), MAIN))
    if metrics and metric not in metrics:
        there = [Link(visible(one), f"/compare?runs={','.join(named)}&metric={one}") for one in metrics]
        raise NotThere(f"none of these runs measured {metric!r}; they measured {', '.join(metrics)}", there)
    found = compared(measured, metric) if measured else None
    keys = list((found.keys if found else {}).items())
    return {
        "asked": ",".join(named),
        "runs": [_short(row) for row in runs],
        "left_out": max(0, len(dict.fromkeys(named)) - MOST),
        "offered": [{"row": _short(row), "href": _with(named, row.id), "chosen": row.id in named} for row in offered],
        "metric": metric,
        "metrics": metrics,
        "sides": [{"label": one.label, "runs": one.runs, "seeds": one.seeds} for one in found.sides] if found else [],
        "curve": _curve(found) if found else None,
        "curves": _training(store, found.sides) if found else [],
        "finals": _finals(found) if found else [],
        "contrasts": found.contrasts if found else [],
        "keys": [{"key": key, "values": values} for key, values in keys[:KEYS]],
        "keys_more": max(0, len(keys) - KEYS),
        "live": any(row.status == "running" for row in runs),
    }


def _short(row: RunRow) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "seed": row.seed, "status": row.status, "last_step": row.last_step}


def _found(store: Store, run: str, offered: Sequence[RunRow]) -> RunRow:
    try:
        return store.run(run)
    except RunNotFound as error:
        raise NotThere(
            str(error), [Link(visible(f"{row.id} {row.name}"), f"/compare?runs={row.id}") for row in offered]
        ) from None


def _with(named: Sequence[str], run: str) -> str:
    """This page with a run more, or without one that is there."""
    rest = [one for one in named if one != run] if run in named else [*named, run]
    return f"/compare?runs={','.join(rest)}" if rest else "/compare"


def _curve(found: Compared) -> dict[str, Any] | None:
    """The held-out figure over steps: the mean of each side's runs, and its 95 % interval where there are several."""
    steps = sorted({step for side in found.sides for step in side.curve})
    means = {
        visible(side.label): [side.curve[s].mean if s in side.curve else None for s in steps] for side in found.sides
    }
    bands = {
        visible(side.label): (
            [side.curve[s].low if s in side.curve else None for s in steps],
            [side.curve[s].high if s in side.curve else None for s in steps],
        )
        for side in found.sides
        if any(one.low is not None for one in side.curve.values())
    }
    return figure(visible(f"Held-out {found.metric}"), steps, means, bands=bands) if steps else None


def _training(store: Store, sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Reward and figures of training over steps, each side's mean and interval."""
    lines = {run: history(store, run) for side in sides for run in side.runs}
    names = dict.fromkeys(name for held in lines.values() for line in held[-1:] for name in line.figures)
    chosen = [name for first in DRAWN for name in names if name.startswith(first)][:CURVES]
    reward = {run: {one.number: one.reward for one in held} for run, held in lines.items()}
    drawn = [_over_steps("Reward", sides, reward)]
    for name in chosen:
        values = {run: {one.number: one.figures.get(name) for one in held} for run, held in lines.items()}
        drawn.append(_over_steps(name, sides, values))
    return [one for one in drawn if one is not None]


def _over_steps(
    title: str, sides: Sequence[Side], values: Mapping[str, Mapping[int, float | None]]
) -> dict[str, Any] | None:
    """Neighbouring steps of a long run are drawn together, run by run, before runs are compared."""
    steps = sorted({step for held in values.values() for step in held})
    by = -(-len(steps) // POINTS) or 1
    spans = [steps[start : start + by] for start in range(0, len(steps), by)]
    means: dict[str, list[float | None]] = {}
    bands: dict[str, tuple[list[float | None], list[float | None]]] = {}
    for side in sides:
        at = [[v for run in side.runs if (v := _mean(values[run], span)) is not None] for span in spans]
        held = [mean_interval(known) if known else None for known in at]
        means[visible(side.label)] = [None if one is None else one.mean for one in held]
        if len(side.runs) > 1:
            bands[visible(side.label)] = (
                [one.low if one else None for one in held],
                [one.high if one else None for one in held],
            )
    return figure(visible(title), [span[0] for span in spans], means, bands=bands) if steps else None


def _mean(values: Mapping[int, float | None], span: Sequence[int]) -> float | None:
    known = [value for step in span if (value := values.get(step)) is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _finals(found: Compared) -> list[dict[str, Any]]:
    """Each held-out figure's newest value on every side, and what it is more than on the first."""
    return [
        {
            "name": name,
            "values": [
                {"mean": one.mean, "low": one.low, "high": one.high, "n": one.n} if one is not None else None
                for one in values
            ],
            "differences": [
                None if one is None or values[0] is None else one.mean - values[0].mean for one in values[1:]
            ],
        }
        for name, values in found.finals.items()
    ]


@page("/diff", "diff.html", "Compare episodes")
def diff(store: Store, asked: Asked) -> Model:
    """``?a=r1/2/3&b=r1/4/5``: the first difference of every branch of two episodes."""
    first, second = asked.query.get("a", "").strip(), asked.query.get("b", "").strip()
    empty: dict[str, Any] = {"a": first, "b": second, "sides": [], "found": None, "partings": [], "scored": []}
    if not first or not second:
        return empty | {"rewards": [], "partings_more": 0, "scored_more": 0, "roles": {}}
    one, two = _kept(store, first), _kept(store, second)
    found = parted(one.episode, two.episode)
    authors = {turn.author for kept in (one, two) for turn in kept.episode.turns}
    return {
        "a": first,
        "b": second,
        "sides": [_head(one), _head(two)],
        "found": {"same_turns": found.same_turns, "partings": len(found.partings), "scored": len(found.scored)},
        "partings": [_parting(one.name, two.name, parting) for parting in found.partings[:PARTINGS]],
        "partings_more": max(0, len(found.partings) - PARTINGS),
        "scored": [_parting(one.name, two.name, parting) for parting in found.scored[:SCORED]],
        "scored_more": max(0, len(found.scored) - SCORED),
        "rewards": [{"name": name, "values": values} for name, values in found.rewards.items()],
        "roles": colours(scenario_of(store, one.name.split("/")[0]), authors),
    }


def _kept(store: Store, word: str) -> KeptEpisode:
    try:
        number, step, index = episode_number(word)
    except RunNotFound as error:
        raise NotThere(str(error), [Link("Compare episodes", "/diff")]) from None
    run = f"r{number}"
    found_episode(store, run, step, index)  # says what there is where it is not
    ((kept,),) = kept_episodes(store, run, step, index)
    return kept


def _head(kept: KeptEpisode) -> dict[str, Any]:
    return {
        "name": kept.name,
        "href": episode_href(kept.name),
        "ending": str(kept.episode.ending),
        "reward": kept.reward,
        "turns": len(kept.episode.turns),
        "parameters": kept.episode.parameters,
    }


def _parting(one: str, two: str, found: Parting) -> dict[str, Any]:
    read = "read" in found.fields and "said" not in found.fields
    return {
        "author": found.author,
        "node": found.node,
        "fields": found.fields,
        "sides": [
            _branch(name, branch, found.same_characters, read)
            for name, branch in ((one, found.first), (two, found.second))
        ],
    }


def _branch(name: str, branch: Branch, same: int, read: bool) -> dict[str, Any]:
    """The words around where they part: what is the same, then what is not."""
    words = branch.read if read else branch.said
    return {
        "name": name,
        "turn": branch.turn,
        "href": None if branch.turn is None else episode_href(name, branch.turn),
        "cut_before": same > BEFORE,
        "same": words[max(0, same - BEFORE) : same],
        "other": words[same : same + AFTER],
        "cut_after": len(words) > same + AFTER,
        "scores": branch.scores,
    }
