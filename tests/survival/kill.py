"""Kills runs of a small scenario at random points, resumes each, and compares it with a run that was left alone.

``python tests/survival/kill.py --points 200 --seed 0`` prints a table and ends with 1 when a committed row is lost, a
row is doubled, or a resumed run ends in other weights or other rows. Each run is the command line's own ``main`` in a
fork of this process, which has the libraries loaded; only SIGKILL ends it. ``--broken NAME`` takes one guard away.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("SPARRING_DB", None)

import sqlalchemy
import torch
from sqlalchemy import event

from sparring.scenarios.load import load
from sparring.storage import queries
from sparring.storage import resume as resuming
from sparring.storage.step_rows import StepWriter
from sparring.storage.store import Store
from sparring.training import checkpoint, tiny
from sparring.training.cli import main as sparring
from sparring.training.cli.running import hush
from sparring.training.policy import load_policy

SCENARIO = """
name: survival
seed: 3
policy: {model: ./model}
environment: echo
load: [PARTS]
roles:
  solver: {kind: plain, prompt: say.md, reward: {verifier: 1.0, brevity: 1.0}, sampling: {max_tokens: 6}}
  critic: {kind: critic, prompt: judge.md, reward: [brevity], sampling: {max_tokens: 5}}
graph:
  nodes:
    solve: {role: solver, samples: 3}
    verify: {do: step}
    critique: {role: critic}
  edges: [solve -> verify, verify -> critique]
curriculum: {kind: sec, arms: {length: [1, 2]}}
rollout: {episodes: 2, picks: 2}
training: {steps: 4, optimizer: {lr: 1.0e-3}, checkpoint: {every: EVERY}}
evaluation: {every: 2, tasks: 2}
"""
BREVITY = '''
from sparring.envs.types import Score
from sparring.scenarios.registry import rewards

@rewards("brevity")
def brevity(episode, turn, context):
    """Less said, more earned: every step has something to learn, whatever a random policy says."""
    return Score.valued("brevity", -len(turn.token_ids) / 10, "survival")
'''
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 32}
STEP = re.compile(r"^step (\d+)/.*\n", re.MULTILINE)  # a whole line: what was begun may not be whole
ENDS = [signal.SIGKILL]  # what ends a run; --signal puts another there
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree", "fcntl.flock"}


def make_place(folder: Path, every: int) -> None:
    """A scenario with its prompts and a policy of random weights whose words are far from uniform."""
    (folder / "say.md").write_text("Say {{ text }}.\n")
    (folder / "judge.md").write_text("{{ text }} {{ last }}?\n")
    parts = folder.parent / "brevity.py"  # one for all runs, since a name can be taken once
    parts.write_text(BREVITY)
    (folder / "survival.yaml").write_text(SCENARIO.replace("EVERY", str(every)).replace("PARTS", str(parts)))
    tiny.SHAPE.update(SHAPE)
    model: Any = tiny.build_model(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(6.0)
        model.model.embed_tokens.weight[tiny.SPECIALS.index(tiny.END) + 256] *= 3.0
    model.save_pretrained(folder / "model")
    tiny.build_tokenizer().save_pretrained(folder / "model")


def die() -> None:
    """The end: with SIGKILL nothing is flushed, closed or given back; other signals may be heeded."""
    os.kill(os.getpid(), ENDS[0])


class Changes:
    """Counts what a process does to files and to the database; can make one of these its last.

    Counted: opening a file to write, renaming, removing, making folders, locking, syncing; every SQL statement, the
    moment before a commit and the moment after.
    """

    def __init__(self, last: int | None) -> None:
        self.seen, self.last, self._lock = 0, last, threading.Lock()

    def count(self, *_: Any, **__: Any) -> None:
        with self._lock:
            self.seen += 1
            if self.seen == self.last:
                die()

    def watch(self) -> None:
        """From now on, in this process."""
        inner = os.fsync

        def sync(descriptor: Any) -> None:
            self.count()
            inner(descriptor)

        def audited(name: str, arguments: tuple[Any, ...]) -> None:
            writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes or name in CHANGES:
                self.count()

        vars(os)["fsync"] = sync
        sys.addaudithook(audited)
        for what in ("before_cursor_execute", "commit"):
            event.listen(sqlalchemy.Engine, what, self.count)
        event.listen(sqlalchemy.pool.Pool, "checkin", self.count)


@dataclass
class Child:
    """One command in a process of its own: what it said, and how it ended (negative: by that signal)."""

    steps: list[int] = field(default_factory=list)
    said: str = ""
    code: int = 0
    seconds: float = 0.0


def command(words: list[str], folder: Path, broken: str, last: int | None = None, after: float | None = None) -> Child:
    """``sparring WORDS`` in ``folder``: killed at its ``last``-th change, ``after`` seconds, or not at all."""
    heard, says = os.pipe()
    clock, child = time.monotonic(), Child()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        _be_sparring(words, folder, broken, last, says)
    os.close(says)
    timer = threading.Timer(after, os.kill, (pid, ENDS[0])) if after is not None else None
    if timer is not None:
        timer.start()
    with open(heard, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    if timer is not None:
        timer.cancel()
        timer.join()
    child.said, child.code, child.seconds = text, os.waitstatus_to_exitcode(status), time.monotonic() - clock
    child.steps = [int(number) for number in STEP.findall(text)]
    return child


def _be_sparring(words: list[str], folder: Path, broken: str, last: int | None, says: int) -> None:
    """The child: the command line's ``main``, as the console script calls it. Never returns."""
    code = 1
    try:
        if signal.getsignal(ENDS[0]) is signal.SIG_IGN:  # this script may run under nohup, or in the background
            signal.signal(ENDS[0], signal.default_int_handler if ENDS[0] == signal.SIGINT else signal.SIG_DFL)
        os.dup2(says, 1)
        os.dup2(says, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # pipes, which the parent's may not be
        os.chdir(folder)
        sys.argv = ["sparring", *words]
        if broken:
            BROKEN[broken]()
        changes = Changes(last)
        changes.watch()
        try:
            sparring()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        sys.stdout.flush()
        os.write(1, f"\nchanges {changes.seen}\n".encode())
    except KeyboardInterrupt:  # before ``main`` began, where nothing has been done: as a shell would see it
        code = 128 + signal.SIGINT
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


Rows = frozenset[tuple[Any, ...]]


@dataclass
class Found:
    """What a database holds of run r1: its committed rows by natural key, how many of each table, two hashes."""

    status: str = "absent"
    rows: Rows = frozenset()
    steps: frozenset[int] = frozenset()
    counts: dict[str, int] = field(default_factory=dict)
    run: str = ""
    weights: str = ""
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)


