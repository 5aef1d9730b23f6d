"""The curves of a run, chosen from its steps' figures: what a reader looks at first, one card for each question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sparring.storage.records import EvaluationRow

from .charts import figure
from .history import StepLine
from .shown import settings

Figure = dict[str, Any]
Lines = Sequence[StepLine]
HEALTH, SAMPLES = "health/", "health_n/"
TOLD_ABOVE = ("entropy", "length")  # have a card among the curves


def curves(lines: Lines, measured: Sequence[EvaluationRow], roles: Sequence[str]) -> list[Figure]:
    """Cards in the order they are read; those without a number are left out."""
    place = {role: index for index, role in enumerate(roles)}
    x = [line.number for line in lines]
    names = _all(lines)

    def ranked(role: str) -> tuple[int, str]:
        return place.get(role, 99), role

    def of(title: str, shown: Mapping[str, str], **more: Any) -> Figure | None:
        values = {word: [line.figures.get(name) for line in lines] for name, word in shown.items()}
        return figure(title, x, values, **more)

    def by_role(title: str, prefix: str, **more: Any) -> Figure | None:
        found = of(title, {prefix + role: role for role in sorted(_below(names, prefix), key=ranked)}, **more)
        return _hued(found, place)

    kl = {name: _short(name, "kl") for name in names if name == "kl" or name.endswith("/kl")}
    cards = [
        _hued(
            figure("Reward by role", x, {r: [one.rewards.get(r) for one in lines] for r in _rewarded(lines, place)}),
            place,
        ),
        *held_out(measured),
        of("First attempts right", {"first/right": "right"}, low=0, high=1),
        by_role("Verdicts true, balanced", "balanced/", low=0, high=1),
        of("Proposals accepted", {"accepted": "accepted"}, low=0, high=1),
        by_role("Entropy", "entropy/", unit="nats", low=0),
        of("KL from the reference", kl, unit="nats"),
        *lengths(lines, names, place),
        of("Policy lag", {"late": "mean", "late/most": "most"}, unit="updates", low=0),
        of("Canary gap", {"canary/gap": "mean", "canary/worst": "worst"}, unit="nats", low=0),
        figure("Throughput", x, _rates(lines), unit="tokens/s", low=0),
        figure("Time of a step", x, _seconds(lines), unit="s", low=0),
        of("Loss", {name: _short(name, "loss") for name in names if name == "loss" or name.endswith("/loss")}),
        of("Gradient norm", {"train/grad_norm": "norm"}, low=0),
    ]
    return [card for card in cards if card is not None]


def health(lines: Lines, roles: Sequence[str]) -> dict[str, list[Any]]:
    """A card for each health figure, with a curve for whomever it is of; those that never moved are told as values."""
    place = {role: index for index, role in enumerate(roles)}
    x = [line.number for line in lines]
    moving: defaultdict[str, dict[str, list[float | None]]] = defaultdict(dict)
    steady = []
    for tail in sorted(_below(_all(lines), HEALTH), key=lambda tail: (place.get(tail.partition("/")[2], 99), tail)):
        name, _, whom = tail.partition("/")
        values = [line.figures.get(HEALTH + tail) for line in lines]
        if len(different := {value for value in values if value is not None}) == 1:
            steady.append({"name": name, "tail": tail, "value": different.pop()})
        elif name not in TOLD_ABOVE:
            moving[name][whom or "all"] = values
    cards = [(name, figure(name.replace("_", " ").capitalize(), x, moving[name])) for name in sorted(moving)]
    drawn = [{**one, "name": name} for name, card in cards if (one := _hued(card, place)) is not None]
    return {"moving": drawn, "steady": sorted(steady, key=lambda one: str(one["tail"]))}


def held_out(measured: Sequence[EvaluationRow]) -> list[Figure | None]:
    """What was measured on held-out tasks: over all of them, then by arm."""
    whole: defaultdict[str, dict[int, float]] = defaultdict(dict)
    arms: defaultdict[str, defaultdict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    usual = min((row.temperature for row in measured), key=lambda t: abs(t - 1), default=1.0)
    for row in measured:
        name = row.name if row.temperature == usual else f"{row.name} at {row.temperature:g}"
        if not row.parameters:
            whole[name][row.step] = row.value
        elif row.temperature == usual:
            arms[row.name][settings(dict(row.parameters)).removeprefix("arm=")][row.step] = row.value
    by_arm = [_measured(f"Held-out {name} by arm", of_arm) for name, of_arm in sorted(arms.items())]
    return [_measured("Held out, all tasks", whole), *by_arm]


def _measured(title: str, curves: Mapping[str, Mapping[int, float]]) -> Figure | None:
    x = sorted({step for curve in curves.values() for step in curve})
    return figure(title, x, {name: [curve.get(step) for step in x] for name, curve in curves.items()}, low=0, high=1)


def lengths(lines: Lines, names: Sequence[str], place: Mapping[str, int]) -> list[Figure | None]:
    """How long turns are: by role where that is stored, else over all."""
    roles = sorted(_below(names, "health/length/"), key=lambda role: (place.get(role, 99), role))
    x = [line.number for line in lines]
    if roles:
        curves = {role: [line.figures.get(f"health/length/{role}") for line in lines] for role in roles}
    else:
        curves = {"all turns": [_ratio(line, "tokens", "turns") for line in lines]}
    return [_hued(figure("Length of a turn", x, curves, unit="tokens", low=0), place)]


def _rates(lines: Lines) -> dict[str, list[float | None]]:
    return {
        "played": [_ratio(line, "tokens", "play_seconds") for line in lines],
        "trained": [_ratio(line, "train/tokens", "train_seconds") for line in lines],
    }


def _seconds(lines: Lines) -> dict[str, list[float | None]]:
    return {
        "whole": [line.seconds for line in lines],
        "play": [line.figures.get("play_seconds") for line in lines],
        "train": [line.figures.get("train_seconds") for line in lines],
    }


def _ratio(line: StepLine, over: str, under: str) -> float | None:
    above, below = line.figures.get(over), line.figures.get(under)
    return above / below if above is not None and below else None


def _rewarded(lines: Lines, place: Mapping[str, int]) -> list[str]:
    found = {role for line in lines for role in line.rewards}
    return sorted(found, key=lambda role: (place.get(role, 99), role))


def _hued(one: Figure | None, place: Mapping[str, int]) -> Figure | None:
    """Curves of roles in the colours of the roles."""
    if one is not None:
        taken = {place[serie["name"]] for serie in one["series"] if serie["name"] in place}
        free = (index for index in range(99) if index not in taken)
        for serie in one["series"]:
            serie["hue"] = place[serie["name"]] if serie["name"] in place else next(free)
    return one


def _short(name: str, tail: str) -> str:
    return name.removesuffix(tail).strip("/") or tail


def _all(lines: Lines) -> list[str]:
    """Every name of a figure, in order."""
    return sorted({name for line in lines for name in line.figures})


def _below(names: Sequence[str], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def summaries(lines: Lines, summary: Callable[[str], bool] = lambda name: not name.startswith(SAMPLES)) -> list[Figure]:
    """Every stored figure: its first and last value, its range, and a short curve."""
    found = []
    for name in filter(summary, _all(lines)):
        known = [value for line in lines if (value := line.figures.get(name)) is not None]
        finite = [value for value in known if abs(value) < float("inf")]  # NaN compares false
        if finite:
            by = -(-len(finite) // 60)
            found.append(
                {
                    "name": name,
                    "steps": len(known),
                    "first": finite[0],
                    "last": known[-1],
                    "low": min(finite),
                    "high": max(finite),
                    "curve": finite[::by],
                }
            )
    return found
