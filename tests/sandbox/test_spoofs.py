"""No wrong solution makes itself look right, or look like our failure; the right one passes before and after."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sparring.envs.code.same import same
from sparring.envs.code.sandbox import Limits, Live, Outcome, Sandbox

sys.path.insert(0, str(Path(__file__).parent))
from spoofs import CASES, RIGHT, SPOOFS, Cases, Spoof  # a sibling of this test, not of the package

LIMITS = Limits(wall_s=1, cpu_s=2, memory_mb=512)


def _passes(sandbox: Sandbox, source: str, cases: Cases) -> tuple[bool, Live]:
    """Ask every question, compare out here: what is right never enters the child."""
    with sandbox.open(source, limits=LIMITS) as live:
        replies = [live.call("f", [question]) for question, _ in cases]
    assert Outcome.SANDBOX_ERROR not in {live.started.outcome, *(reply.outcome for reply in replies)}
    right = [
        reply.outcome is Outcome.OK and same(expected, reply.value)
        for reply, (_, expected) in zip(replies, cases, strict=True)
    ]
    return all(right), live


def test_there_are_35_spoofs_of_35_names() -> None:
    assert len({spoof.name for spoof in SPOOFS}) == len(SPOOFS) == 35


@pytest.mark.parametrize("spoof", SPOOFS, ids=lambda spoof: spoof.name)
def test_a_wrong_solution_stays_wrong(sandbox: Sandbox, spoof: Spoof) -> None:
    assert not _passes(sandbox, spoof.source, spoof.cases)[0]


def test_the_right_solution_passes(sandbox: Sandbox) -> None:
    assert _passes(sandbox, RIGHT, CASES)[0]
