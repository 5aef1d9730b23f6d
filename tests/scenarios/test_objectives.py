"""Objectives: one name fills advantage, loss and stages; what the scenario says itself stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import from_resolved
from sparring.scenarios.registry import advantages, group_stages, losses, objectives
from sparring.scenarios.schema import Scenario
from sparring.training.objectives import FOLDER, names, read

Small = Callable[..., Scenario]


class ToyPart:
    """Stands for a part without options; no formula, no source."""


for registry in (advantages, losses, group_stages):
    for toy in ("toy-one", "toy-two"):
        registry.add(toy, ToyPart)


@objectives("toy-bundle")
def bundle() -> dict[str, Any]:
    """A bundle of toys."""
    costly = {"kind": "soft_overlong", "longest": "max_tokens", "margin": "max_tokens / 5"}
    return {"advantage": "toy-one", "loss": {"kind": "dapo", "high": 0.5}, "stages": ["toy-one", costly]}


def training(text: str) -> tuple[str, str]:
    """What is put under ``training`` in the small scenario."""
    return ("name: small\n", f"name: small\ntraining: {{{text}}}\n")


def test_an_objective_fills_what_the_scenario_leaves_out(small: Small) -> None:
    made = small(training("objective: toy-bundle"))
    assert (made.training.advantage.kind, made.training.loss.kind) == ("toy-one", "dapo")
    assert made.training.loss.options["high"] == 0.5 and made.group.stages[0].kind == "toy-one"


def test_what_the_scenario_says_itself_wins(small: Small) -> None:
    made = small(
        training("objective: toy-bundle, advantage: toy-two, loss: {low: 0.1}"),
        ("environment: toy", "environment: toy\ngroup: {stages: []}"),
    )
    assert made.training.advantage.kind == "toy-two" and made.group.stages == ()
    loss = made.training.loss  # a mapping without kind changes only its own options
    assert (loss.kind, loss.options["low"], loss.options["high"]) == ("dapo", 0.1, 0.5)


def test_an_objective_on_the_command_line_wins_over_the_file(small: Small) -> None:
    written = training("advantage: toy-two, loss: toy-two")
    made = small(written, overrides=("training.objective=toy-bundle", "training.loss.high=0.75"))
    assert (made.training.advantage.kind, made.training.loss.options["high"]) == ("toy-one", 0.75)


def test_a_stage_that_asks_for_a_roles_budget_is_there_for_each_trainable_role(small: Small) -> None:
    short = ("reward: [verdict]", "reward: [verdict], sampling: {max_tokens: 4}")
    stages = small(training("objective: toy-bundle"), short).group.stages[1:]
    told = [(stage.options["role"], stage.options["longest"], stage.options["margin"]) for stage in stages]
    assert told == [("solver", 64, 12), ("critic", 4, 1)]
    frozen = small(training("objective: toy-bundle"), ("reward: [verdict]", "trainable: false"))
    assert [stage.options.get("role") for stage in frozen.group.stages] == [None, "solver"]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("objective: toy-bundel", "small.yaml:2: training.objective: unknown objective 'toy-bundel'; did you mean"),
        ("objective: 5", "small.yaml:2: training.objective: found 5; text is needed"),
        ("objective: toy-bundle, loss: {hihg: 1}", "small.yaml:2: training.loss.hihg: unknown option of 'dapo'"),
    ],
)
def test_a_wrong_objective_is_told_with_its_line(small: Small, written: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        small(training(written))
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


def test_every_bundle_is_a_part_under_its_files_name() -> None:
    assert {name for name in objectives.names() if not name.startswith("toy-")} == set(names())


@pytest.mark.parametrize("name", names())
def test_every_bundle_loads_and_survives_being_stored(small: Small, name: str) -> None:
    made, said = small(overrides=(f"training.objective={name}",)), read(FOLDER / f"{name}.yaml")()
    for key, ref in (("advantage", made.training.advantage), ("loss", made.training.loss)):
        written = said[key] if isinstance(said[key], dict) else {"kind": said[key]}
        assert written.items() <= {"kind": ref.kind, **ref.options}.items() or _inside(written, ref.options)
    again = from_resolved(json.loads(json.dumps(made.resolved(), allow_nan=False)))
    assert again == made and again.digest == made.digest


def _inside(written: dict[str, Any], options: dict[str, Any]) -> bool:
    """Whether nested options hold what was written."""
    return all(
        _inside(value, options[key]) if isinstance(value, dict) else options[key] == value
        for key, value in written.items()
        if key != "kind"
    )


def test_a_bundle_that_is_wrong_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("about: x\nformula: y\nsource: z\nadvantage: grpo\nlos: dapo\n")
    with pytest.raises(ScenarioError, match=r"mine.yaml: .*los"):
        read(tmp_path / "mine.yaml")
