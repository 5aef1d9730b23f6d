"""The split grader: what passes, how each way of failing is named, and that tests stay out of the candidate's reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.code.grader import Grade, Rules, Verdict, grade, rehearse
from sparring.envs.code.outcome import Limits
from sparring.envs.code.same import same
from sparring.envs.code.sandbox import Sandbox
from sparring.envs.code.suites import Case, Script, UnreadableTest, entry_point_of, read_test, read_tests

LIMITS = Limits(wall_s=1, cpu_s=2, memory_mb=256)
RULES = Rules(LIMITS)
CASES = ["f(2) == 5", "assert f(0) == 1", "assert 21 == f(x=10)"]
RIGHT = "def f(x): return x * 2 + 1"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1) as opened:
        yield opened


def judged(sandbox: Sandbox, source: str, tests: list[str], every: bool = False) -> Verdict:
    rules = Rules(LIMITS, every=every)
    return grade(sandbox, source, "f", read_tests(tests, "f"), rules)


def test_a_right_candidate_passes_every_test(sandbox: Sandbox) -> None:
    assert judged(sandbox, RIGHT, CASES) == Verdict(Grade.PASSED, 3, 3)


HOSTILE = {
    "def f(x): return 5": "wrong_answer",
    "def f(x): return None": "wrong_answer",
    "def f(x): return float(x * 2 + 1)": "wrong_answer",
    "def f(x): return 1 / 0": "exception",
    "def f(x": "exception",
    "def g(x): return 5": "exception",
    "import sys\nsys.exit(0)": "exception",
    "def f(x): raise SystemExit(0)": "exception",
    "def f(x):\n while True: pass": "timeout",
    "while True: pass": "timeout",
    "def f(x): return [0] * 10**9": "memory",
    "def f(x): print('x' * 10**7)": "output_limit",
    "def f(x): return 'x' * 10**7": "output_limit",
    "def f(x): return 1 << 10**6": "output_limit",
    "import os\ndef f(x): os._exit(0)": "crashed",
    "import ctypes\ndef f(x): ctypes.string_at(0)": "crashed",
    "import no_such_module": "module_unavailable",
    "class Equal(int):\n def __eq__(self, other): return True\ndef f(x): return Equal(5)": "exception",
    "import builtins\nbuiltins.len = builtins.repr = lambda x: 5\ndef f(x): return 5": "*",
    "def f(x):\n import os\n os.write(5, b'ok' * 50)\n return 5": "*",
}


@pytest.mark.parametrize("source", HOSTILE)
def test_every_way_of_failing_has_its_name_and_none_is_ours(sandbox: Sandbox, source: str) -> None:
    found = judged(sandbox, source, CASES)
    assert found.grade not in (Grade.PASSED, Grade.SANDBOX_ERROR)
    assert HOSTILE[source] in (found.grade, "*")
    assert judged(sandbox, RIGHT, CASES).grade is Grade.PASSED


def test_the_tests_after_a_failure_run_when_the_share_counts(sandbox: Sandbox) -> None:
    assert judged(sandbox, "def f(x): return 5", CASES, every=True) == Verdict(Grade.WRONG_ANSWER, 1, 3)


SPY = """
import gc, sys
def f(x):
    needle, seen, frame = 'zq' + str(x) + '-91', [], sys._getframe().f_back
    while frame:
        seen.append(dict(frame.f_locals))
        frame = frame.f_back
    seen += [held for held in gc.get_objects() if type(held) in (list, tuple, dict, set) and len(held) < 50]
    seen = [held for held in seen if needle in ascii(held)]
    return 'found' if seen else 'clean'
"""


def test_what_is_expected_is_nowhere_in_the_candidates_process(sandbox: Sandbox) -> None:
    assert judged(sandbox, SPY, ["f(7) == 'clean'", "f(7) == 'zq7-91'"], every=True).passed == 1
    told = SPY + "HELD = ['zq' + str(7) + '-91']\n"  # the spy sees what is there
    assert judged(sandbox, told, ["f(7) == 'found'"]).grade is Grade.PASSED


LOOP = """
def check(candidate):
    for value in range(5):
        assert candidate(value) == 2 * value + 1
    try:
        candidate("a" * 3)
    except TypeError:
        return
    raise AssertionError("text is no number")
