"""Does self-play teach? The shipped scenario against its control, several seeds, held-out accuracy before and after.

    python benchmarks/learning.py [--seeds 0 1 2] [--steps N] [--out scenarios/code-output.results.md]

The control has the same budget of steps and episodes, but its teacher is frozen and its curriculum is random. Accuracy
is on 200 held-out tasks at temperature 1, and greedy once at the end. Critic and rubric-writer are measured at the end
on 100 held-out tasks; "in play" figures are means over the last ten steps, on programs the teacher wrote to be hard.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sparring.scenarios.load import load
from sparring.storage.store import Store
from sparring.training import loop
from sparring.training import session as sessions

SCENARIO = "code-output"
WAYS = {
    "self-play": [],
    "control": ["roles.teacher.trainable=false", "curriculum={kind: random, arms: {depth: [2, 3, 4]}}"],
}
LAST = 10
ROLE_TASKS = 100
ON_HELD_OUT = {
    "balanced/critic": "critic, balanced",
    "score/rubric_writer/agreement": "rubric agreement",
    "score/rubric_writer/junk_share": "junk earns",
}
IN_PLAY = {"accepted": "proposals accepted", "balanced/critic": "critic in play"}

ROLES = (*ON_HELD_OUT.values(), *IN_PLAY.values())


@dataclass(frozen=True)
class Result:
    """One run."""

    way: str
    seed: int
    before: float
    after: float
    greedy: float
    minutes: float
    tokens: int
    to_target: float | None
    roles: dict[str, float]


def run(way: str, seed: int, more: list[str]) -> Result:
    """One whole run in a database of its own."""
    scenario = load(SCENARIO, [*WAYS[way], f"seed={seed}", *more])
    told: list[loop.Told] = []
    clock: list[float] = []

    def watch(news: loop.Told) -> None:
        told.append(news)
        clock.append(time.monotonic() - began)
        accuracy = held_out(news)
        if accuracy is not None:
            print(f"  {way} seed {seed} step {news.step}: {accuracy:.3f} after {clock[-1] / 60:.1f} min", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        session = sessions.start(scenario, Store(Path(folder) / "learning.db"))
        began = time.monotonic()
        asyncio.run(loop.learn(session, watch))
        minutes = (time.monotonic() - began) / 60
        assert session.evaluation is not None
        greedy = asyncio.run(session.evaluation.measure(-1, 0.0))[0].value
        roles = asyncio.run(session.evaluation.roles(session.rollout.graph, ROLE_TASKS))
        session.close()
    curve = [(at, value) for news, at in zip(told, clock, strict=True) if (value := held_out(news)) is not None]
    return Result(
        way, seed, curve[0][1], curve[-1][1], greedy, minutes,
        int(sum(news.figures.get("tokens") or 0 for news in told)),
        next((at / 60 for at, value in curve if value >= 0.8), None),
        {said: value for name, said in ON_HELD_OUT.items() if (value := roles.get(name)) is not None}
        | {said: late for name, said in IN_PLAY.items() if (late := mean_of(told[-LAST:], name)) is not None},
    )  # fmt: skip


def held_out(news: loop.Told) -> float | None:
    """Accuracy over all arms, when this step measured it."""
    return next((row.value for row in news.evaluations if row.name == "accuracy" and not row.parameters), None)


def mean_of(told: list[loop.Told], name: str) -> float | None:
    """Mean of a figure over the steps that have it."""
    values = [value for news in told if (value := news.figures.get(name)) is not None]
    return statistics.fmean(values) if values else None


def table(results: list[Result]) -> str:
    """Markdown: a row per run, then mean and spread per way, then the difference."""
    heads = ["way", "seed", "before", "after", "greedy", "min to 0.80", "minutes", "tokens", *ROLES]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for result in results:
        reached = f"{result.to_target:.1f}" if result.to_target is not None else "not reached"
        roles = [f"{result.roles[name]:.3f}" if name in result.roles else "" for name in ROLES]
        figures = [f"{result.before:.3f}", f"{result.after:.3f}", f"{result.greedy:.3f}", reached]
        cells = [result.way, str(result.seed), *figures, f"{result.minutes:.1f}", f"{result.tokens:,}", *roles]
        lines.append("| " + " | ".join(cells) + " |")
    gains = {way: [row.after for row in results if row.way == way] for way in WAYS}
    said = [
        f"{way}: mean {statistics.fmean(ends):.3f} (from {min(ends):.3f} to {max(ends):.3f})"
        for way, ends in gains.items()
        if ends
    ]
    lines += ["", "Held-out accuracy after training. " + "; ".join(said) + "."]
    if all(gains.values()):
        gap = statistics.fmean(gains["self-play"]) - statistics.fmean(gains["control"])
        lines.append(f"Self-play minus control: {gap:+.3f}.")
    return "\n".join(lines)


def main() -> None:
    """Run every way with every seed, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("-s", dest="overrides", action="append", default=[])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    more = [*asked.overrides, *([f"training.steps={asked.steps}"] if asked.steps is not None else [])]
    results = [run(way, seed, more) for seed in asked.seeds for way in asked.ways]
    text = table(results)
    print(text)
    if asked.out is not None:
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        made = f"{datetime.date.today()}, {machine}"
        asked.out.write_text(f"# {SCENARIO}: self-play against its control\n\n{__doc__}\nMeasured {made}.\n\n{text}\n")


if __name__ == "__main__":
    main()
