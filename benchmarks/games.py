"""How many games a second of processor time gives: the rules alone, the environment, and whole self-play of a policy.

Run ``python benchmarks/games.py``. Processor seconds of one process with one thread, so that a busy machine does not
change them; the last column is the wall clock. Self-play is what a step of ``scenarios/kuhn.yaml`` plays: roles,
prompts, the built-in model, the role graph, scores; nothing is trained or stored.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from sparring.envs.games.base import GameEnvironment
from sparring.envs.games.exact import exploitability, uniform
from sparring.envs.games.ghost import GhostEnvironment
from sparring.envs.games.kuhn import KuhnEnvironment
from sparring.envs.games.leduc import LeducEnvironment
from sparring.envs.games.tictactoe import TicTacToeEnvironment
from sparring.envs.types import Pick
from sparring.scenarios.load import load
from sparring.storage.store import Store
from sparring.training.session import start

GAMES: tuple[type[GameEnvironment], ...] = (KuhnEnvironment, LeducEnvironment, TicTacToeEnvironment, GhostEnvironment)
SECONDS = 2.0
DEALS = 64


def bare(kind: type[GameEnvironment]) -> int:
    """One game of uniform moves on the rules alone."""
    rng = np.random.default_rng(0)
    deals = kind.rules.deals()
    state = deals[int(rng.integers(len(deals)))].start
    while moves := state.legal():
        state = state.after(moves[int(rng.integers(len(moves)))])
    state.returns()
    return 1


def stepped(environment: GameEnvironment) -> int:
    """One game through the environment: reset, observations, scores."""
    environment.reset()
    over = False
    while not over:
        over = environment.step(environment.oracle() or "")[2]
    return 1


def rate(once: Callable[[], int]) -> tuple[float, float]:
    """Games per processor second and per second of the clock, after one warm-up."""
    once()
    games, cpu, clock = 0, time.process_time(), time.perf_counter()
    while time.process_time() - cpu < SECONDS:
        games += once()
    return games / (time.process_time() - cpu), games / (time.perf_counter() - clock)


def self_play(graph: str, games_per_deal: int) -> tuple[float, float]:
    """Kuhn poker by the built-in model in both seats."""
    with tempfile.TemporaryDirectory() as folder:
        changes = ["roles.first.demonstrated=0.0", "roles.second.demonstrated=0.0", *([graph] if graph else [])]
        with closing(start(load("kuhn", changes), Store(Path(folder) / "sparring.db"))) as session:
            steps = iter(range(1, 1_000_000))

            def once() -> int:
                episodes = asyncio.run(session.rollout.play([Pick("all", {}, DEALS)], next(steps)))
                return len(episodes) * games_per_deal

            return rate(once)


def main() -> None:
    """Print the tables."""
    print("| games | per CPU second | per second |\n|---|--:|--:|")
    for kind in GAMES:
        name = kind.rules.name
        environment = kind({"oracle": "uniform"})
        environment.reset(seed=0)
        for what, once in (("rules", lambda kind=kind: bare(kind)), ("environment", lambda e=environment: stepped(e))):
            cpu, clock = rate(once)
            print(f"| {name}: {what} | {cpu:,.0f} | {clock:,.0f} |", flush=True)
    for label, graph, count in (("one game per deal", "graph=two-seats", 1), ("four games per deal", "", 4)):
        cpu, clock = self_play(graph, count)
        print(f"| kuhn: self-play, {label} | {cpu:,.0f} | {clock:,.0f} |", flush=True)
    print("\n| exploitability of uniform play | value | CPU milliseconds |\n|---|--:|--:|")
    for kind in GAMES:
        clock = time.process_time()
        found = exploitability(kind.rules, uniform)
        print(f"| {kind.rules.name} | {found:.4f} | {1000 * (time.process_time() - clock):.0f} |", flush=True)


if __name__ == "__main__":
    main()
