"""The block a recipe describes itself in: it is checked, stored, and changes nothing of what runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.scenarios import load as loading
from sparring.scenarios.digest import digest
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import from_resolved
from sparring.scenarios.recipe_spec import words
from sparring.scenarios.schema import Scenario
from sparring.scenarios.yaml_text import parse

Small = Callable[..., Scenario]
BLOCK = """\
recipe:
  paper: "A title, arXiv 2505.14970"
  mechanism: "It does this. And that."
  controls: {random: {curriculum: {kind: random, temperature: {linear: {from: 1, to: 0}}}, training.steps: 3}}
  gpu: {policy.model: Qwen/Qwen3-4B}
  watch: {weight/depth=2: "falls once it is learnt"}
name: small"""


@pytest.fixture
def described(small: Small) -> Scenario:
    return small(("name: small", BLOCK))


def test_the_block_changes_no_digest(small: Small, described: Scenario) -> None:
    assert described.digest == small().digest
    assert described.recipe is not None and small().recipe is None


def test_a_stored_scenario_has_its_block_and_one_without_loads(small: Small, described: Scenario) -> None:
    assert from_resolved(described.resolved()).recipe == described.recipe
    assert "recipe" not in small().resolved()
    assert from_resolved(small().resolved()) == small()


@pytest.mark.parametrize("name", loading.shipped())
def test_no_digest_holds_the_block(name: str) -> None:
    scenario = loading.load(name)
    data = scenario.resolved()
    assert ("recipe" in data) == (scenario.recipe is not None)
    assert scenario.digest == digest({key: value for key, value in data.items() if key not in ("source", "recipe")})


@pytest.mark.parametrize(
    ("old", "new", "words_of_it"),
    [
        ("training.steps: 3", "trainin.steps: 3", "controls.random.trainin.steps: unknown key 'trainin'; did you"),
        ("training.steps: 3", "training..steps: 3", "unknown key 'training'"),
        ("training.steps: 3", "name: other", "unknown key 'name'"),
        ("policy.model: Qwen", "polcy.model: Qwen", "gpu.polcy.model: unknown key 'polcy'; did you mean 'policy'?"),
        ("{random: {", "{recipe: {", "recipe.controls.recipe: a control is named by"),
        ("mechanism:", "mechanisms:", "recipe.mechanisms: unknown key 'mechanisms'; did you mean 'mechanism'?"),
        ("  gpu:", "  claim: more\n  gpu:", "recipe.claim: found 'more'"),
    ],
)
def test_what_is_wrong_in_it_is_told_with_its_line(small: Small, old: str, new: str, words_of_it: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        small(("name: small", BLOCK.replace(old, new)))
    assert words_of_it in str(caught.value) and "small.yaml:" in str(caught.value)


def test_a_control_that_changes_nothing_is_refused(small: Small) -> None:
    block = BLOCK.replace(BLOCK.splitlines()[3], "  controls: {same: {}}")
    with pytest.raises(ScenarioError, match="is the recipe itself"):
        small(("name: small", block))


def test_a_recipe_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, default_text: str) -> None:
    (tmp_path / "shown.yaml").write_text(default_text)
    monkeypatch.setattr(loading, "RECIPES", tmp_path)
    assert loading.load("shown").name == "code-output"
    with pytest.raises(ScenarioError, match="did you mean 'shown'"):
        loading.load("showm")


leaves: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
leaves |= st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))  # what YAML can say at all
names = st.text("abcdefghij_", min_size=1)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@given(values)
def test_an_override_in_words_is_the_value_again(value: Any) -> None:
    (word,) = words({"training.steps": value})
    key, _, written = word.partition("=")
    assert key == "training.steps"
    assert parse(f"x: {written}" if written else "", "x").value == {"x": value}


def test_a_number_in_words_keeps_its_type() -> None:
    assert words({"a": 1.0, "b": 1, "c": 5e-05, "d": {"e": [1e22, True]}}) == [
        "a=1.0", "b=1", "c=5.0e-05", 'd={"e": [1.0e+22, true]}',
    ]  # fmt: skip