"""


def test_a_script_runs_apart_and_reaches_the_candidate_through_us(sandbox: Sandbox) -> None:
    assert judged(sandbox, RIGHT, [LOOP]) == Verdict(Grade.PASSED, 1, 1)
    assert judged(sandbox, "def f(x): return x * 2", [LOOP]).grade is Grade.WRONG_ANSWER
    assert judged(sandbox, "def f(x): raise ValueError", [LOOP]).grade is Grade.EXCEPTION
    assert judged(sandbox, "def f(x):\n while x == x: pass", [LOOP]).grade is Grade.TIMEOUT


def test_a_script_that_draws_at_random_asks_the_same_each_time(sandbox: Sandbox) -> None:
    drawn = "import random\nfor _ in range(20):\n    n = random.randint(0, 99)\n    assert f(n) == 2 * n + 1"
    assert judged(sandbox, RIGHT, [drawn]).grade is Grade.PASSED


def test_a_test_that_differs_between_runs_judges_nobody(sandbox: Sandbox) -> None:
    clock = "import time\nfor _ in range(3):\n    f(time.perf_counter_ns())\nassert True, f(1)"
    assert judged(sandbox, RIGHT, [clock]).grade is Grade.SANDBOX_ERROR


@pytest.mark.parametrize(
    ("text", "said"),
    [("import numpy\nassert f(1) == 3", "ModuleNotFoundError"), ("assert helper(f) == 1", "NameError")],
)
def test_a_script_that_can_judge_nobody_is_found_beforehand(sandbox: Sandbox, text: str, said: str) -> None:
    assert said in (rehearse(sandbox, Script(text), "f", LIMITS) or "")
    assert rehearse(sandbox, Script(LOOP), "f", LIMITS) is None


SHAPES: dict[str, Any] = {
    "assert f(1, [2]) == {'a': (1,)}": Case((1, [2]), {"a": (1,)}),
    "assert candidate(n=2) == -1, 'message'": Case((), -1, {"n": 2}),
    "assert f('x') is None": Case(("x",), None),
    "assert True\nassert f(1) == 2": Case((1,), 2),
    "METADATA = {}\ndef check(candidate):\n    assert candidate(3) == 4": Case((3,), 4),
    "assert abs(f(1) - 2) < 1e-6": Script("assert abs(f(1) - 2) < 1e-6"),
    "set(f([1])) == {1}": Script("assert set(f([1])) == {1}"),
    "assert f(*[1]) == 2": Script("assert f(*[1]) == 2"),
    "assert f(1j) == 2": Script("assert f(1j) == 2"),
}


@pytest.mark.parametrize("text", SHAPES)
def test_a_test_is_a_case_or_a_script(text: str) -> None:
    assert read_test(text, "f") == (SHAPES[text],)


@pytest.mark.parametrize("text", ["f(2 ==", "assert 1 == 2", "x = 3"])
def test_a_text_that_tests_nothing_is_refused(text: str) -> None:
    with pytest.raises(UnreadableTest):
        read_test(text, "f")


def test_the_entry_point_is_read_from_asserts() -> None:
    assert entry_point_of(["assert set(remove(1)) == set((2,))"]) == "remove" and entry_point_of(["x = 1"]) is None


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_a_value_is_the_same_as_itself_and_survives_its_passage(value: Any) -> None:
    assert same(value, value) and not same(value, [value])


@pytest.mark.parametrize(
    ("expected", "actual", "right"),
    [
        (1, True, False), (0, False, False), (1, 1.0, False), ([1], (1,), False), ({1}, {1.0}, False),
        ({1: 2}, {True: 2}, False), (1.0, 1.0000001, True), (1.0, 1.1, False), (float("nan"), float("nan"), True),
        (float("inf"), float("inf"), True), (float("inf"), 1e308, False), ("a", b"a", False), (0.0, 1e-9, True),
        ({"k": [1.0]}, {"k": [1.0000001]}, True), (None, 0, False), (2**4000, 2**4000, True), (1.0, True, False),
    ],
)  # fmt: skip
def test_types_are_exact_and_floats_have_a_tolerance(expected: Any, actual: Any, right: bool) -> None:
    assert same(expected, actual, 1e-6) is right


def test_a_float_may_stand_for_an_int_only_where_that_is_asked_for() -> None:
    assert same(2, 2.0, exact=False) and not same(2, 2.0) and not same(1, True, exact=False)
    assert not same(10**400, 1.0, exact=False)


def test_our_own_failure_is_never_a_wrong_answer(dying: Sandbox) -> None:
    found = grade(dying, RIGHT, "f", read_tests(CASES, "f"), RULES)
    assert found.grade is Grade.SANDBOX_ERROR and found.note


def test_a_sandbox_that_cannot_open_is_our_own_failure() -> None:
    with Sandbox(workers=1) as gone:
        pass
    assert grade(gone, RIGHT, "f", read_tests(CASES, "f"), RULES).grade is Grade.SANDBOX_ERROR
