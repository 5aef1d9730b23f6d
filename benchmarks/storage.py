"""How fast steps are saved and how large they are: ``python benchmarks/storage.py [STEPS]``. Needs no model."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from sparring.storage.queries import select_rows
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.storage.tables import Base


def main(steps: int = 60) -> None:
    """Save ``steps`` steps of 12 episodes to a fresh file and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sparring.db"
        begun = time.perf_counter()
        store = Store(file)
        opened_s = time.perf_counter() - begun
        store.start_run("benchmark", {}, "benchmark", 0)
        records = [sample_step(number) for number in range(steps)]
        cpu_ms, wall_ms = [], []
        for record in records:
            cpu, wall = time.process_time(), time.perf_counter()
            store.save_step("r1", record)
            cpu_ms.append(1000 * (time.process_time() - cpu))
            wall_ms.append(1000 * (time.perf_counter() - wall))
        counts = {
            name: select_rows(store, f'SELECT count(*) FROM "{name}"').rows[0][0] for name in Base.metadata.tables
        }
        begun = time.perf_counter()
        select_rows(store, "SELECT * FROM v_lineage LIMIT 5")
        lineage_ms = 1000 * (time.perf_counter() - begun)
        store.close()
        rows, size = sum(counts.values()), file.stat().st_size
        turns = [turn for record in records for episode in record.episodes for turn in episode.turns]
        sampled = sum(len(turn.token_ids) for turn in turns)
        read = sum(len(turn.context.token_ids) for turn in turns if turn.context is not None)
        print(f"open a fresh database        {1000 * opened_s:8.0f} ms")
        print(f"save a step, CPU             {statistics.median(cpu_ms):8.1f} ms (first {cpu_ms[0]:.0f})")
        print(f"save a step, wall            {statistics.median(wall_ms):8.1f} ms (worst {max(wall_ms):.0f})")
        shown = ", ".join(f"{counts[name] / steps:.0f} {name}" for name in ("turns", "scores", "criterion_scores"))
        print(f"rows per step                {rows / steps:8.0f}  ({shown})")
        print(f"rows per second              {1000 * rows / sum(wall_ms):8.0f}")
        print(f"bytes per turn               {size / len(turns):8.0f}  ({sampled / len(turns):.0f} tokens sampled)")
        print(f"bytes per 1,000 tokens       {1000 * size / sampled:8.0f}  sampled")
        print(f"                             {1000 * size / (sampled + read):8.0f}  sampled and read")
        print(f"v_lineage LIMIT 5            {lineage_ms:8.1f} ms")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
