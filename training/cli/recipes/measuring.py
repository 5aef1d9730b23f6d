"""Recipe and controls over seeds: which runs that takes, each in a process of its own, and what they gave.

A run that is finished in the work folder is not run again, so measuring goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sparring.scenarios.digest import digest
from sparring.scenarios.errors import SparringError
from sparring.scenarios.recipe_spec import words

from .arm import ANSWER, NAME, Job, written
from .book import Recipe
from .results import RECIPE, Ran, Result

COLLECT = "collect"
PACKAGES = ("sparring", "torch", "transformers")
LONGER = 2  # times the recipe's steps that a control may take until it has sampled as many tokens

Say = Callable[[str], None]


@dataclass
class Measuring:
    """A recipe's comparison in a work ``folder``. ``keep``: checkpoints stay when a run is measured."""

    recipe: Recipe
    folder: Path
    keep: bool = False
    say: Say = print
    _live: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: bool = False

    def run(self, seeds: Sequence[int], controls: Sequence[str], jobs: int) -> Result:
        """Every arm on every seed, ``jobs`` seeds at once. Raises ``SparringError`` when a run fails."""
        self._same_file()
        with ThreadPoolExecutor(jobs) as pool:
            chains = [pool.submit(self._seed, seed, controls) for seed in seeds]
            try:
                runs = [ran for chain in chains for ran in chain.result()]
            finally:
                self._stop(chains)
        order = [RECIPE, *controls]
        runs.sort(key=lambda ran: (order.index(ran.arm), ran.seed))
        spec = self.recipe.spec
        return Result(self.recipe.slug, self.recipe.digest, spec.metric, spec.claim, about(), tuple(runs))

    def _same_file(self) -> None:
        """Refuse a folder with runs of another version of the file: they would be taken for this one's."""
        mark, now = self.folder / "digest", digest(self.recipe.written)
        if mark.is_file() and mark.read_text().strip() != now:
            raise SparringError(
                f"{self.folder} holds runs of another version of {self.recipe.file}; remove it or name another --folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(now + "\n")

    def _seed(self, seed: int, controls: Sequence[str]) -> list[Ran]:
        """One seed's runs, one after the other: a control's budget is what the recipe sampled."""
        spec, own = self.recipe.spec, [f"seed={seed}"]
        source = ""
        if spec.collect:
            collected = self._job([*words(spec.collect), *own])
            self._ran(COLLECT, seed, collected)
            source = str(self._place(COLLECT, seed) / "run.db")
        ours = self._ran(RECIPE, seed, self._job(own, seed, source))
        ran = [ours]
        for name in controls:
            changes = words(spec.controls[name])
            limits = [] if source else self._limits(name, ours.tokens)
            ran.append(self._ran(name, seed, self._job([*changes, *limits, *own], seed, source)))
        return ran

    def _limits(self, control: str, tokens: int) -> list[str]:
        """What ends a control's run, but for what it says itself."""
        changes = self.recipe.spec.controls[control]
        tops = {key.split(".")[0] for key in changes if "." not in key}
        limits = [] if "budget" in tops or "budget.tokens" in changes else [f"budget.tokens={tokens}"]
        if "training" not in tops and "training.steps" not in changes:
            limits.append(f"training.steps={LONGER * self._steps()}")
        return limits

    def _steps(self) -> int:
        from sparring.scenarios.load import load

        return load(self.recipe.file).training.steps

    def _job(self, changes: Sequence[str], seed: int | None = None, source: str = "") -> Job:
        """A run, and without a ``seed`` no measuring after it."""
        measures = [] if seed is None else measuring(self.recipe, seed)
        return Job(str(self.recipe.file.resolve()), list(changes), measures, self.recipe.spec.metric, source)

    def _place(self, arm: str, seed: int) -> Path:
        return self.folder / f"{arm}-{seed}"

    def _ran(self, arm: str, seed: int, job: Job) -> Ran:
        """A job's answer: from the folder where it is finished, else by doing it."""
        place = self._place(arm, seed).resolve()
        held = _answer(place, job)
        if held is None:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            if job.source:
                shutil.copy(job.source, place / "run.db")
            self._do(arm, seed, job, place)
            held = _answer(place, job) or {}
            if not self.keep:
                shutil.rmtree(place / "checkpoints", ignore_errors=True)
        ran = Ran(
            arm, seed, held.get("value", 0.0), held.get("tasks", 0), held["tokens"], held["steps"], held["cpu_s"],
            held["status"],
        )  # fmt: skip
        measured = f"{self.recipe.spec.metric} {ran.value:.3f}, " if job.measures else ""
        self.say(f"seed {seed} {arm}: {measured}{ran.tokens:,} tokens in {ran.steps} steps, {ran.cpu_s:.0f} s of CPU")
        return ran

    def _do(self, arm: str, seed: int, job: Job, place: Path) -> None:
        (place / NAME).write_text(written(job))
        # one thread, unless told otherwise: sums in another order are another run
        env = {"OMP_NUM_THREADS": "1", **os.environ}
        env.pop("SPARRING_DB", None)
        command = [sys.executable, "-P", "-m", "sparring.training.cli.recipes.arm", str(place / NAME)]
        with (place / "log.txt").open("wb") as log:
            with self._lock:
                if self._over:
                    raise SparringError("stopped")
                process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
                self._live.add(process)
            code = process.wait()
            self._live.discard(process)
        if code:
            said = (place / "log.txt").read_text(errors="replace").strip().splitlines() or ["nothing was said"]
            raise SparringError(
                f"{self.recipe.slug}, seed {seed}, {arm}: the run ended with {code}: {said[-1]}; all of it is in "
                f"{place / 'log.txt'}. What is finished stays, and measuring again goes on from there"
            )

    def _stop(self, chains: Sequence[Any]) -> None:
        """Let nothing begin any more, and end what runs."""
        with self._lock:
            self._over = True
            for process in self._live:
                process.terminate()
        for chain in chains:
            chain.cancel()


def measuring(recipe: Recipe, seed: int) -> list[str]:
    """What makes the scenario that every arm of this seed is measured in: the same tasks, graph and environment."""
    return [
        *words(recipe.spec.evaluate), f"evaluation.metrics={json.dumps([recipe.spec.metric])}",
        "evaluation.every=1", f"seed={seed}",
    ]  # fmt: skip


def about() -> dict[str, Any]:
    """When and where."""
    versions = {name: version(name) for name in PACKAGES}
    return {
        "date": date.today().isoformat(), "cores": os.cpu_count(), "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}", "versions": versions,
    }  # fmt: skip


def _answer(place: Path, job: Job) -> dict[str, Any] | None:
    """What a finished job in this folder gave; ``None`` where none is, or another one."""
    try:
        if (place / NAME).read_text() != written(job):
            return None
        answer: dict[str, Any] = json.loads((place / ANSWER).read_text())
    except (OSError, ValueError):
        return None
    return answer