COMMITTED = {
    "step": "SELECT s.number, p.number, p.weights_sha FROM steps s JOIN policy_versions p "
    "ON p.run_id = s.run_id AND p.number = s.policy_version",
    "episode": "SELECT s.number, e.number, e.hash FROM episodes e JOIN steps s ON s.id = e.step_id",
    "turn": "SELECT s.number, e.number, t.number, t.said, t.token_ids, t.logprobs, t.seed FROM turns t "
    "JOIN episodes e ON e.id = t.episode_id JOIN steps s ON s.id = e.step_id",
    "advantage": "SELECT s.number, e.number, t.number, a.trainer, a.value, a.pull FROM advantages a "
    "JOIN turns t ON t.id = a.turn_id JOIN episodes e ON e.id = t.episode_id JOIN steps s ON s.id = a.step_id",
}
KEYS = {"step": 1, "episode": 2, "turn": 3, "advantage": 4}  # how many columns name the row


def look(folder: Path) -> Found:
    """Read the database as a person would find it."""
    file = folder / "sparring.db"
    if not file.exists():
        return Found()
    with Store(file) as store:  # opens what a killed process left, upgrades included
        if not (known := queries.runs(store)):
            return Found()
        found = Found(known[0].status, run=queries.run_hash(store, "r1"))
        found.wrong = [f"damaged: {place}" for place in queries.damaged(store, "r1")]
        found.wrong += ["more than one run"] if len(known) > 1 else []
    with closing(sqlite3.connect(file)) as plain:
        _read_rows(plain, found)
    return found


def _read_rows(plain: sqlite3.Connection, found: Found) -> None:
    rows: list[tuple[Any, ...]] = []
    for kind, sql in COMMITTED.items():
        mine = [(kind, *row) for row in plain.execute(sql)]
        keys = collections.Counter(row[: 1 + KEYS[kind]] for row in mine)
        found.doubled += sum(count - 1 for count in keys.values())
        rows += mine
    found.rows, found.steps = frozenset(rows), frozenset(row[1] for row in rows if row[0] == "step")
    names = plain.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall()
    found.counts = {name: plain.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}
    last = plain.execute("SELECT number, weights_sha FROM policy_versions ORDER BY number DESC LIMIT 1").fetchone()
    found.weights = "" if last is None else last[1]
    for pragma in ("integrity_check", "foreign_key_check"):
        said = plain.execute(f"PRAGMA {pragma}").fetchall()
        found.wrong += [] if said in ([], [("ok",)]) else [f"{pragma}: {said[:3]}"]


def folders(folder: Path) -> list[str]:
    """The checkpoints that are there; the newest one's weights by their hash, so that a half-written one shows."""
    there = sorted((folder / "checkpoints" / "r1").glob("*"))
    found = [path.name for path in there]
    newest = there[-1] / checkpoint.WEIGHTS if there else None
    whole = newest is not None and newest.is_file()
    return [*found, hashlib.sha256(newest.read_bytes()).hexdigest() if newest is not None and whole else "no weights"]


@dataclass
class Tally:
    """What came of a kind of kill."""

    points: int = 0
    lost: int = 0
    doubled: int = 0
    other: int = 0
    seconds: float = 0.0


class Trial:
    """The runs of one scenario: one left alone, and as many killed ones as wanted."""

    def __init__(self, root: Path, every: int, broken: str) -> None:
        self.template, self.root, self.every, self.broken = root / f"template-{every}", root, every, broken
        self.made = 0
        self.template.mkdir()
        make_place(self.template, every)
        checked = load(self.template / "survival.yaml")
        load_policy(checked.policy, checked.base)  # imports once what every child would import again
        where = self.place()
        whole = command(RUN, where, "")
        if whole.code:
            raise SystemExit(f"the run that is left alone failed:\n{whole.said}")
        self.seconds = whole.seconds
        self.changes = int(whole.said.rsplit("changes ", 1)[1])
        self.whole, self.folders = look(where), folders(where)
        if len({row[3] for row in self.whole.rows if row[0] == "step"}) < 5:
            raise SystemExit("the run that is left alone learnt nothing in some step: the comparison would be blind")
        shutil.rmtree(where)

    def place(self) -> Path:
        """A fresh folder with the scenario."""
        self.made += 1
        where = self.root / f"{self.template.name}-{self.made}"
        where.mkdir()
        for file in ("say.md", "judge.md", "survival.yaml"):
            shutil.copy(self.template / file, where)
        (where / "model").symlink_to(self.template / "model")
        return where

    def kill(self, kind: str, again: bool, rng: random.Random, tally: Tally) -> list[str]:
        """One run killed at a drawn point, perhaps killed once more while it resumes, then taken to its end."""
        where, clock, troubles = self.place(), time.monotonic(), list[str]()
        words, before, kills, ended = RUN, Found(), 0, False
        for _ in range(1 + again):
            drawn = self._draw(kind, rng)
            child = command(words, where, self.broken, **drawn)
            if ended := child.code not in (-ENDS[0], 128 + ENDS[0]):
                troubles += [f"ended with {child.code} before {drawn}: {child.said[-300:]}"] if child.code else []
                break
            kills += 1
            now = look(where)
            missing = set(child.steps) - now.steps
            tally.lost += len(missing)
            troubles += [f"steps {sorted(missing)} were told and are not there after {drawn}"] if missing else []
            troubles += now.wrong + ([f"status {now.status}"] if now.status not in LEFT else [])
            before, words = now, RUN if now.status == "absent" else RESUME
        if not ended:
            done = command(words, where, self.broken)
            troubles += [f"{words[0]} ended with {done.code}: {done.said[-300:]}"] if done.code else []
        troubles += self._compare(where, before, tally)
        tally.points += kills
        tally.other += bool(troubles)
        tally.seconds += time.monotonic() - clock
        shutil.rmtree(where)
        return troubles

    def _draw(self, kind: str, rng: random.Random) -> dict[str, Any]:
        if kind == "change":
            return {"last": rng.randint(1, self.changes)}
        return {"after": rng.uniform(0.0, self.seconds)}

    def _compare(self, where: Path, before: Found, tally: Tally) -> list[str]:
        """How the end differs from the run that was left alone; rows that were there before must be there still."""
        end, troubles = look(where), list[str]()
        lost, fewer, more = before.rows - end.rows, self.whole.rows - end.rows, end.rows - self.whole.rows
        tally.lost += len(lost)
        tally.doubled += end.doubled
        for what, there in (("lost", lost), ("missing", fewer), ("foreign", more)):
            troubles += [f"{len(there)} rows are {what}, such as {sorted(map(str, there))[0][:120]}"] if there else []
        for what in ("status", "run", "weights", "counts"):
            mine, theirs = getattr(end, what), getattr(self.whole, what)
            troubles += [f"{what} is {mine}, not {theirs}"] if mine != theirs else []
        saved = folders(where)
        half = [name for name in saved if name.endswith(".tmp")]
        wanted = not half and set(self.folders) <= set(saved)  # an older one may be there still: it is swept later
        troubles += [] if wanted else [f"checkpoints are {saved}, not {self.folders}"]
        return troubles + ([f"{end.doubled} rows are doubled"] if end.doubled else []) + end.wrong


LEFT = ("killed", "stopped", "done", "absent")  # what a run may be called that was ended
RUN = ["run", "survival.yaml", "--db", "sparring.db"]
RESUME = ["resume", "r1", "--db", "sparring.db"]


