"""Runs of a small scenario whose terminal, reader or user goes away, each the command line's own ``main`` in a fork.

``python tests/survival/terminal.py FOLDER`` prints one JSON line a case: exit code, what was shown, the run's row and
whether the terminal was left as it was found.
"""

from __future__ import annotations

import importlib
import json
import os
import pty
import signal
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("SPARRING_DB", None)
os.environ["TERM"] = "xterm"

import torch

from sparring.scenarios.load import load
from sparring.storage import queries
from sparring.storage.store import Store
from sparring.training import tiny
from sparring.training.cli import main as sparring
from sparring.training.cli.running import hush
from sparring.training.policy import load_policy
from sparring.training.pretrain import save

SCENARIO = """
name: tiny
policy: {model: ./model}
environment: echo
load: [PARTS]
roles:
  solver: {kind: plain, prompt: say.md, reward: [patience], sampling: {max_tokens: 8}}
graph: solve
curriculum: {kind: sec, arms: {length: [1, 2]}}
rollout: {episodes: 2, picks: 2}
training: {steps: 5000}
evaluation: {every: 1000, tasks: 2}
"""
PATIENCE = '''
import time
from pathlib import Path
from sparring.envs.types import Score
from sparring.scenarios.registry import rewards

@rewards("patience")
def patience(episode, turn, context):
    """Waits, at most 20 seconds, while there is a file called wait: a step that lasts."""
    for _ in range(400):
        if not Path("wait").exists():
            break
        Path("waiting").touch()
        time.sleep(0.05)
    return Score.valued("patience", len(turn.token_ids) / 10, "waiting")
'''
SHOW, HIDE = "\x1b[?25h", "\x1b[?25l"  # the cursor
MOST_S = 60.0


@dataclass
class Ended:
    """How a case ended. ``cursor``: it is visible; ``same``: the terminal's settings are as before, echo on."""

    code: int = 0
    shown: str = ""
    status: str = ""
    last_step: int = -1
    wrong: tuple[str, ...] = ()
    cursor: bool = True
    same: bool = True


