"""A run that goes on and on holds what it held: memory, descriptors, SQLite's log, the price of a step, its rows."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).with_name("soak.py")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module; another folder of tests has one of the same name."""
    sys.path.insert(0, str(SCRIPT.parent))  # for the scripts beside it
    try:
        spec = importlib.util.spec_from_file_location("survival_soak", SCRIPT)
        assert spec is not None and spec.loader is not None
        made = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made
    finally:
        sys.path.remove(str(SCRIPT.parent))


@pytest.mark.parametrize(("every", "stays", "more"), [(7, False, 0), (20, True, 2)])
def test_a_file_being_written_is_no_leak_and_one_left_open_is(
    script: ModuleType, every: int, stays: bool, more: int
) -> None:
    held, seen = 13, []
    for moment in range(61):
        opened = moment % every == 0 and moment > 0
        held += opened and stays
        seen.append(script.Seen(2.0 * moment, 400.0, held + opened, 4.0, float(moment), moment))
    assert script.figures(seen)["more descriptors"] == more


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
