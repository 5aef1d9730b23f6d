"""A run that goes on and on holds what it held: memory, descriptors, SQLite's log, the price of a step, its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("soak.py")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_in_two_minutes_nothing_grows_but_the_rows(tmp_path: Path) -> None:
    """Two minutes see leaks of 10 MB and of one descriptor; ``soak.py --minutes 120`` sees 1 MB an hour."""
    words = ["--minutes", "2", "--every", "2", "--slope", "400", "--slower", "0.3", "--folder", str(tmp_path)]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and found["wrong"] == [], found
    assert found["steps"] > 20
