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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from sparring.scenarios.errors import RunBusy, SparringError
from sparring.scenarios.load import load
from sparring.scenarios.recipe_spec import words
from sparring.storage.locks import RunLock

from .arm import ANSWER, NAME, Job, written
from .book import Recipe, put, read
from .results import RECIPE, Ran, Result
from .variants import check_variants, measuring

COLLECT = "collect"
PACKAGES = ("sparring", "torch", "transformers")
FULL = 1 << 16  # bytes left on a disk that could not take what a failing run said
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
        check_variants(self.recipe, controls)
        with self._alone():
            self._same_file()
            runs = self._all(seeds, controls, jobs)
        order = [RECIPE, *controls]
        runs.sort(key=lambda ran: (order.index(ran.arm), ran.seed))
        spec = self.recipe.spec
        return Result(self.recipe.slug, self.recipe.digest, spec.metric, spec.claim, about(), tuple(runs))

    def _all(self, seeds: Sequence[int], controls: Sequence[str], jobs: int) -> list[Ran]:
        with ThreadPoolExecutor(jobs) as pool:
            chains = [pool.submit(self._seed, seed, controls) for seed in seeds]
            try:
                return [ran for chain in chains for ran in chain.result()]
            except KeyboardInterrupt:
                self.say(f"stopping; what is finished stays in {self.folder}, and measuring again goes on from there")
                raise
            finally:
                self._stop(chains)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The folder, for this measuring alone; what the disk refuses is told."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock = RunLock(self.folder / "lock", self.folder.name)
            except RunBusy as error:
                raise RunBusy(
                    f"{self.folder}: another measuring works there ({self.folder / 'lock'}); wait for its end, "
                    "or name another --folder"
                ) from error
            try:
                yield
            finally:
                lock.release()
        except OSError as error:
            if isinstance(error, SparringError):
                raise
            where = error.filename or self.folder
            raise SparringError(
                f"{where}: {error.strerror or error}; what is finished stays in {self.folder}: measuring again goes on "
                "from there once it can be written, or name another --folder"
            ) from error

    def _same_file(self) -> None:
        """Refuse a folder with runs of another version of the file, or by others: they would be taken for these."""
        mark, made = self.folder / "digest", self.folder / "versions"
        if mark.is_file() and mark.read_text().strip() != self.recipe.run_digest:
            raise SparringError(
                f"{self.folder} holds runs of another version of {self.recipe.file}, or of a file that it names, or of "
                "another recipe; remove it or name another --folder"
            )
        now = ", ".join(f"{name} {number}" for name, number in about()["versions"].items())
        if made.is_file() and (then := made.read_text().strip()) != now:
            raise SparringError(
                f"{self.folder} holds runs made with {then}, and here are {now}, with which the same run may come out "
                "otherwise; remove it or name another --folder"
            )
        put(mark, self.recipe.run_digest + "\n")
        put(made, now + "\n")

    def _seed(self, seed: int, controls: Sequence[str]) -> list[Ran]:
        """One seed's runs, one after the other: a control's budget is what the recipe sampled."""
        spec, own = self.recipe.spec, [f"seed={seed}"]
        source = ""
        if spec.collect:
            collected = self._job([*words(spec.collect), *own])
            if _answer(self._place(COLLECT, seed), collected) is None:  # who learnt from the one before is another run
                for arm in (RECIPE, *spec.controls):
                    self._clear(self._place(arm, seed))
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
            self._clear(place)
            place.mkdir()
            (place / NAME).write_text(written(job))
            if job.source:
                shutil.copy(job.source, place / "run.db")
            self._do(arm, seed, place)
            self._same_still(place)
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

    def _clear(self, place: Path) -> None:
        """Make way for a run: one that broke off goes, a finished one of other settings stays beside it."""
        if (place / ANSWER).is_file():
            free = next(other for n in count(1) if not (other := place.with_name(f"{place.name}.{n}")).exists())
            place.rename(free)
            self.say(f"{place.name} was finished with other settings: that run is kept as {free}")
        elif place.is_dir() and ((place / NAME).is_file() or not any(place.iterdir())):
            shutil.rmtree(place)
        elif place.exists():
            raise SparringError(f"{place} is there and is no run of a recipe; move it away or name another --folder")

    def _do(self, arm: str, seed: int, place: Path) -> None:
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
            with self._lock:
                self._live.discard(process)
        if code:
            full = shutil.disk_usage(place).free < FULL
            silent = "the disk is full" if full else "nothing was said"
            said = (place / "log.txt").read_text(errors="replace").strip().splitlines() or [silent]
            raise SparringError(
                f"{self.recipe.slug}, seed {seed}, {arm}: the run ended with {code}: {said[-1]}; all of it is in "
                f"{place / 'log.txt'}. What is finished stays, and measuring again goes on from there"
            )

    def _same_still(self, place: Path) -> None:
        """Refuse the run here when the file was changed since measuring began: every run reads it for itself."""
        if read(self.recipe.file).run_digest != self.recipe.run_digest:
            (place / ANSWER).unlink(missing_ok=True)
            raise SparringError(
                f"{self.recipe.file}, or a file that it names, was changed while it was measured; change it back and "
                f"measure again, or name another --folder than {self.folder}"
            )

    def _stop(self, chains: Sequence[Any]) -> None:
        """Let nothing begin any more, and end what runs."""
        with self._lock:
            self._over = True
            for process in self._live:
                process.terminate()
        for chain in chains:
            chain.cancel()


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
        if _settings(json.loads((place / NAME).read_text())) != _settings(json.loads(written(job))):
            return None
        answer: dict[str, Any] = json.loads((place / ANSWER).read_text())
    except (OSError, ValueError, TypeError):
        return None
    return answer


def _settings(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job without where its files lie: the folder's digest says that they are the same, wherever they were moved."""
    return {**job, "file": "", "source": bool(job.get("source"))}
