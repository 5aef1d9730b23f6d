"""Sandboxes per tier, opened once; a tier this machine refuses is skipped with the reason."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sparring.envs.code.sandbox import AUTO, Sandbox
from sparring.scenarios.errors import SandboxUnavailable


@pytest.fixture(scope="session", params=AUTO)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    try:
        opened = Sandbox(request.param, workers=1)
    except SandboxUnavailable as refused:
        pytest.skip(str(refused))
    with opened:
        yield opened
