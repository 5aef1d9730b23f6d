"""What measuring a recipe gave: the file it is kept in, the difference with its interval, and how it is told."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.yaml_text import parse
from sparring.storage.intervals import Interval, difference

from .book import Recipe, put, recipes

RECIPE = "recipe"  # the arm that is no control
EFFECTS = "effects.md"


@dataclass(frozen=True)
class Ran:
    """One run: its arm's name and seed, the metric over ``tasks`` held-out tasks, tokens sampled, CPU seconds."""

    arm: str
    seed: int
    value: float
    tasks: int
    tokens: int
    steps: int
    cpu_s: float
    status: str


@dataclass(frozen=True)
class Result:
    """All runs of a recipe and its controls. ``digest`` is the recipe's when they ran, ``about`` where they did."""

    recipe: str
    digest: str
    metric: str
    claim: str
    about: Mapping[str, Any]
    runs: Sequence[Ran]

    def of(self, arm: str) -> dict[int, float]:
        """An arm's values by seed."""
        return {run.seed: run.value for run in self.runs if run.arm == arm}

    @property
    def controls(self) -> list[str]:
        """The controls that ran, in their order."""
        return [arm for arm in dict.fromkeys(run.arm for run in self.runs) if arm != RECIPE]

    def against(self, control: str) -> Interval:
        """Recipe minus control over the seeds of both, paired."""
        ours, theirs = self.of(RECIPE), self.of(control)
        both = sorted(ours.keys() & theirs.keys())
        return difference({seed: theirs[seed] for seed in both}, {seed: ours[seed] for seed in both})[0]

    def verdict(self, control: str) -> str:
        """What the interval says of the paper's claim, in words."""
        found = self.against(control)
        if found.low is None or found.high is None:
            return "one seed says nothing"
        if found.low <= 0 <= found.high:
            return "no effect shown"
        return "as claimed" if (found.mean > 0) == (self.claim == "higher") else "the other way"

    def measured(self, control: str) -> str:
        """One control's comparison in a line."""
        ours, theirs, found = *self.means(control), self.against(control)
        return (
            f"{self.metric} {ours:.3f} against {theirs:.3f} ({control}), {spread(found)}, "
            f"{found.n} seeds: {self.verdict(control)}"
        )

    def means(self, control: str) -> tuple[float, float]:
        """The recipe's mean and the control's, over the seeds of both: what ``against`` is the difference of."""
        ours, theirs = self.of(RECIPE), self.of(control)
        both = ours.keys() & theirs.keys()
        return fmean(ours[seed] for seed in both), fmean(theirs[seed] for seed in both)


def spread(found: Interval) -> str:
    """A difference with its interval.

    >>> spread(Interval(0.039, 0.0104, 0.0682, 3))
    '+0.039 [+0.010, +0.068]'
    """
    inside = "" if found.low is None or found.high is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.mean:+.3f}{inside}"


def save(result: Result, file: Path) -> None:
    """Write a result as JSON."""
    file.parent.mkdir(exist_ok=True)
    differences = {name: {**asdict(result.against(name)), "verdict": result.verdict(name)} for name in result.controls}
    data = {**asdict(result), "differences": differences}
    runs = ",\n  ".join(json.dumps(run) for run in data.pop("runs"))
    text = json.dumps({**data, "runs": []}, indent=1)
    put(file, text.replace('"runs": []', f'"runs": [\n  {runs}\n ]') + "\n")


def stored(recipe: Recipe) -> Result | None:
    """The result that lies beside a recipe, ``None`` without one. Raises ``ScenarioError`` for a file that is none."""
    if not recipe.result_file.is_file():
        return None
    try:
        data = json.loads(recipe.result_file.read_text())
        runs = tuple(Ran(**run) for run in data["runs"])
        result = Result(data["recipe"], data["digest"], data["metric"], data["claim"], data["about"], runs)
        for name in result.controls:
            result.measured(name)
        return result
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScenarioError(f"{recipe.result_file}: is no result of sparring recipes measure: {error}") from error