def rows_stay() -> None:
    """Resuming leaves the rows past the checkpoint where they are."""

    def keep(what: Any) -> Any:
        return sqlalchemy.delete(what).where(sqlalchemy.false())

    vars(resuming)["delete"] = keep


def told_early() -> None:
    """A step is told before it is committed."""
    inner = Store.save_step

    def save(self: Store, run: str, record: Any) -> None:
        os.write(1, f"\nstep {record.step}/4\n".encode())
        time.sleep(0.2)
        inner(self, run, record)

    Store.save_step = save  # type: ignore[method-assign]  # on purpose


def half_a_step() -> None:
    """A step is committed in two transactions, and what the first one holds counts as a step."""
    inner = StepWriter.write

    def write(self: StepWriter) -> None:
        inner(self)
        connection = self.connection
        connection.exec_driver_sql("CREATE TEMP TABLE held AS SELECT * FROM main.states WHERE step_id = "
                                   "(SELECT max(id) FROM main.steps)")  # fmt: skip
        connection.exec_driver_sql("DELETE FROM main.states WHERE step_id = (SELECT max(id) FROM main.steps)")
        connection.exec_driver_sql("COMMIT")
        time.sleep(0.3)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql("INSERT INTO main.states SELECT * FROM held")
        connection.exec_driver_sql("DROP TABLE held")

    StepWriter.write = write  # type: ignore[method-assign]  # on purpose


def optimizer_forgotten() -> None:
    """Resuming loads the weights and begins with a fresh optimiser."""
    checkpoint._restore = lambda optimizer, flat: None


BROKEN: dict[str, Callable[[], None]] = {
    "rows-stay": rows_stay,
    "told-early": told_early,
    "half-a-step": half_a_step,
    "optimizer-forgotten": optimizer_forgotten,
}


@contextmanager
def scratch(keep: Path | None) -> Iterator[Path]:
    """A folder for the runs."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="survival-") as made:
        yield Path(made)


def main() -> int:
    """Kill, resume, compare, print."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--points", type=int, default=200, help="how many times a run is killed")
    asked.add_argument("--seed", type=int, default=0, help="which points are drawn")
    asked.add_argument("--every", type=int, choices=(1, 2), help="checkpoint every so many steps; both when absent")
    asked.add_argument("--broken", choices=sorted(BROKEN), default="", help="take one guard away: must end with 1")
    asked.add_argument("--signal", choices=("KILL", "TERM", "INT", "HUP"), default="KILL", help="what ends a run")
    asked.add_argument("--folder", type=Path, help="where the runs are made; the default goes away afterwards")
    given = asked.parse_args()
    ENDS[0] = signal.Signals[f"SIG{given.signal}"]
    torch.set_num_threads(1)
    hush()
    rng, tallies, said, clock = random.Random(given.seed), dict[str, Tally](), 0, time.monotonic()
    told: dict[str, Any] = {}
    with scratch(given.folder) as root, suppress(KeyboardInterrupt):  # Ctrl-C: the table so far
        trials = [Trial(root, every, given.broken) for every in ([given.every] if given.every else [1, 2])]
        told = {"changes": [trial.changes for trial in trials], "seconds": [round(t.seconds, 2) for t in trials]}
        turns = itertools.cycle(itertools.product(("change", "time"), trials))
        while sum(tally.points for tally in tallies.values()) < given.points:
            (kind, trial), again = next(turns), rng.random() < 0.25
            tally = tallies.setdefault(f"{kind}, checkpoint every {trial.every}", Tally())
            for trouble in trial.kill(kind, again, rng, tally):
                said += 1
                print(f"DIFFERENT {trouble}" if said <= 20 else ".", flush=True)
    return report(tallies, told, time.monotonic() - clock)


def report(tallies: dict[str, Tally], told: dict[str, Any], seconds: float) -> int:
    """Print the table; 1 when anything was lost, doubled or different."""
    total = Tally()
    print(f"{'killed at':28} {'points':>6} {'lost':>6} {'doubled':>8} {'different':>10} {'seconds':>8}")
    for name, tally in sorted(tallies.items()):
        print(f"{name:28} {tally.points:6} {tally.lost:6} {tally.doubled:8} {tally.other:10} {tally.seconds:8.1f}")
        for what in ("points", "lost", "doubled", "other"):
            setattr(total, what, getattr(total, what) + getattr(tally, what))
    print(f"{'together':28} {total.points:6} {total.lost:6} {total.doubled:8} {total.other:10} {seconds:8.1f}")
    print(json.dumps({"points": total.points, "lost": total.lost, "doubled": total.doubled,
                      "different": total.other, "unbroken": told}))  # fmt: skip
    return 1 if total.lost or total.doubled or total.other else 0


if __name__ == "__main__":
    sys.exit(main())
