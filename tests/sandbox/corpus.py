"""Runs the corpus in a process of its own: ``python corpus.py '{"tier": "namespaces"}'`` prints one line of JSON.

A process of its own, because the attacks look for a token in its environment, and because it may run as another user
or with layers switched off. Positive controls run before, between and after; a wrong one is an error, not a success.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import secrets
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from attacks import ATTACKS, PRELUDE, Attack
from leaks import ARTEFACTS, LEAKS
from scene import Scene, settle

from sparring.envs.code import sandbox, worker
from sparring.envs.code.sandbox import Limits, Outcome, Ran, Sandbox

ENDLESS_S = 0.4
LATE_S = 4.0
CONTROL_EVERY = 10


class Broken(Exception):
    """The corpus proves nothing: a control failed or a run never reached its program."""


class Corpus:
    """One sandbox, one scene, and what succeeded."""

    def __init__(self, box: Sandbox, scene: Scene, limits: Limits, live: bool) -> None:
        """``live``: run each attack in a live child instead."""
        self.box, self.scene, self.limits, self.live = box, scene, limits, live
        self.controls = 0
        self.since = CONTROL_EVERY

    def control(self) -> None:
        """A program that must compute and say so, after every few attacks."""
        number = secrets.randbelow(10**6)
        ran = self.box.run(f"print(sum(i * i for i in range(10)) + {number})", limits=Limits(wall_s=10))
        if (ran.outcome, ran.stdout) != (Outcome.OK, f"{285 + number}\n"):
            raise Broken(f"the control ended as {ran}")
        self.controls += 1
        self.since = 0

    def run(self, source: str, wall_s: float | None = None) -> Ran:
        """One program, in a child of its own."""
        limits = replace(self.limits, wall_s=wall_s or self.limits.wall_s)
        if not self.live:
            return self.box.run(source, limits=limits)
        with self.box.open(source, limits=limits) as live:
            said = live.started
        return Ran(said.outcome, said.stdout, said.stderr_tail, (), said.cpu_s, said.wall_s, self.box.tier)

    def attempt(self, attack: Attack) -> str:
        """How the attack succeeded, or ""."""
        if self.since >= CONTROL_EVERY:
            self.control()
        self.since += 1
        restarts, began = self.box.restarts, time.monotonic()
        source = self.scene.names() + PRELUDE + attack.source
        ran = self.run(source, wall_s=ENDLESS_S if attack.seen == "late" else None)
        took_s = time.monotonic() - began
        if attack.seen == "late" and ran.outcome is Outcome.TIMEOUT and not ran.stdout:
            ran = self.run(source)  # a loaded machine: the short clock ran out before the first line
        settle(0.3 if self.box.tier == "none" and attack.seen == "host" else 0.02)
        if not ran.stdout.startswith("begun") and self.box.tier != "none":
            raise Broken(f"{attack.name} never began: {ran}")
        died = self.box.restarts > restarts or ran.outcome is Outcome.SANDBOX_ERROR
        return self.verdict(attack, ran, took_s, died)

    def verdict(self, attack: Attack, ran: Ran, took_s: float, died: bool) -> str:
        """Judged by every sign, whatever the attack was after; only ``died`` needs more than one kind of run."""
        scene = self.scene
        said = ran.stdout + ran.stderr_tail
        harm = scene.harm()
        late = took_s > self.limits.wall_s + LATE_S or "stuck" in ran.stderr_tail
        signs = {
            "secret": scene.token in said or "root:x:0:0" in said,
            "proof": scene.proof in said,
            "host": bool(harm),
            "late": late,
            "flood": len(ran.stdout) > 1 << 16 or len(ran.stderr_tail) > 4096,
            "died": died and not late,
            "unstorable": not storable(ran.stdout) or not storable(ran.stderr_tail),
        }
        if self.box.tier != "none":  # on a whole tier any sign at all is a success
            return "; ".join([sign for sign, shown in signs.items() if shown] + harm)
        return attack.seen if signs[attack.seen] else ""

    def leak(self, first: str, second: str) -> str:
        """Whether the second program sees what the first left."""
        self.run(self.scene.names() + PRELUDE + first)
        ran = self.run(self.scene.names() + PRELUDE + second)
        if self.box.tier != "none" and not ran.stdout.startswith("begun"):
            raise Broken(f"the second program never began: {ran}")
        left = self.scene.harm()
        return "; ".join(["proof"] * (self.scene.proof in ran.stdout or ran.outcome is Outcome.SANDBOX_ERROR) + left)


def storable(text: str) -> bool:
    """Whether the text goes into the database and comes back the same."""
    with contextlib.closing(sqlite3.connect(":memory:")) as rows:
        try:
            return bool(rows.execute("select ? = ?", (text, text)).fetchone()[0]) and text.encode("utf-8") is not None
        except (UnicodeError, sqlite3.Error):
            return False


def weaken(settings: dict[str, Any]) -> None:
    """Switch layers off in this process: only ``layers`` remain, under the tier called none."""
    worker.TIERS["none"] = tuple(settings["layers"])
    sandbox._RETRIES = 0
    if "clock" not in settings["layers"]:
        worker.GRACE_S = 0.6  # then the zygote counts as stuck
    if settings.get("leaky"):  # our environment, and our descriptors where they can be inherited
        plain = partial(subprocess.Popen)
        keep = {"PYTHONHASHSEED": "0", **os.environ}

        def leaky(*words: Any, **options: Any) -> Any:
            options.update(env=keep, close_fds=False)
            del options["pass_fds"]
            os.set_inheritable(int(words[0][-1]), True)
            return plain(*words, **options)

        vars(worker)["subprocess"] = SimpleNamespace(Popen=leaky, DEVNULL=subprocess.DEVNULL)
    if settings.get("uncapped"):
        worker.STDERR_MOST = 1 << 22
        worker.STDERR_TAIL = 1 << 22


def own_mounts() -> None:
    """As root, attacks that mount must not reach the machine."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x20000) == 0:
        libc.mount(b"none", b"/", None, ctypes.c_ulong(16384 | 1 << 18), None)


def main() -> None:
    """Settings come as JSON: tier or layers, only (names), wall_s, live, leaky, uncapped."""
    settings = json.loads(sys.argv[1])
    token = os.environ["SPARRING_TEST_TOKEN"]
    weak = "layers" in settings
    if weak:
        weaken(settings)
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
        if os.geteuid() == 0:
            own_mounts()
    limits = Limits(settings.get("wall_s", 2.0), 3, 256, 1 << (22 if settings.get("uncapped") else 16))
    names = settings.get("only") or [*ATTACKS, *ARTEFACTS, *LEAKS]
    began = time.monotonic()
    worked: dict[str, str] = {}
    with (
        contextlib.closing(Scene(token)) as scene,
        Sandbox("none" if weak else settings["tier"], workers=1, allow_unsafe=weak) as box,
    ):
        corpus = Corpus(box, scene, limits, bool(settings.get("live")))
        for name in names:
            attack = ATTACKS.get(name) or ARTEFACTS.get(name)
            how = corpus.attempt(attack) if attack is not None else corpus.leak(*LEAKS[name])
            if how:
                worked[name] = how
        corpus.control()
    answer = {"worked": worked, "tried": len(names), "controls": corpus.controls, "user": os.geteuid()}
    print(json.dumps({**answer, "tier": box.tier, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()
