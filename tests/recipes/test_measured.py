"""Every recipe has a result of three seeds or more, of the file as it is, told the same way everywhere."""

from __future__ import annotations

import pytest

from sparring.scenarios.load import RECIPES
from sparring.training.cli.recipes.book import Recipe, recipes
from sparring.training.cli.recipes.results import EFFECTS, RECIPE, effects, stored

# recipes without a result so far; `sparring recipes` lists them as not measured
WAITING: set[str] = set()
every = pytest.mark.parametrize(
    "recipe", [one for one in recipes() if stored(one) is not None], ids=lambda one: one.slug
)


def test_only_these_wait_to_be_measured() -> None:
    assert {one.slug for one in recipes() if stored(one) is None} <= WAITING


@every
def test_it_was_measured_as_it_is_on_three_seeds_or_more(recipe: Recipe) -> None:
    result = stored(recipe)
    assert result is not None
    assert result.digest == recipe.digest, "it was changed since it was measured"
    controls = list(recipe.spec.controls)
    assert result.controls[0] == controls[0] and set(result.controls) <= set(controls)
    for arm in (RECIPE, *result.controls):
        assert len(result.of(arm)) >= 3 and result.of(arm).keys() == result.of(RECIPE).keys()


@every
def test_what_it_says_was_measured_is_what_was(recipe: Recipe) -> None:
    result = stored(recipe)
    assert result is not None and recipe.spec.measured == result.measured(result.controls[0])


@every
def test_a_control_sampled_as_many_tokens(recipe: Recipe) -> None:
    """Within a step of them, unless the recipe says how long it runs."""
    result = stored(recipe)
    assert result is not None
    tokens = {(run.arm, run.seed): run.tokens for run in result.runs}
    for name in result.controls:
        changes = recipe.spec.controls[name]
        if not any(key.startswith(("training.steps", "budget")) for key in changes) and not recipe.spec.collect:
            assert all(tokens[name, seed] >= 0.9 * tokens[RECIPE, seed] for seed in result.of(name))


def test_the_page_of_effects_is_what_the_results_give() -> None:
    assert (RECIPES / EFFECTS).read_text() == effects(RECIPES), "sparring recipes measure NAME --write writes it anew"
