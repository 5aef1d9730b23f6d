"""Verifiers that raise, hang or answer nonsense give invalid scores that say why; none is read as 0."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs import guard
from sparring.envs.guard import Hung, TooManyHang, abandoned, bounded, cause, judged
from sparring.envs.types import Score, Validity

SHORT = 0.05


def handed(what: Any) -> Any:
    return what


def score(verify: Callable[[], Any], limit_s: float = 30, **more: Any) -> Score:
    return judged("verifier", "mine", verify, limit_s=limit_s, **more)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging verifiers wait for; opened at the end, so that no thread outlives the test."""
    made = threading.Event()
    yield made
    made.set()
    while abandoned():
        time.sleep(0.001)


@pytest.mark.parametrize(("answer", "value"), [
    (True, 1.0), (False, 0.0), (0.25, 0.25), (1, 1.0), (np.float32(0.5), 0.5), (np.bool_(True), 1.0),
    (np.int64(0), 0.0),
])  # fmt: skip
def test_bools_and_numbers_are_the_score(answer: Any, value: float) -> None:
    assert score(partial(handed, answer)) == Score.valued("verifier", value, "mine")


def test_a_score_is_taken_as_it_is() -> None:
    whole = Score.valued("verifier", 0.5, "somebody", "half right")
    assert score(lambda: whole) is whole
    for one in (Score.missing("verifier", "mine", "nothing said"), Score.invalid("verifier", "mine", "no tests")):
        assert score(partial(handed, one)) == one


@pytest.mark.parametrize(("answer", "said"), [
    (None, "gave None (NoneType), no number"), ("1.0", "gave '1.0' (str), no number"), ([1.0], "(list), no number"),
    (math.nan, "gave nan, no number to learn from"), (-math.inf, "gave -inf"), (1.5, "gave 1.5, outside 0 to 1"),
    (-1, "gave -1, outside 0 to 1"), (1j, "(complex)"), (10**400, "OverflowError"), (np.array([1.0, 2.0]), "(ndarray)"),
    (Score("verifier", None, Validity.VALUED, "mine"), "gave None"), (Score.valued("verifier", math.nan, "x"), "nan"),
    (Score.valued("style", 1.0, "mine"), "gave a score called 'style'"),
    (Score("verifier", "yes", Validity.VALUED, "mine"), "gave 'yes' (str)"),  # type: ignore[arg-type]  # the point
])  # fmt: skip
def test_nonsense_is_invalid_with_its_cause(answer: Any, said: str) -> None:
    found = score(partial(handed, answer))
    assert found.validity is Validity.INVALID and found.value is None
    assert said in found.note and "\n" not in found.note


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(-5, 0), st.floats(0, 5))
def test_a_number_is_a_score_just_where_it_is_in_range(number: float, low: float, high: float) -> None:
    found = score(lambda: number, between=(low, high))
    assert (found.value == number) is (low <= number <= high)
    assert (found.validity is Validity.VALUED) is (found.value is not None)


def test_a_verifier_that_raises_says_what_and_where() -> None:
    row: dict[str, bool] = {}
    found = score(lambda: row["answer"])
    assert found.validity is Validity.INVALID
    assert found.note.startswith("KeyError: 'answer' (test_guard.py, line ")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def unspeakable() -> bool:
    raise Unspeakable


def shouting() -> bool:
    raise ValueError("\ud800 one\ntwo" + "!" * 9000)


@pytest.mark.parametrize(("verify", "said"), [
    (lambda: sys.exit(3), "raised SystemExit: 3"), (unspeakable, "its words cannot be read: ValueError"),
    (shouting, "ValueError: ? one two!!!"),
])  # fmt: skip
def test_neither_an_exit_nor_strange_words_get_through(verify: Callable[[], bool], said: str) -> None:
    found = score(verify)
    assert found.validity is Validity.INVALID and said in found.note and len(found.note) < 600
    found.note.encode()  # what a database can hold


def test_endless_recursion_is_an_invalid_score() -> None:
    def deeper() -> bool:
        return deeper()

    assert "RecursionError" in score(deeper).note


def test_a_verifier_that_hangs_is_left_behind(gate: threading.Event) -> None:
    found = score(gate.wait, SHORT)
    assert found == Score.invalid("verifier", "mine", found.note) and abandoned() == 1
    assert found.note == "verifier by mine did not come back within 0.05 s and was left behind"
    assert score(lambda: True).value == 1.0
    gate.set()
    while abandoned():
        time.sleep(0.001)  # one that comes back late is forgotten


def test_past_a_few_that_hang_none_is_called_any_more(gate: threading.Event) -> None:
    called = threading.Event()
    for _ in range(guard.MOST_ABANDONED):
        score(gate.wait, SHORT)
    with pytest.raises(TooManyHang, match=r"4 calls never came back \(verifier by mine\).*time limit of its own"):
        score(called.set)
    assert not called.is_set()


def test_who_hangs_holds_up_nobody_else(gate: threading.Event) -> None:
    with contextlib.suppress(Hung):
        bounded(gate.wait, SHORT, "a slow one")
    assert [bounded(partial(handed, n), 30, "quick") for n in range(20)] == list(range(20))


def test_a_call_keeps_its_context_and_raises_its_own_error() -> None:
    colour: ContextVar[str] = ContextVar("colour", default="none")
    colour.set("red")
    assert bounded(colour.get, 30, "a look") == "red"
    with pytest.raises(ZeroDivisionError) as raised:
        bounded(lambda: 1 / 0, 30, "a division")
    assert "test_guard.py" in cause(raised.value)


def test_threads_are_used_again_and_a_forked_process_has_its_own() -> None:
    idents = {bounded(threading.get_ident, 30, "a look") for _ in range(50)}
    assert len(idents) == 1 and threading.get_ident() not in idents
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork beside threads is what is tried
        child = os.fork()
    if not child:
        os._exit(0 if bounded(lambda: 7, 5, "in the child") == 7 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_calls_from_many_threads_do_not_meet() -> None:
    with ThreadPoolExecutor(16) as crowd:
        found = list(crowd.map(lambda n: bounded(partial(handed, n), 30, "one of many"), range(500)))
    assert found == list(range(500)) and abandoned() == 0


@pytest.mark.parametrize("limit_s", [0, -1, math.nan, math.inf])
def test_a_limit_must_be_a_time(limit_s: float) -> None:
    with pytest.raises(ValueError, match="no time to wait"):
        bounded(lambda: 1, limit_s, "x")
