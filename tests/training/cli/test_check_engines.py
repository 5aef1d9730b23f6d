"""``sparring check`` says who speaks through which engine, whether it can be trained, and whether its key is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Told = Callable[..., Result]
KEY, VARIABLE = "sk-never-shown-123456", "SPARRING_CHECK_KEY"
ROLE = """  judge:
    kind: critic
    prompt: say.md
    trainable: false
    engine: {kind: openai, url: "https://judge.example/v1", model: big, api_key_env: SPARRING_CHECK_KEY}
"""


@pytest.fixture
def judged(scenario: Path) -> Path:
    """The scenario with a judge behind a server."""
    scenario.write_text(scenario.read_text().replace("graph: solve", f"{ROLE}graph: solve"))
    return scenario


def test_a_judge_behind_a_server_is_told_with_its_key_variable(
    told: Told, judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "  engine of judge: openai (big at https://judge.example/v1), which cannot be trained; its key is read from "
    monkeypatch.delenv(VARIABLE, raising=False)
    assert f"{line}{VARIABLE}, which is not set here: export {VARIABLE}=...\n" in told("check", str(judged)).stdout
    monkeypatch.setenv(VARIABLE, KEY)
    done = told("check", str(judged))
    assert f"{line}{VARIABLE}, which is set\n" in done.stdout and KEY not in done.output


def test_scripts_read_the_same(told: Told, judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    done = told("check", str(judged), "--json")
    (engine,) = json.loads(done.stdout)["engines"]
    assert (engine["roles"], engine["kind"], engine["key_variable"]) == (["judge"], "openai", VARIABLE)
    assert engine["key_is_set"] is True and engine["untrainable"] and KEY not in done.output


def test_a_scenario_of_the_embedded_engine_alone_says_nothing_of_engines(told: Told, scenario: Path) -> None:
    assert "engine of" not in told("check", str(scenario)).stdout
    assert json.loads(told("check", str(scenario), "--json").stdout)["engines"] == []


@pytest.mark.parametrize("command", ["check", "run"])
def test_training_through_it_is_refused_with_a_line_and_nothing_is_made(
    told: Told, judged: Path, command: str, tmp_path: Path
) -> None:
    done = told(command, str(judged), "-s", "roles.judge.trainable=true", "-s", "roles.judge.reward=[format]")
    assert done.exit_code == 2 and not list(tmp_path.glob("sparring.db*"))
    said = " ".join(done.output.split())
    assert "roles.judge.engine: a trainable role speaks through the policy's own engine, and a chat server" in said


def test_a_check_of_a_server_needs_no_model_library_and_no_server(judged: Path) -> None:
    code = (
        "import sys; from sparring.training.cli import app; app(['check', sys.argv[1]], standalone_mode=False);"
        "print(sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(judged)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stdout.endswith("[]\n"), done.stderr
