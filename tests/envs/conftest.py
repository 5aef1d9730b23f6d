"""A sandbox that fails, for what must never be read as a wrong answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from sparring.envs.code.live import Live
from sparring.envs.code.outcome import Limits, Ran, our_failure
from sparring.envs.code.sandbox import Sandbox


class Dying(Sandbox):
    """Its zygotes are killed as soon as a child is open; nothing it runs comes to anything."""

    def open(self, source: str, *, limits: Limits | None = None, variant: int = 0) -> Live:
        live = super().open(source, limits=limits, variant=variant)
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        return live

    def run(
        self, source: str, *, stdin: str = "", trace: bool = False, limits: Limits | None = None, variant: int = 0
    ) -> Ran:
        return our_failure("the zygote is gone", self.tier)


@pytest.fixture
def dying() -> Iterator[Sandbox]:
    """Nothing it runs comes to anything."""
    with Dying(workers=1) as sandbox:
        yield sandbox
