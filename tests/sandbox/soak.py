"""Thousands of programs in a row, attacks among controls, on one sandbox: what hangs, leaks, grows or answers wrong."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sparring.envs.code.sandbox import Limits, Outcome, Ran, Sandbox

sys.path.insert(0, str(Path(__file__).parent))
from attacks import ATTACKS, PRELUDE
from leaks import ARTEFACTS
from scene import Scene

LIMITS = Limits(wall_s=0.3, cpu_s=1, memory_mb=128)
PATIENT = Limits(wall_s=5.0, cpu_s=1, memory_mb=128)  # a control that waits for a busy machine is not wrong
LATE_S = 4.0
WARM_UP = 200  # programs before the counts are taken


@dataclass
class Held:
    """What a sandbox holds: processes below it, descriptors here and in its zygotes, mounts they see, their memory."""

    processes: int
    descriptors: int
    mounts: int
    rss_kb: int


@dataclass
class Soak:
    """``wrong``: controls that did not answer right; ``worked``: attacks that left their proof or secret."""

    programs: int
    attacks: int
    controls: int
    live: int
    hung: int
    wrong: int
    worked: int
    ours: int
    restarts: int
    before: Held
    after: Held
    seconds: float

    def faults(self) -> dict[str, int]:
        """All that should be zero; growth of memory in KiB above the 1 MiB allowed."""
        before, after = asdict(self.before), asdict(self.after)
        kinds = ("processes", "descriptors", "mounts")  # fewer than before is what other tests left and lost meanwhile
        grown = {f"leaked {name}": max(0, after[name] - before[name]) for name in kinds}
        grown["rss above 1 MiB"] = max(0, after["rss_kb"] - before["rss_kb"] - 1024)
        counts = {name: getattr(self, name) for name in ("hung", "wrong", "worked", "ours", "restarts")}
        return {name: number for name, number in {**counts, **grown}.items() if number}


def soak(programs: int, seed: int = 0, tier: str = "auto") -> Soak:
    """Run that many programs, half of them attacks drawn at random, a fifth of all in live children."""
    rng = np.random.Generator(np.random.Philox(seed))
    token, names = "secret" + os.urandom(8).hex(), [*ATTACKS, *ARTEFACTS]
    counts = dict.fromkeys(("attacks", "controls", "live", "hung", "wrong", "worked", "ours"), 0)
    with contextlib.closing(Scene(token)) as scene, Sandbox(tier, workers=1) as box:
        before, began = held(box), time.monotonic()
        for number in range(programs + WARM_UP):
            if number == WARM_UP:
                before, began = held(box), time.monotonic()
                counts = dict.fromkeys(counts, 0)
            live = bool(rng.random() < 0.2)
            attack = rng.random() < 0.5
            name = str(rng.choice(names))
            started = time.monotonic()
            if attack:
                ran = _run(box, scene.names() + PRELUDE + {**ATTACKS, **ARTEFACTS}[name].source, live, LIMITS)
                said = ran.stdout + ran.stderr_tail
                # that a file exists shows on one tier: the corpus names it, the soak counts the rest
                tolerated = name == "stat_secret_metadata" and box.tier == "landlock"
                counts["worked"] += (scene.proof in said or token in said) and not tolerated
            else:
                ran = _run(box, f"print(sum(range(10)) + {number})", live, PATIENT)
                counts["wrong"] += (ran.outcome, ran.stdout) != (Outcome.OK, f"{45 + number}\n")
            counts["attacks" if attack else "controls"] += 1
            counts["live"] += live
            counts["hung"] += time.monotonic() - started > (LIMITS if attack else PATIENT).wall_s + LATE_S
            counts["ours"] += ran.outcome is Outcome.SANDBOX_ERROR
        seconds = time.monotonic() - began
        return Soak(programs, **counts, restarts=box.restarts, before=before, after=held(box), seconds=seconds)


def _run(box: Sandbox, source: str, live: bool, limits: Limits) -> Ran:
    if not live:
        return box.run(source, limits=limits)
    with box.open(source, limits=limits) as child:
        said = child.started
    return Ran(said.outcome, said.stdout, said.stderr_tail, (), said.cpu_s, said.wall_s, box.tier)


def held(box: Sandbox) -> Held:
    """Counted by the kernel, once every child has had a moment to be reaped."""
    gc.collect()  # what other tests left open goes before it is counted, not between two counts
    time.sleep(0.2)
    below = descendants(box.processes())
    zygotes = [pid for pid in below if pid not in box.processes()]
    rss = sum(int(_status(pid, "VmRSS")) for pid in zygotes)
    descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in ("self", *zygotes))
    mounts = sum(len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines()) for pid in ("self", *zygotes))
    return Held(len(below), descriptors, mounts, rss)


def _status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(field))


def descendants(pids: list[int]) -> list[int]:
    """These processes and all below them."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)
