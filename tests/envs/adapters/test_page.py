"""Every scenario on docs/adapters.md loads, and its environment plays an episode; the shipped one trains two steps."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sparring.scenarios.load import SHIPPED, loads
from sparring.scenarios.registry import environments, make

PAGE = Path(__file__).resolve().parents[3] / "docs" / "adapters.md"
SCENARIO = re.compile(r"^```yaml\n(?P<text>name: (?P<name>\S+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = {found["name"]: found["text"] for found in SCENARIO.finditer(PAGE.read_text(encoding="utf-8"))}
NEEDS = {
    "lake": "gymnasium", "two-datasets": "reasoning_gym", "noughts": "textarena", "shop": "mcp", "rollouts": "verifiers"
}  # fmt: skip


def needed(name: str) -> str:
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")  # an extra: the page shows how to install it
    return PAGES[name]


def test_the_page_has_a_scenario_for_every_kind() -> None:
    assert PAGES.keys() == NEEDS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_its_scenarios_load_and_play(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    text = needed(name).replace("my_environments:", "verifiers_worlds:")
    environment = make(environments, loads(text).environment)
    observation, _ = environment.reset(seed=1)
    assert observation
    for _ in range(environment.config.model_dump().get("max_steps", 5)):
        _, _, terminated, truncated, _ = environment.step(environment.oracle() or "right")
        if terminated or truncated:
            break
    environment.close()
    assert terminated or truncated


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("reasoning_gym") is None, reason="pip install 'sparring[reasoning-gym]'")
def test_the_shipped_scenario_trains_two_steps(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sparring", "run", str(SHIPPED / "reasoning-gym.yaml"), "-s", "training.steps=2"]
    done = subprocess.run(
        [*command, "-s", "evaluation.tasks=4"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "SPARRING_DB": f"sqlite:///{tmp_path / 'runs.db'}"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
