"""What graph, environment, scoring and database cost: token rate of whole steps against the engine's own.

    python benchmarks/whole_way.py [SCENARIO] [--rounds 5] [-s key=value ...]

Each round plays one step (teacher, sandbox, rubrics, attempts, critiques, revisions), settles it and saves it, then
gives the very same requests to the engine alone, in the same batches. Ratios are within a round, so load cancels.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sparring.agents.engine import Completion, Request
from sparring.envs.types import Episode, Pick
from sparring.scenarios.load import load
from sparring.storage.records import StepRecord
from sparring.storage.store import Store
from sparring.training import session as sessions
from sparring.training.curriculum.grid import spread


def record(session: sessions.Session) -> list[Sequence[Request]]:
    """Keep every batch the engine is given from now on."""
    kept: list[Sequence[Request]] = []
    engine = session.engine
    sample = engine.sample

    def recording(requests: Sequence[Request]) -> list[Completion]:
        kept.append(requests)
        done: list[Completion] = sample(requests)
        return done

    engine.sample = recording
    engine.plain_sample = sample
    return kept


def whole(session: sessions.Session, step: int) -> list[Episode]:
    """One step without the update: play, settle, credit, save."""
    scenario = session.scenario
    cells = spread(scenario.curriculum.options)
    share = scenario.rollout.episodes // len(cells)
    picks = [Pick(name, cell, share) for name, cell in cells.items()]
    episodes = asyncio.run(session.rollout.play(picks, step))
    made = session.plan.make(session.plan.due(step, {}), episodes, step)
    row = StepRecord(step, tuple(picks), tuple(episodes), tuple(made.groups), tuple(made.advantages))
    session.store.save_step(session.run, row)
    return episodes


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="?", default="code-output")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-s", dest="overrides", action="append", default=[])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenario = load(asked.scenario, [*asked.overrides, "evaluation.every=0"])
        session = sessions.start(scenario, Store(Path(folder) / "bench.db"))
        kept = record(session)
        ratios, rates, alone_rates, turns = [], [], [], 0
        for step in range(asked.rounds + 1):
            kept.clear()
            began = time.perf_counter()
            episodes = whole(session, step)
            took = time.perf_counter() - began
            began = time.perf_counter()
            tokens = sum(len(done.token_ids) for batch in kept for done in session.engine.plain_sample(batch))
            alone = time.perf_counter() - began
            if step:  # the first round starts sandbox workers
                turns += sum(bool(turn.token_ids) for episode in episodes for turn in episode.turns)
                ratios.append(alone / took)
                rates.append(tokens / took)
                alone_rates.append(tokens / alone)
        size = sum(file.stat().st_size for file in Path(folder).glob("bench.db*"))
        session.close()
    print(f"{scenario.name}: {asked.rounds} steps, {turns} role turns; database {size / 1e6:.1f} MB")
    for name, values in (("whole way tok/s", rates), ("engine alone tok/s", alone_rates), ("ratio", ratios)):
        print(f"{name:20} median {statistics.median(values):9.2f}  min {min(values):9.2f}  max {max(values):9.2f}")


if __name__ == "__main__":
    main()
