"""Starts the corpus in a process of its own, as this user or as an ordinary one, and reads what it found."""

from __future__ import annotations

import functools
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sparring

ORDINARY = 12345  # a user with nothing but what the test gives it
_PACKAGES = str(Path(sparring.__file__).parent.parent)


def run_corpus(settings: dict[str, Any], ordinary: bool = False, timeout_s: float = 240) -> dict[str, Any]:
    """The corpus's own summary. ``ordinary``: drop root first; skips where there is no Python for that user."""
    python, identity = ordinary_python() if ordinary and os.geteuid() == 0 else (sys.executable, {})
    done = subprocess.run(
        [python, str(Path(__file__).parent / "corpus.py"), json.dumps(settings)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd="/",
        env={"SPARRING_TEST_TOKEN": "secret" + secrets.token_hex(8), "PYTHONPATH": _PACKAGES},
        **identity,
    )
    if "SandboxUnavailable" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr[-2000:]
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


@functools.cache
def ordinary_python() -> tuple[str, dict[str, Any]]:
    """An interpreter that user can run, and the words that make a process his."""
    identity: dict[str, Any] = {"user": ORDINARY, "group": ORDINARY, "extra_groups": []}
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [python, "-c", "import sys, sparring.envs.code.sandbox; assert sys.version_info >= (3, 11)"],
                capture_output=True,
                check=False,
                cwd="/",
                env={"PYTHONPATH": _PACKAGES},
                **identity,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python, identity
    pytest.skip("an ordinary user can read no Python 3.11 here, or not this package")
