"""How much of the engine's own rate is left once role graph, environment with slow tools, scores and database are on.

    python benchmarks/rollout.py [--slots 32] [--tool 1.0] [--rounds 3] [--out benchmarks/results/DATE-rollout.md]

Every episode asks for a tool that takes a second (it sleeps) between two turns. What is played goes through the role
graph, the environment's threads, settling and the database, as a step of a run does without its update. Then the very
same requests are given to the engine alone, all known beforehand, with as many slots: that is its own rate. The ratio
is of wall times within a round, so a busy machine cancels in part; that of CPU time leaves waiting out. Turns have no
stop token, so their length is exact.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict
from transformers.utils import logging

from sparring.agents.engine import Completion, Engine, Request
from sparring.agents.stage import POLICY
from sparring.envs.base import Environment
from sparring.envs.types import Pick, Score, Task
from sparring.scenarios.load import load
from sparring.scenarios.registry import environments
from sparring.storage.records import StepRecord
from sparring.storage.store import Store
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.session import Session, start


class SlowToolOptions(BaseModel):
    """``wait_s``: how long a call of the tool takes. ``calls``: how many there are before the last turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    wait_s: float = 1.0
    calls: int = 3


@environments("slow-tool")
class SlowTool(Environment):
    """Whatever is said, a tool answers a while later with a number."""

    Config = SlowToolOptions
    unaudited = "its tool verifies nothing"

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A number to begin with."""
        return Task("slow-tool", {"number": int(rng.integers(10**9))})

    def begin(self, task: Task) -> str:
        """The number."""
        self.used = 0
        return f"begin with {task.payload['number']}"

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """The tool's answer; the action after the last call ends the episode at once."""
        if self.used >= self.config.calls:
            return "", 1.0, True, False, {"scores": [Score.valued("verifier", len(action) % 2, "slow-tool")]}
        time.sleep(self.config.wait_s)
        self.used += 1
        return f"answer {self.used}", 0.0, False, False, {"scores": []}

    def state(self) -> object:
        """Calls made."""
        return self.used

    def set_state(self, state: Any) -> None:
        """Back to that."""
        self.used = state


@dataclass(frozen=True)
class Setting:
    """``tokens`` a turn, ``episodes`` a step; an episode has one turn more than tool calls."""

    name: str
    tokens: int
    episodes: int


@dataclass
class Recorder:
    """An engine that remembers what it was asked."""

    inner: Engine
    kept: list[Request]

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """As the engine does."""
        self.kept += requests
        return await self.inner.generate(requests)


SCENARIO = """
name: rollout-benchmark
policy: {{model: "builtin:tiny"}}
engine: {{kind: transformers, slots: {slots}}}
environment: {{kind: slow-tool, wait_s: {tool}, calls: {calls}}}
roles:
  solver: {{kind: plain, prompt: dialogue/brief, sampling: {{max_tokens: {tokens}}}, reward: [verifier]}}
graph:
  nodes: {{act: {{role: solver}}, look: {{do: step}}, go_on: {{role: solver}}}}
  edges: [act -> look, look -> go_on if unfinished, go_on -> look]
rollout: {{episodes: {episodes}, picks: 1, workers: {workers}, deterministic: {deterministic}}}
evaluation: {{every: 0}}
"""


