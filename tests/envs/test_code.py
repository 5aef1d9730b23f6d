"""The code environment: what it admits, why it refuses, how it scores, and that it branches."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from numpy.random import default_rng

from sparring.envs.code.env import CodeEnvironment
from sparring.envs.code.programs import held_out
from sparring.envs.types import Refusal, Task
from sparring.scenarios.errors import SandboxUnavailable

RNG = default_rng(0)


@pytest.fixture(scope="module")
def code() -> Iterator[CodeEnvironment]:
    environment = CodeEnvironment()
    yield environment
    environment.close()


REFUSED = {
    "": "empty",
    "```python\n```": "empty",
    "a=1\nprint(a": "syntax",
    "a=1\nprint('\ud800')": "syntax",
    "a=1\nprint(b)": "crash",
    "import numpy\nprint(1)": "crash",
    "import ctypes\nctypes.string_at(0)": "crash",
    "a=1\nwhile a:0": "timeout",
    "a=1": "output",
    "import os\nos._exit(0)": "output",
    "print('x' * 100)": "output",
    "while 1:print(1)": "output",
    "print(chr(0))": "output",
    "import random\nprint(random.random())": "nondeterministic",
    "print({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'})": "nondeterministic",
    "print(hash('a'))": "nondeterministic",
    "a=1\n" * 200: "too_long",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_bad_proposal_is_refused_with_its_reason(code: CodeEnvironment, text: str) -> None:
    answer = code.admit(text, {}, RNG)
    assert isinstance(answer, Refusal) and answer.reason == REFUSED[text], answer


def test_an_admitted_program_is_the_task_a_generator_would_make(code: CodeEnvironment) -> None:
    made = code.sample({"depth": 3}, default_rng(5))
    admitted = code.admit(f"```\n{made.payload['program']}\n```", {"depth": 3}, RNG)
    assert isinstance(admitted, Task)
    assert (admitted.key, admitted.payload, admitted.secret) == (made.key, made.payload, made.secret)
    assert admitted.origin == "proposal"


def test_depth_counts_lines_beside_prints(code: CodeEnvironment) -> None:
    program = "a=1\n\n# note\nb=a+1\nprint(b)"
    assert isinstance(code.admit(program, {"depth": 2}, RNG), Task)
    refused = code.admit(program, {"depth": 3}, RNG)
    assert isinstance(refused, Refusal) and refused.reason == "wrong_depth"


def test_a_program_of_the_evaluation_set_is_refused() -> None:
    environment = CodeEnvironment()
    task = environment.sample({"depth": 2, "split": "held_out"}, default_rng(1))
    assert held_out(task.payload["program"]) and task.parameters == {"depth": 2}
    environment.reserve([task.key])
    refused = environment.admit(task.payload["program"], {"depth": 2}, RNG)
    assert isinstance(refused, Refusal) and refused.reason == "held_out"


def test_threads_may_propose_at_once(code: CodeEnvironment) -> None:
    programs = [f"a={n}\nprint(a)" for n in range(12)]
    with ThreadPoolExecutor(4) as threads:
        tasks = list(threads.map(lambda program: code.admit(program, {"depth": 1}, RNG), programs))
    assert [task.secret["reference"] for task in tasks if isinstance(task, Task)] == [str(n) for n in range(12)]


def test_a_wrong_answer_may_be_revised_once() -> None:
    environment = CodeEnvironment()
    _, info = environment.reset(seed=1)
    right = f"<answer>{info['task'].secret['reference']}</answer>"
    _, reward, terminated, truncated, _ = environment.step("<answer>wrong</answer>")
    assert (reward, terminated, truncated) == (0.0, False, False)
    _, reward, terminated, _, info = environment.step(right)
    assert (reward, terminated, [score.name for score in info["scores"]]) == (1.0, True, ["verifier"])
    environment.reset(seed=1)
    environment.step("")
    assert environment.step("")[2] is True


def test_sandbox_none_needs_a_second_yes() -> None:
    with pytest.raises(SandboxUnavailable, match="second time"):
        CodeEnvironment({"sandbox": "none"})
    environment = CodeEnvironment({"sandbox": "none", "workers": 1}, allow_unsafe=True)
    assert isinstance(environment.admit("print(1)", {}, RNG), Task)
    environment.close()


def test_the_sandbox_opens_on_first_need_and_closes_with_its_last_user() -> None:
    one, two = CodeEnvironment({"workers": 1}), CodeEnvironment({"workers": 1})
    assert one._sandbox is None
    for environment in (one, two):
        assert isinstance(environment.admit("print(1)", {}, RNG), Task)
    shared = one._sandbox
    assert shared is not None and shared is two._sandbox
    one.close()
    assert isinstance(two.admit("print(2)", {}, RNG), Task)
    two.close()
    with pytest.raises(SandboxUnavailable, match="closed"):
        shared.run("print(1)")