def note(text: str, measured: str) -> str:
    """A recipe's YAML with its ``measured:`` line set, all else as it was. Raises ``ScenarioError`` if it cannot."""
    lines = text.splitlines(keepends=True)
    begin = next((at for at, line in enumerate(lines) if re.match(r"recipe:\s*(#.*)?$", line)), None)
    if begin is None:
        raise ScenarioError("no line `recipe:` with a block below it, so measured: cannot be written; write it so")
    end = next((at for at in range(begin + 1, len(lines)) if re.match(r"[^\s#]", lines[at])), len(lines))
    while end > begin + 1 and re.match(r"#|\s*$", lines[end - 1]):
        end -= 1
    keys = [line for line in lines[begin + 1 : end] if not re.match(r"\s*(#|$)", line)]
    indent, newline = re.match(r" *", (keys or [""])[0]), "\r\n" if lines[begin].endswith("\r\n") else "\n"
    margin = "" if indent is None else indent[0]
    said = f"{margin}measured: {json.dumps(measured)}{newline}"
    at = next((at for at in range(begin + 1, end) if lines[at].startswith(f"{margin}measured:")), None)
    if at is None:
        whole = lines[end - 1] if lines[end - 1].endswith("\n") else lines[end - 1] + newline
        found = "".join([*lines[: end - 1], whole, said, *lines[end:]])
    else:
        inner = (other for other in range(at + 1, end) if lines[other].strip())
        after = next((other for other in inner if not lines[other].startswith(f"{margin} ")), end)
        found = "".join([*lines[:at], said, *lines[after:]])
    _only_measured(text, found, measured)
    return found


def _only_measured(before: str, after: str, measured: str) -> None:
    """Raise ``ScenarioError`` when more than ``measured:`` differs, or the text is no YAML any more."""
    why = "its recipe: block is written in a way in which measured: cannot be set; write it as lines below `recipe:`"
    try:
        was, now = parse(before, "recipe").value, parse(after, "recipe").value
    except ScenarioError as error:
        raise ScenarioError(f"{why} ({error})") from error
    if now != {**was, "recipe": {**was["recipe"], "measured": measured}}:
        raise ScenarioError(why)


def effects(folder: Path) -> str:
    """The page of every measured recipe of a folder: a row for each control."""
    rows = []
    for one in recipes(folder):
        result = stored(one)
        rows += _rows(one, result) if result is not None else []
    return HEAD + "\n".join(rows) + "\n"


HEAD = """\
# What was measured

Written by `sparring recipes measure NAME --write`; not by hand. A value is the mean over seeds of the metric on
held-out tasks, measured once at the end of each run. A control is the recipe with its mechanism off, trained until it
has sampled as many tokens. The difference is recipe minus control, paired by seed, with its 95 % t interval: where that
holds 0, no effect is shown, whatever the mean. Tokens and CPU seconds are means of one run, recipe and control. All
runs are in `results/`.

| recipe | metric | recipe | control | value | difference | seeds | claimed | shown | tokens | CPU s |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def _rows(recipe: Recipe, result: Result) -> list[str]:
    rows = []
    for name in result.controls:
        ours, theirs = result.means(name)
        of = {arm: [run for run in result.runs if run.arm == arm] for arm in (RECIPE, name)}
        tokens = " / ".join(f"{fmean(run.tokens for run in of[arm]):,.0f}" for arm in of)
        seconds = " / ".join(f"{fmean(run.cpu_s for run in of[arm]):.0f}" for arm in of)
        cells = (
            f"[{recipe.slug}]({recipe.file.name})", f"`{result.metric}`", f"{ours:.3f}", f"`{name}`",
            f"{theirs:.3f}", spread(result.against(name)), str(result.against(name).n), result.claim,
            result.verdict(name), tokens, seconds,
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows
