"""Every recipe with every environment for two steps: it runs, or the software says in clear words why it cannot."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import recipe_matrix
from recipe_matrix import FAILED, NOT, RAN, Came, called, page, swapped, tried, worlds

from sparring.training.cli.recipes.book import Recipe, recipes

PAIRS = [(one, name, options) for one in recipes() for name, options in worlds()]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")  # other libraries' environments warn of their own
@pytest.mark.parametrize("recipe", recipes(), ids=lambda one: one.slug)
def test_a_recipe_runs_with_every_environment_or_says_why_not(recipe: Recipe) -> None:
    failed: dict[str, Came] = {}
    for name, options in worlds(first=True):  # the page has more: all options take three times as long
        with tempfile.TemporaryDirectory() as folder:
            came = tried(recipe, name, options, Path(folder))
        if came.what == FAILED or (came.what == NOT and len(came.why) < 10):
            failed[called(name, options)] = came
    assert failed == {}


def test_every_environment_of_ours_takes_part() -> None:
    kinds = {name for name, _ in worlds()}
    assert {"code", "echo", "search", "kuhn", "dialogue", "verifiers"} <= kinds
    assert len(worlds()) > len(kinds) == len(worlds(first=True))  # some are used in several ways


@pytest.mark.parametrize(("recipe", "name", "options"), PAIRS[:: max(1, len(PAIRS) // 8)])
def test_a_swap_changes_environment_prompts_and_parameters_alone(
    recipe: Recipe, name: str, options: dict[str, Any]
) -> None:
    data = swapped(recipe, name, options)
    assert data["environment"]["kind"] == name
    assert all(role["prompt"].startswith("any/") for role in data["roles"].values())
    assert data["training"].get("loss") == recipe.written["training"].get("loss")
    assert data.get("group") == recipe.written.get("group")


def test_the_page_has_a_letter_for_each_reason_and_counts_pairs() -> None:
    found = {
        "one": {"echo": [RAN, ""], "kuhn": [NOT, "no proposals"]},
        "two": {"echo": [NOT, "no proposals"], "kuhn": [FAILED, "it fell"]},
    }
    text = page(found)
    assert "4 pairs: 1 runs, 2 incompatible, 1 failed." in text
    assert "| `echo` | ✓ | a |" in text and "| `kuhn` | a | b |" in text
    assert "- **a** no proposals" in text and "- **b** failed: it fell" in text


@pytest.mark.parametrize("word", ["uffo", "--fist"])
def test_a_name_that_is_none_runs_and_writes_nothing(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = recipe_matrix.PAGE.stat().st_mtime_ns
    assert recipe_matrix.main([word]) == 2
    assert word in capsys.readouterr().err and recipe_matrix.PAGE.stat().st_mtime_ns == before


def test_the_page_is_what_the_stored_runs_give() -> None:
    import json

    assert recipe_matrix.PAGE.read_text() == page(json.loads(recipe_matrix.DATA.read_text()))
