"""Every registered part can be imported, says what it is in one line, and takes no options when none are given."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from sparring.scenarios.load import load
from sparring.scenarios.registry import PARTS

ROOT = Path(__file__).resolve().parents[2]
POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
# not registry.names(): other tests register parts of their own
EVERY = [(group.removeprefix("sparring."), name) for group, points in POINTS.items() for name in points]
NEEDS_OPTIONS = {
    ("task_source", "jsonl"),
    ("engine", "openai"),
    ("group_stage", "demonstrations"),
    ("group_stage", "insert"),
    ("group_stage", "replace"),
    ("curriculum", "alp_gmm"),
    *(("reward", name) for name in ("max", "min", "product", "mean")),
    *(("environment", name) for name in ("gymnasium", "reasoning_gym", "textarena", "verifiers", "mcp")),
}
SCENARIOS = sorted((ROOT / "scenarios").rglob("*.yaml"))


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_part_loads_and_has_a_summary(kind: str, name: str) -> None:
    assert PARTS[kind].get(name) is not None
    assert 5 < len(PARTS[kind].summary(name)) <= 120


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_part_works_without_options_unless_it_needs_some(kind: str, name: str) -> None:
    config = getattr(PARTS[kind].get(name), "Config", None)
    if config is None:
        return
    assert issubclass(config, BaseModel)
    with pytest.raises(ValueError, match="no_such_option"):
        config.model_validate({"no_such_option": 1})
    if (kind, name) in NEEDS_OPTIONS:
        with pytest.raises(ValueError, match=r"required|name (one|the)"):
            config.model_validate({})
    else:
        assert config.model_validate({}) is not None


def test_every_entry_point_is_installed_as_a_part() -> None:
    assert {kind for kind, _ in EVERY} <= set(PARTS)
    assert [(kind, name) for kind, name in EVERY if name not in PARTS[kind].names()] == []


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_shipped_scenario_has_no_problems(path: Path) -> None:
    assert load(path).graph_spec().nodes


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_shipped_scenario_is_found_by_its_name(path: Path) -> None:
    assert load(path.stem).digest == load(path).digest
