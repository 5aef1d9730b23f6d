"""The README does what it says: its environment keeps the contract, its scenario checks, its links lead somewhere."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import check_docs
import readme_blocks

from sparring.envs.check import check_environment
from sparring.scenarios.load import load
from sparring.scenarios.registry import environments

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
BLOCKS = readme_blocks.blocks(README.read_text())


def test_environment_of_the_readme_keeps_the_contract_and_its_scenario_checks(tmp_path: Path) -> None:
    assert readme_blocks.write_files(BLOCKS, tmp_path) == ["backwards.py", "backwards.md", "backwards.yaml"]
    assert load(tmp_path / "backwards.yaml").environment.kind == "backwards"
    assert check_environment(environments.get("backwards")).broken == ()


def test_environment_of_the_readme_has_twenty_lines() -> None:
    text = next(block.text for block in BLOCKS if block.mark == "file backwards.py")
    assert len([line for line in text.splitlines() if line.strip()]) <= 20


def test_scenario_overrides_on_the_first_page_are_accepted() -> None:
    lines = [line for block in BLOCKS if block.mark == "run" for line in block.text.splitlines()]
    checked = [shlex.split(line) for line in lines if line.startswith("sparring check code-output")]
    assert len(checked) >= 3
    for words in checked:
        assert load("code-output", [word for word in words[3:] if word != "-s"]).name == "code-output"


def test_pages_have_no_dead_links_and_every_command_is_described() -> None:
    assert check_docs.problems() == []


def test_test_command_is_what_continuous_integration_runs() -> None:
    [block] = [block for block in BLOCKS if block.mark == "test"]
    assert block.text == "make test\n"
    script = (ROOT / ".ci" / "run").read_text()
    found = subprocess.run(
        ["bash", "-c", next(line for line in script.splitlines() if "sed -n" in line) + '; echo "$test_command"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == block.text
