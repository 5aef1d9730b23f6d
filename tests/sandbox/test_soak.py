"""A thousand programs in a row leave nothing behind; ``benchmarks/sandbox.py --soak 10000`` runs ten thousand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from soak import soak  # a sibling of this test, not of the package


@pytest.mark.slow  # half a minute
def test_a_thousand_programs_hang_leak_and_fake_nothing() -> None:
    done = soak(1000)
    assert done.faults() == {}
    assert done.controls > 400 and done.attacks > 400 and done.live > 100
