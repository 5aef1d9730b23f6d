"""Whether arms and ranges fit the environment: of the curriculum, and those that held-out tasks are spread over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .problems import KeyPath, Problems, shown, unknown
from .schema import Scenario


def check_arms(scenario: Scenario, world: Any, problems: Problems) -> None:
    """Note arms and ranges that name no parameter of the environment, or values that it does not take."""
    listed, ranges = getattr(world, "parameters", None), getattr(world, "ranges", {})
    if not isinstance(listed, Mapping):
        return
    options = scenario.curriculum.options
    path: KeyPath
    for path, arms in (
        (("curriculum", "arms"), options.get("arms")),
        (("evaluation", "arms"), scenario.evaluation.arms),
    ):
        for name, values in arms.items() if isinstance(arms, Mapping) else ():
            _check_values((*path, name), values, name, listed, ranges, problems)
    spans = options.get("ranges")
    for name, bounds in spans.items() if isinstance(spans, Mapping) else ():
        path = ("curriculum", "ranges", name)
        if name in (options.get("arms") or {}):
            problems.add(path, "is among the arms too; a parameter is listed or continuous")
        _check_range(path, bounds, name, listed, ranges, problems)


def _check_values(
    path: KeyPath, values: Any, name: str, listed: Mapping[str, Any], ranges: Mapping[str, Any], problems: Problems
) -> None:
    if name not in listed and name not in ranges:
        problems.add(path, unknown("parameter of the environment", name, {**listed, **ranges}))
        return
    choices = listed.get(name)
    for index, value in enumerate(values) if isinstance(values, (list, tuple)) else ():
        if isinstance(choices, (list, tuple, range, set, frozenset)):
            if value not in choices:
                problems.add((*path, index), f"found {shown(value)}; allowed: {', '.join(map(str, choices))}")
        elif name in ranges and not _inside(value, ranges[name]):
            low, high = ranges[name]
            problems.add((*path, index), f"found {shown(value)}; it lies between {low} and {high}")


def _check_range(
    path: KeyPath, bounds: Any, name: str, listed: Mapping[str, Any], ranges: Mapping[str, Any], problems: Problems
) -> None:
    if name not in ranges:
        if name in listed:
            problems.add(path, "is not continuous: list its values under curriculum.arms")
        else:
            problems.add(path, unknown("continuous parameter of the environment", name, ranges))
        return
    if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
        return  # the curriculum's own options have told it
    low, high = ranges[name]
    for index, value in enumerate(bounds):
        if not _inside(value, (low, high)):
            problems.add((*path, index), f"found {shown(value)}; it lies between {low} and {high}")
    whole, written = _whole((low, high)), [_whole((value,)) for value in bounds]
    if whole and not all(written):
        problems.add(path, f"found {shown(list(bounds))}; it is a whole number: write bounds without a point")
    if not whole and all(written):
        wanted = ", ".join(f"{value}.0" for value in bounds)
        problems.add(path, f"found {shown(list(bounds))}, which would mean whole numbers only; write [{wanted}]")


def _whole(values: Any) -> bool:
    return all(isinstance(value, int) for value in values)


def _inside(value: Any, bounds: tuple[float, float]) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and bounds[0] <= value <= bounds[1]