class Case:
    """One run in a fork, on a terminal of its own or on a pipe."""

    def __init__(self, folder: Path, terminal: bool, words: tuple[str, ...] = (), nohup: bool = False) -> None:
        self.folder, self.shown, self._terminal = folder, "", terminal
        said = pty.openpty() if terminal else os.pipe()
        self.out, theirs = said
        self._before = termios.tcgetattr(self.out) if terminal else []
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.out)
            _be_sparring(theirs, folder, terminal, words, nohup)
        self._theirs = theirs if terminal else -1  # kept open, so that its settings can be read after
        if not terminal:
            os.close(theirs)

    def until(self, words: str) -> None:
        """Read until this was shown."""
        stop = time.monotonic() + MOST_S
        while words not in self.shown and time.monotonic() < stop and self._read():
            pass

    def _read(self) -> bool:
        try:
            data = os.read(self.out, 65536)
        except OSError:  # a terminal whose other side is closed
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)

    def held(self) -> None:
        """Hold the run in the middle of a step, from now until the file ``wait`` goes or 20 seconds are over."""
        (self.folder / "wait").touch()
        stop = time.monotonic() + MOST_S
        while not (self.folder / "waiting").exists() and time.monotonic() < stop:
            time.sleep(0.02)

    def press(self, keys: bytes) -> None:
        """What a person types."""
        os.write(self.out, keys)

    def kill(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def leave(self) -> None:
        """Close the terminal, or the reading end of the pipe."""
        for end in (self._theirs, self.out):
            if end >= 0:
                os.close(end)
        self._theirs = self.out = -1

    def end(self) -> Ended:
        """Wait for the end, and look at what is left."""
        ended = Ended()
        if self._theirs >= 0:
            while not _over(self.pid):
                self._drain()
            self._drain()
            now = termios.tcgetattr(self._theirs)
            ended.same = now == self._before and bool(now[3] & termios.ECHO)
        while self.out >= 0 and not self._terminal and self._read():
            pass
        _, status = os.waitpid(self.pid, 0)
        ended.code, ended.shown = os.waitstatus_to_exitcode(status), self.shown
        ended.cursor = self.shown.rfind(SHOW) >= self.shown.rfind(HIDE)
        with Store(self.folder / "sparring.db") as store:
            row = store.run("r1")
            ended.status, ended.last_step = row.status, -1 if row.last_step is None else row.last_step
            ended.wrong = tuple(map(str, queries.damaged(store, "r1")))
        self.leave()
        return ended

    def _drain(self) -> None:
        os.set_blocking(self.out, False)
        while self._read():
            pass
        time.sleep(0.05)


def _over(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _be_sparring(out: int, folder: Path, terminal: bool, words: tuple[str, ...], nohup: bool) -> None:
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):  # whatever this script itself was started under
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.login_tty(out) if terminal else [os.dup2(out, 1), os.dup2(out, 2)]
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.chdir(folder)
        sys.argv = ["sparring", "run", "tiny.yaml", "--db", "sparring.db", *words]
        try:
            sparring()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        sys.stdout.flush()
    finally:
        os._exit(code)


# -- the cases ---------------------------------------------------------------------------------------------------------


def asked(number: int) -> Callable[[Path], Ended]:
    """A signal to a run whose output is a pipe."""

    def case(folder: Path) -> Ended:
        run = Case(folder, terminal=False)
        run.until("step 1/")
        run.kill(number)
        return run.end()

    return case


def ctrl_c(folder: Path) -> Ended:
    """Ctrl-C in the live view."""
    run = Case(folder, terminal=True)
    run.until("step 1/")
    run.press(b"\x03")
    return run.end()


def ctrl_c_twice(folder: Path) -> Ended:
    """Ctrl-C, and again while the step lasts."""
    run = Case(folder, terminal=True)
    run.until("step 1/")
    run.held()
    run.press(b"\x03")
    run.until("stopping after")
    run.press(b"\x03")
    return run.end()


def hung_up_twice(folder: Path) -> Ended:
    """SIGHUP by the shell and again by the kernel, while the step lasts."""
    run = Case(folder, terminal=False)
    run.until("step 1/")
    run.held()
    run.kill(signal.SIGHUP)
    run.until("stopping after")
    run.kill(signal.SIGHUP)
    (folder / "wait").unlink()
    return run.end()


def closed(folder: Path) -> Ended:
    """The terminal is closed: SIGHUP, and every write fails."""
    run = Case(folder, terminal=True)
    run.until("step 1/")
    run.leave()
    return run.end()


def closed_under_nohup(folder: Path) -> Ended:
    """The same under ``nohup``: the run goes on to its end."""
    run = Case(folder, terminal=True, words=("-s", "training.steps=4"), nohup=True)
    run.until("step 1/")
    run.leave()
    return run.end()


def unread(folder: Path) -> Ended:
    """``sparring run ... | head``: the reader leaves."""
    run = Case(folder, terminal=False)
    run.until("step 1/")
    run.leave()
    return run.end()


CASES: dict[str, Callable[[Path], Ended]] = {
    "INT": asked(signal.SIGINT),
    "TERM": asked(signal.SIGTERM),
    "HUP": asked(signal.SIGHUP),
    "ctrl-c": ctrl_c,
    "ctrl-c twice": ctrl_c_twice,
    "hung up twice": hung_up_twice,
    "closed": closed,
    "closed under nohup": closed_under_nohup,
    "unread": unread,
}


def main(folder: Path) -> None:
    """Play every case."""
    torch.set_num_threads(1)
    hush()
    tiny.SHAPE.update({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 8})
    save(tiny.build_model(0), folder / "model")
    parts = folder / "patience.py"  # one for all runs, since a name can be taken once
    parts.write_text(PATIENCE)
    for number, (name, case) in enumerate(CASES.items()):
        place = folder / str(number)
        place.mkdir()
        (place / "model").symlink_to(folder / "model")
        (place / "say.md").write_text("Say {{ text }}.\n")
        (place / "tiny.yaml").write_text(SCENARIO.replace("PARTS", str(parts)))
        if not number:
            checked: Any = load(place / "tiny.yaml")
            load_policy(checked.policy, checked.base)  # imports once what every run would import again
            for module in ("sparring.training.loop", "langgraph.graph", "rich.live"):
                importlib.import_module(module)
        print(json.dumps({"case": name, **asdict(case(place))}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
