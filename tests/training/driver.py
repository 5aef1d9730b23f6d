"""Runs a scenario in child processes that kill themselves at named points, then resumes each; prints what came out.

Called by ``test_loop.py`` in a process of its own: ``python driver.py SCENARIO FOLDER [POINT ...]``, all without names.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sparring.scenarios.load import from_resolved, load
from sparring.storage.queries import run_hash
from sparring.storage.store import Store
from sparring.training import checkpoint, session
from sparring.training.cli.running import usable
from sparring.training.learner import Learner
from sparring.training.loop import learn
from sparring.training.policy import load_policy
from sparring.training.rollout import Rollout

POINTS: dict[str, tuple[Any, str, int, bool]] = {
    # owner, name, which call of it, whether to die after it instead of before
    "while playing": (Rollout, "_check", 2, False),
    "after the update": (Learner, "step", 3, True),
    "before the checkpoint": (checkpoint, "_fill", 1, False),
    "between weights and manifest": (checkpoint, "_seal", 3, False),
    "between checkpoint and rows": (Store, "save_step", 4, False),
    "after the rows": (Store, "save_step", 3, True),
    "while old checkpoints go": (checkpoint, "prune", 4, False),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def rig(owner: Any, name: str, call: int, after: bool) -> None:
    """Make the ``call``-th call of ``owner.name`` the process's last."""
    inner, calls = getattr(owner, name), [0]

    def wrapped(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == call and not after:
            die()
        found = inner(*arguments, **more)
        if calls[0] == call:
            die()
        return found

    setattr(owner, name, wrapped)


def begin(scenario: str, db: Path) -> None:
    finish(session.start(load(scenario), Store(db)))


def go_on(db: Path) -> None:
    store = Store(db)
    point = store.resume_point("r1", usable)
    finish(session.resume(from_resolved(point.scenario), store, point))


def finish(made: session.Session) -> None:
    made.store.finish_run(made.run, asyncio.run(learn(made)))
    outcome = {"hash": run_hash(made.store, made.run), "weights": made.learner.weights_sha()}
    (made.folder.parent / "outcome.json").write_text(json.dumps(outcome))
    made.close()


def child(act: Callable[[], None]) -> int:
    """Run ``act`` in a fork; returns the signal that ended it, 0 for none."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.WEXITSTATUS(status) == 0, "a child failed"
    return 0


def outcome(folder: Path) -> Any:
    return json.loads((folder / "checkpoints" / "outcome.json").read_text())


def main(scenario: str, root: Path, *names: str) -> None:
    torch.set_num_threads(1)
    checked = load(scenario)
    load_policy(checked.policy, checked.base)  # imports once what every child would import again
    found: dict[str, Any] = {}

    def place(name: str) -> Path:
        where = root / name.replace(" ", "-")
        where.mkdir()
        return where / "sparring.db"

    db = place("unbroken")
    child(lambda: begin(scenario, db))
    found["unbroken"] = outcome(db.parent)
    for name in names or POINTS:
        db, point = place(name), POINTS[name]

        def broken(db: Path = db, point: tuple[Any, str, int, bool] = point) -> None:
            rig(*point)
            begin(scenario, db)

        assert child(broken) == signal.SIGKILL, f"{name}: was not killed"
        assert child(partial(go_on, db)) == 0
        found[name] = outcome(db.parent)
    for delay in () if names else (0.4, 0.9):
        db = place(f"after {delay}")

        def timed(db: Path = db, delay: float = delay) -> None:
            made = session.start(load(scenario), Store(db))
            threading.Timer(delay, die).start()
            finish(made)

        if child(timed):
            child(partial(go_on, db))
        found[f"after {delay}"] = outcome(db.parent)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