@contextmanager
def opened(setting: Setting, asked: argparse.Namespace, barrier: bool) -> Iterator[tuple[Session, list[Request]]]:
    """A run of the scenario with a database of its own, and the list its requests are kept in."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rollout.yaml"
        options = vars(asked) | {"tokens": setting.tokens, "episodes": setting.episodes}
        file.write_text(SCENARIO.format(**options, deterministic=str(barrier).lower()))
        session = start(load(str(file)), Store(Path(folder) / "bench.db"))
        session.engine.stop_ids = frozenset()  # type: ignore[attr-defined]  # the embedded engine's own
        kept: list[Request] = []
        runtime = session.rollout.runtime
        recorder = Recorder(runtime.engines[POLICY], kept)
        session.rollout.runtime = replace(runtime, engines={**runtime.engines, POLICY: recorder})
        try:
            yield session, kept
        finally:
            session.close()


def whole(session: Session, episodes: int, step: int) -> None:
    """One step without its update: play, settle, credit, save."""
    picks = [Pick("all", {}, episodes)]
    played = asyncio.run(session.rollout.play(picks, step))
    made = session.plan.make(session.plan.due(step, {}), played, step)
    row = StepRecord(step, tuple(picks), tuple(played), tuple(made.groups), tuple(made.advantages))
    session.store.save_step(session.run, row)


def timed(call: Any, *arguments: Any) -> tuple[float, float]:
    """Wall and CPU seconds of a call, all threads together."""
    wall, cpu = time.perf_counter(), time.process_time()
    call(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def one_round(
    setting: Setting, asked: argparse.Namespace, session: Session, kept: list[Request], step: int
) -> dict[str, float]:
    """Rates of the whole way and of the engine alone on the same requests."""
    kept.clear()
    wall, cpu = timed(whole, session, setting.episodes, step)
    alone = TransformersEngine(session.policy.model, (), TransformersEngine.Config(slots=asked.slots))
    tokens = sum(request.sampling.max_tokens for request in kept)
    requests = list(kept)
    own_wall, own_cpu = timed(alone.sample, requests)
    return {
        "tok/s": tokens / wall,
        "engine's own tok/s": tokens / own_wall,
        "ratio": own_wall / wall,
        "ratio of CPU time": own_cpu / cpu,
    }


def row(name: str, rounds: Sequence[Mapping[str, float]]) -> str:
    """Medians, with the smallest and largest."""
    cells = []
    for key in rounds[0]:
        values = [figures[key] for figures in rounds]
        digits = 0 if "tok/s" in key else 2
        cells.append(
            f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
        )
    return f"| {name} | {' | '.join(cells)} |"


def table(asked: argparse.Namespace) -> Iterator[str]:
    """The report, line by line; settings and modes take turns within a round."""
    settings = [
        Setting(f"{asked.long} tokens a turn", asked.long, asked.episodes),
        Setting(f"{asked.short} tokens a turn", asked.short, asked.episodes),
    ]
    found: dict[str, list[dict[str, float]]] = {}
    for turn in range(asked.rounds):
        for setting in settings:
            for barrier in (False, True):
                with opened(setting, asked, barrier) as (session, kept):
                    how = "all turns together" if barrier else "each when it can"
                    figures = one_round(setting, asked, session, kept, turn + 1)
                    found.setdefault(f"{setting.name}, {how}", []).append(figures)
    yield "# Rollout: the engine's rate with graph, slow tools and database around it\n"
    yield (__doc__ or "").strip() + "\n"
    day, load_now = datetime.date.today(), os.getloadavg()[0]
    yield (
        f"Measured {day}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, {asked.threads} thread(s) in the engine, load at the end {load_now:.1f}.\n"
    )
    yield (
        f"{asked.slots} slots, {asked.episodes} episodes a step, {asked.calls} tool calls of {asked.tool:g} s and "
        f"{asked.calls + 1} turns each, up to {asked.workers} tools at work at once; {asked.rounds} rounds, medians "
        "(smallest to largest).\n"
    )
    yield f"| | {' | '.join(next(iter(found.values()))[0])} |"
    yield "| --- " * 5 + "|"
    for name, rounds in found.items():
        yield row(name, rounds)
    yield (
        "\n'each when it can' is `rollout: {deterministic: false}`, where a request joins the engine in mid-decode; "
        "'all turns together' is `true`, where the engine is asked once nothing else moves."
    )


def main() -> None:
    """Run and print or write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"slots": 32, "episodes": 96, "workers": 64, "calls": 2, "long": 250, "short": 16, "rounds": 3}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tool", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    logging.disable_progress_bar()
    report = "\n".join(table(asked)) + "\n"
    if asked.out is None:
        print(report)
    else:
        asked.out.write_text(report)


if __name__ == "__main__":
    main()
