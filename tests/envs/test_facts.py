"""Made-up facts: what they say, whether they can be asked for, and other environments' tasks that are made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.facts import FactSource, chain, draw, written
from sparring.envs.reading import ReadingEnvironment
from sparring.envs.search.env import SearchEnvironment
from sparring.scenarios.errors import ScenarioError


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 12), st.integers(0, 2))
def test_every_subject_has_a_number_that_the_facts_lead_to(seed: int, count: int, linked: int, syllables: int) -> None:
    facts = draw(np.random.default_rng(seed), count, linked, syllables)
    assert len({fact.subject for fact in facts}) == len(facts) == count
    assert all(chain(facts, fact.subject)[-1].value.isdigit() for fact in facts)
    assert sum(not fact.value.isdigit() for fact in facts) == min(linked, count - 1)


def test_numbers_differ_while_there_are_enough() -> None:
    one_digit = [{fact.value for fact in draw(np.random.default_rng(seed), 8, digits=1)} for seed in range(20)]
    assert all(numbers == set("23456789") for numbers in one_digit)
    assert len(draw(np.random.default_rng(0), 12, digits=1)) == 12


def test_facts_that_lead_nowhere_have_no_chain() -> None:
    facts = draw(np.random.default_rng(1), 3, linked=1, syllables=0)
    link = next(fact for fact in facts if not fact.value.isdigit())
    assert chain([fact for fact in facts if fact.subject != link.value], link.subject) == []


@pytest.mark.parametrize("environment", [SearchEnvironment({"backend": "simulated"}), ReadingEnvironment()])
def test_the_source_asks_any_environment_that_takes_rows(environment: SearchEnvironment | ReadingEnvironment) -> None:
    source = FactSource({"facts": 3}, environment)
    task = source.sample({}, np.random.default_rng(0))
    assert task.payload["question"] == "What is the number of dad?"
    assert source.sample({}, np.random.default_rng(0)).key == task.key
    trained = {source.sample({}, np.random.default_rng(seed)).key for seed in range(50)}
    held_out = {source.held_out({}, np.random.default_rng(seed)).key for seed in range(50)}
    assert not trained & held_out


@pytest.mark.parametrize(
    ("arm", "way"), [({"documents": 3}, "set tasks.facts instead"), ({"linked": 1}, "set tasks.linked instead")]
)
def test_an_arm_that_the_source_would_not_follow_is_refused(arm: dict[str, int], way: str) -> None:
    source = FactSource({"facts": 3}, ReadingEnvironment())
    with pytest.raises(ScenarioError, match=f"{next(iter(arm))}' cannot be an arm.*{way}"):
        source.held_out(arm, np.random.default_rng(0))


def test_a_fact_in_words_names_its_subject() -> None:
    for fact in draw(np.random.default_rng(3), 5, linked=2):
        assert fact.subject in written(fact) and fact.value in written(fact)


def test_one_fact_of_a_letter_and_a_digit_leaves_enough_tasks_on_either_side() -> None:
    source = FactSource({"syllables": 0, "digits": 1, "style": "plain"}, SearchEnvironment({"backend": "simulated"}))
    train = {source.sample({}, np.random.default_rng(seed)).key for seed in range(60)}
    held_out = {source.held_out({}, np.random.default_rng(seed)).key for seed in range(60)}
    assert len(train) >= 15 and len(held_out) >= 5
