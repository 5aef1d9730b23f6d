"""Rules read their sentences, check texts, and refuse regexes that could hang."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.rules import Check, rule, rule_for, simple_regex

SAID = "<think>a=7\nb = 12\n</think><answer>12</answer>"


@pytest.mark.parametrize(
    ("criterion", "met", "quote"),
    [
        ("answer is 12", True, "12"),
        ("the answer is 12", True, "12"),
        ("answer is 1", False, ""),
        ("a is 7 after line 1", True, "a=7"),
        ("b is 12 after line 2", True, "b = 12"),
        ("b is 12 after line 1", False, ""),
        ("b is 12 after line 9", False, ""),
        ("says B = 12", True, "b = 12"),
        ("says nothing of the kind", False, ""),
        ("at most 5 words", True, "5 words"),
        ("at most 4 words", False, "5 words"),
        ("at least 3 lines", True, "3 lines"),
        ("at least 4 lines", False, "3 lines"),
        (r"matches /a=\d/", True, "a=7"),
        (r"matches /^c=/", False, ""),
    ],
)
def test_rules_check_what_they_say(criterion: str, met: bool, quote: str) -> None:
    found = rule_for(criterion)
    assert found is not None
    assert found.check(criterion, SAID) == (met, quote)


def test_only_the_last_answer_counts() -> None:
    found = rule_for("answer is 5")
    assert found is not None
    assert not found.check("answer is 5", "<answer>5</answer><answer>6</answer>").met
    assert not found.check("answer is 5", "the answer is 5").met


def test_a_sentence_about_a_line_is_not_about_the_answer() -> None:
    found = rule_for("answer is 5 after line 2")
    assert found is not None and found.name == "value_after_line"


@pytest.mark.parametrize("text", ["is kind", "matches /(a+)+$/", "matches /a*a*b/", "matches /(?=x)/", "matches /[/"])
def test_other_sentences_are_left_to_a_judge(text: str) -> None:
    assert rule_for(text) is None


@pytest.mark.parametrize(
    "regex", ["(a+)+", "a|b", r"(.)\1", "a**", "a++b", "a*b*c", "x" * 81, "(?i)a", "a{1,999}", "[a--b]"]
)
def test_regexes_that_are_not_simple_are_refused(regex: str) -> None:
    assert simple_regex(regex) is None


@given(st.text(r"ab.*+?{}[]()|^$\d12,", max_size=30))
def test_every_regex_that_is_taken_is_fast(regex: str) -> None:
    compiled = simple_regex(regex)
    if compiled is not None:
        began = time.perf_counter()
        compiled.search("ab12" * 500)
        compiled.search("a" * 2000)
        assert time.perf_counter() - began < 1


@given(st.text(), st.text())
def test_no_rule_raises(criterion: str, said: str) -> None:
    found = rule_for(criterion)
    if found is not None:
        found.check(criterion, said)


def test_another_package_adds_a_rule_with_a_decorator() -> None:
    @rule("test_shouts", r"shouts")
    def shouts(said: str) -> Check:
        return Check(said.isupper())

    found = rule_for("shouts")
    assert found is not None and found.check("shouts", "AH").met
