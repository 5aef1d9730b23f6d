"""The command tree: every command explains itself, and those that only look import no model library."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import Result

import sparring
from sparring.training import cli
from sparring.training.cli import FAMILIES, HOMES, app

GROUP: Any = typer.main.get_command(app)
COMMANDS = {name: GROUP.get_command(None, name) for name in HOMES}
README = Path(__file__).parents[3] / "README.md"
LOOK = "import sys; from sparring.training.cli import main; sys.argv = ['sparring', *{words!r}]\n"
LOOK += "try: main()\nexcept SystemExit: pass\n"
LOOK += "sys.exit(' '.join(name for name in ('torch', 'transformers', 'langgraph') if name in sys.modules) or 0)"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help and command.help[0].isupper() and command.help.rstrip().endswith(".")
    assert all(option.help for option in command.params if option.name != "help"), name


@pytest.mark.parametrize("module", FAMILIES)
def test_a_module_of_commands_holds_those_it_is_listed_with(module: str) -> None:
    family = typer.Typer()
    importlib.import_module(f"sparring.training.cli.{module}").add_to(family)
    assert sorted(typer.main.get_group(family).commands) == sorted(FAMILIES[module])


def test_every_module_of_commands_is_listed() -> None:
    folder = Path(cli.__file__).parent
    files = [*folder.glob("*.py"), *folder.glob("*/__init__.py")]
    adds = {
        file.parent.name if file.stem == "__init__" else file.stem
        for file in files
        if "\ndef add_to(app" in file.read_text()
    }
    assert adds - {"checking", "scaffold"} == set(FAMILIES)  # these two belong to static


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"sparring {name}" in README.read_text()


@pytest.mark.parametrize(
    "words", [["--help"], ["check", "smoke"], ["list"], ["runs"], ["show"], ["why"], ["sql", "SELECT 1"]], ids=str
)
def test_looking_imports_no_model_library(words: list[str], filled: str) -> None:
    code = LOOK.format(words=words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_version(told: Callable[..., Result]) -> None:
    assert told("--version").stdout == f"sparring {sparring.__version__}\n"


def test_check_and_list_speak_json(told: Callable[..., Result]) -> None:
    assert json.loads(told("check", "smoke", "--json").stdout)["scenario"]["name"] == "smoke"
    assert "sec" in json.loads(told("list", "curriculum", "--json").stdout)["curriculum"]
