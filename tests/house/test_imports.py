"""What importing a folder may cost: nothing below training loads a model library, one module alone LangGraph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "vllm", "langgraph")


def modules(folder: str) -> list[str]:
    """The importable modules of a folder, but for those that are their own programs."""
    own = {"migrations", "jail"}  # run by Alembic, run in the sandbox
    return [
        "sparring." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not own & set(path.parts) and path.relative_to(ROOT).parts != ("agents", "graph.py")
    ]


def loaded(python: Callable[[str], str], imports: list[str]) -> list[str]:
    """Which heavy libraries are loaded after these imports."""
    lines = [*(f"import {name}" for name in imports), f"print(*[m for m in {HEAVY} if m in sys.modules])"]
    return python("import sys\n" + "\n".join(lines)).split()


@pytest.mark.parametrize("folder", ["scenarios", "envs", "storage", "agents"])
def test_no_module_of_the_folder_loads_a_heavy_library(folder: str, python: Callable[[str], str]) -> None:
    assert loaded(python, modules(folder)) == []


def test_commands_that_only_look_load_no_model_library(python: Callable[[str], str]) -> None:
    assert loaded(python, ["sparring.training.cli", "sparring.training.cli.static"]) == []


def test_langgraph_comes_with_the_graph_module(python: Callable[[str], str]) -> None:
    assert loaded(python, ["sparring.agents.graph"]) == ["langgraph"]


def test_checking_a_scenario_loads_no_model_library(python: Callable[[str], str]) -> None:
    code = f"""
import sys
from sparring.scenarios.load import load
load('code-output')
print(*[m for m in {("torch", "transformers", "vllm")} if m in sys.modules])
"""
    assert python(code) == ""
