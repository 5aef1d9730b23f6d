"""The code environment's modes: right answers earn the full mark, junk nothing, hidden tests stay hidden, rows hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from numpy.random import default_rng

from sparring.envs.code.env import CodeEnvironment, CodeOptions
from sparring.envs.code.modes import MODES
from sparring.envs.code.modes.base import on_held_out_side, read_value
from sparring.envs.code.modes.expressions import INPUTS, Expression, telling_inputs, write_expression
from sparring.envs.code.sandbox import Sandbox
from sparring.envs.types import Refusal, Task, Validity
from sparring.scenarios.errors import ScenarioError

RNG = default_rng(0)
GRADED = ["write_program", "function", "repair"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=2) as opened:
        yield opened


@pytest.fixture
def play(sandbox: Sandbox) -> Iterator[Any]:
    made: list[CodeEnvironment] = []

    def make(mode: str, **options: Any) -> CodeEnvironment:
        made.append(CodeEnvironment({"mode": mode, **options}, sandbox=sandbox))
        return made[-1]

    yield make
    for environment in made:
        environment.close()


def to_the_end(environment: CodeEnvironment) -> tuple[float, list[str]]:
    """What the oracle earns, and everything that was observed on the way."""
    seen, over, value = [], False, 0.0
    while not over:
        action = environment.oracle()
        assert action is not None
        observation, value, over, _, _ = environment.step(action)
        seen.append(observation)
    return value, seen


def test_the_options_name_every_mode() -> None:
    assert {example["mode"] for example in CodeEnvironment.examples} == set(MODES)
    assert all(CodeOptions.model_validate({"mode": name}).mode == name for name in MODES)


@pytest.mark.parametrize("mode", MODES)
def test_the_oracle_earns_the_full_mark_on_fifty_tasks(play: Any, mode: str) -> None:
    environment = play(mode)
    depths = environment.parameters["depth"]
    for seed in range(50):
        parameters = {"depth": depths[seed % len(depths)]}
        task = (environment.held_out if seed % 2 else environment.sample)(parameters, default_rng(seed))
        environment.reset(seed=seed, options={"task": task})
        assert to_the_end(environment)[0] == 1.0, task


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("score", ["all", "share"])
def test_junk_earns_nothing(play: Any, mode: str, score: str) -> None:
    environment = play(mode, score=score)
    most = 1.0 if score == "share" and mode in GRADED else 0.0
    for seed in range(4):
        task = environment.sample({"depth": 2}, default_rng(seed))
        for answer in environment.junk_answers(task):
            environment.reset(options={"task": task})
            value = environment.step(answer)[1]
            assert value == 0.0 or value < most, (task, answer)


@pytest.mark.parametrize("mode", GRADED)
def test_hidden_tests_are_in_no_observation_and_no_payload(play: Any, mode: str) -> None:
    for seed in range(20):
        environment = play(mode, tries=3)
        task = environment.sample({"depth": 2}, default_rng(seed))
        first, _ = environment.reset(options={"task": task})
        leak = "<answer>def f(*a): raise ValueError(a)</answer>", "<answer>def f(*a): print(a)</answer>"
        said = [environment.step(action)[0] for action in (*leak, environment.oracle() or "")]
        shown = "\n".join([first, str(task.payload), *said])
        for text in [*task.secret["tests"], str(task.secret["reference"])]:
            assert text not in shown
        inputs = {text[2 : text.index(")")] for text in task.secret["tests"]}
        assert not any(f"({value},)" in shown for value in inputs)


def test_the_notebooks_data_and_answer_are_not_in_the_question(play: Any) -> None:
    environment = play("notebook")
    for seed in range(20):
        first, info = environment.reset(seed=seed)
        task = info["task"]
        assert task.secret["setup"] not in first and task.secret["reference"] not in f"{first} {task.payload}"


HOSTILE = {
    "<answer>def f(x):\n while True: pass</answer>": "timeout",
    "<answer>import sys\nsys.exit(0)\ndef f(x): pass</answer>": "exception",
    "<answer>def f(x): print('x' * 10**7)</answer>": "output_limit",
    "<answer>import builtins\nbuiltins.abs = builtins.min = None\ndef f(x): return min(x, 3)</answer>": "exception",
    "<answer>class E(int):\n def __eq__(s, o): return True\ndef f(x): return E(1)</answer>": "exception",
    "<answer>def f(x): return [0] * 10**9</answer>": "memory",
    "<answer>import os\nos._exit(0)\ndef f(x): pass</answer>": "crashed",
    "<answer>import nothing_of_the_sort\ndef f(x): pass</answer>": "module_unavailable",
    "no tags": "no answer",
    "<answer>\ud800</answer>": "exception",
    "<answer>" + "(" * 300 + "</answer>": "exception",
}


@pytest.mark.parametrize("mode", GRADED)
@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: HOSTILE[answer])
def test_a_hostile_candidate_earns_nothing_under_its_own_name(play: Any, mode: str, answer: str) -> None:
    environment = play(mode, wall_s=0.5)
    environment.reset(seed=3)
    score = environment.step(answer)[4]["scores"][0]
    assert (score.value, score.validity) == (0.0, Validity.VALUED)
    assert score.note.startswith(HOSTILE[answer])


@pytest.mark.parametrize("mode", [*GRADED, "find_input", "notebook"])
def test_a_failure_of_the_sandbox_is_invalid_and_never_nothing(mode: str, dying: Sandbox) -> None:
    environment = CodeEnvironment({"mode": mode}, sandbox=dying)
    environment.reset(seed=1)
    scores = environment.step(environment.oracle() or "")[4]["scores"]
    assert [(score.validity, score.value) for score in scores] == [(Validity.INVALID, None)]


def test_the_stamp_says_under_what_isolation_programs_run(play: Any, sandbox: Sandbox) -> None:
    assert play("repair").stamp == f"code sandbox={sandbox.tier}"
    open_ended = CodeEnvironment({"sandbox": "none", "workers": 1}, allow_unsafe=True)
    assert open_ended.stamp == "code sandbox=none"
    open_ended.close()


def test_a_share_counts_hidden_tests_and_only_if_the_shown_ones_pass(play: Any) -> None:
    environment = play("write_program", score="share", tries=1)
    row = {"examples": ["f(1) == 1", "f(2) == 2"], "tests": ["f(3) == 3", "f(4) == 0", "f(5) == 5", "f(6) == 6"]}
    task = environment.task_from_row(row, "here")
    values = []
    for answer in ("x", "x if x > 1 else 9", "x if x != 4 else 0"):
        environment.reset(options={"task": task})
        values.append(environment.step(f"<answer>{answer}</answer>")[1])
    assert values == [0.75, 0.0, 1.0]


def test_any_input_with_the_right_output_is_right(play: Any) -> None:
    environment = play("find_input")
    task = environment.task_from_row({"program": "a=?\nprint(a % 7)", "input": 10}, "here")
    right = {"3": 1.0, "10": 1.0, "-4": 1.0, "3.0": 0.0, "4": 0.0, '"3"': 0.0, "3);print(3": 0.0, "a": 0.0}
    for answer, value in right.items():
        environment.reset(options={"task": task})
        assert environment.step(f"<answer>{answer}</answer>")[1] == value, answer


def test_functions_of_the_two_sides_are_never_the_same() -> None:
    sides: dict[Any, set[tuple[int, ...]]] = {"train": set(), "held_out": set()}
    for side, found in sides.items():
        for seed in range(200):
            found.add(write_expression(2, default_rng(seed), side).values())
        assert all(on_held_out_side(str(values)) == (side == "held_out") for values in found)
    assert not sides["train"] & sides["held_out"]


def test_text_and_meaning_of_an_expression_agree(sandbox: Sandbox) -> None:
    drawn = [write_expression(1 + seed % 3, default_rng(seed), "train") for seed in range(60)]
    texts = ", ".join(f"lambda x: {found.text}" for found in drawn)
    with sandbox.open(f"FS = [{texts}]\ndef f(n, x): return FS[n](x)") as live:
        for number, found in enumerate(drawn):
            assert [live.call("f", [number, value]).value for value in INPUTS] == list(found.values()), found.text


def test_shown_inputs_leave_one_function() -> None:
    clipped = Expression((("smaller", 7),))
    for seed in range(20):
        inputs = telling_inputs(clipped, 3, default_rng(seed))
        assert inputs is None or any(value > 7 for value in inputs)


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("-12", -12), ('"a"', "a"), ("[1, 2.5, null]", [1, 2.5, None]), ("true", True)]
)
def test_a_value_is_read(text: str, value: Any) -> None:
    assert read_value(text) == value


@pytest.mark.parametrize("text", ["", "x", "1+1", "[" * 400, "9" * 500, "NaN", "__import__('os')", "'a'"])
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_value(text)


ADMITTED = {
    "find_input": ["a=3\nb=a*2\nprint(b)", 'a = "xy"\nprint(a[::-1])'],
    "write_program": ["x*3-2", "def f(x):\n    return [x, x * x]", PAIRS := (
        "def f(a, b=1):\n    return a + b\n" + "\n".join(f'# input: ["{word}", "!"]' for word in "abcdefg")
    )],
    "function": ['def f(x):\n    """Thrice x."""\n    return x * 3 - 2'],
    "repair": ["def f(x):\n    return x * 3 - 2", PAIRS],
    "notebook": ["# question: how many\nd = [1, 2]\n# answer\nprint(len(d))"],
}  # fmt: skip


@pytest.mark.parametrize("mode", ADMITTED)
def test_an_admitted_proposal_can_be_played_to_the_full_mark(play: Any, mode: str) -> None:
    environment = play(mode)
    for text in ADMITTED[mode]:
        task = environment.admit(f"```python\n{text}\n```", {}, default_rng(1))
        if mode == "repair" and text is PAIRS:
            assert isinstance(task, Refusal) and task.reason in ("insensitive", "crash")
            continue
        assert isinstance(task, Task), task
        environment.reset(options={"task": task})
        assert to_the_end(environment)[0] == 1.0


REFUSED = {
    "find_input": {"print(1)": "input", "a=b\nprint(a)": "input", "a=1\nprint(7)": "insensitive",
                   "a=1\nimport random\nprint(a, random.random())": "nondeterministic", "a=1\nprint(b)": "crash"},
    "write_program": {"": "empty", "def g(x):\n    return x": "no_function", "def f(x):\n    return 1": "insensitive",
                      "def f(x):\n    return hash(str(x))": "nondeterministic", "def f(x) return": "syntax",
                      "def f(x):\n    while 1: pass": "timeout", "def f(x):\n    return 1 / x": "crash",
                      "def f(x):\n    return 'a' * 99 * x": "output", "def f(x):\n    return f": "crash",
                      "f(x)\n# input: [1]": "input", "x+1\n# input: [1, ]": "input",
                      "def f(x):\n    return float('inf') if x else 0": "output"},
    "function": {"x*3-2": "no_function", "def f(x):\n    return x*3-2": "no_function"},
    "repair": {"def f(x):\n    return 1": "insensitive", "def f(x):\n    return str(x)": "insensitive"},
    "notebook": {"print(1)": "no_question", "# question: q\nd=1/0\n# answer\nprint(d)": "crash",
                 "# question: q\nimport random\n# answer\nprint(random.random())": "nondeterministic"},
}  # fmt: skip


@pytest.mark.parametrize(("mode", "text"), [(mode, text) for mode, texts in REFUSED.items() for text in texts])
def test_a_proposal_is_refused_with_its_reason(play: Any, mode: str, text: str) -> None:
    found = play(mode, wall_s=0.5).admit(text, {}, default_rng(2))
    assert isinstance(found, Refusal) and found.reason == REFUSED[mode][text], found


def test_a_function_kept_for_evaluation_cannot_be_proposed_in_other_words(play: Any) -> None:
    environment = play("write_program")
    kept = environment.held_out({"depth": 2}, default_rng(4)).secret["reference"]
    for text in (kept, f"def f(x):\n    y = x\n    return ({kept}) + y - x"):
        found = environment.admit(text, {}, default_rng(5))
        assert isinstance(found, Refusal) and found.reason == "held_out"


HUMANEVAL = {
    "task_id": "made/0",
    "prompt": 'import math\n\ndef up(x):\n    """Next integer."""\n    return x + 1\n\n'
    'def half(x: float) -> float:\n    """Half of x, rounded up.\n    >>> half(3)\n    2\n    """\n',
    "entry_point": "half",
    "canonical_solution": "    return math.ceil(x / 2)\n",
    "test": "METADATA = {}\ndef check(candidate):\n    assert candidate(3) == 2\n    assert candidate(4) == 2, 'even'\n"
    "    assert abs(candidate(5) - up(2)) < 1e-6\n",
}
MBPP = {
    "prompt": "Write a function to find the shared elements of two lists.",
    "code": "def shared(a, b):\n  return tuple(set(a) & set(b))",
    "test_list": ["assert set(shared((1, 2), (2, 3))) == set((2,))", "assert shared((1,), (2,)) == ()"],
}


@pytest.mark.parametrize("row", [HUMANEVAL, MBPP], ids=["humaneval", "mbpp"])
def test_rows_of_known_data_sets_become_tasks(play: Any, row: dict[str, Any]) -> None:
    environment = play("function")
    task = environment.task_from_row(row, "rows.jsonl:1")
    environment.reset(options={"task": task})
    assert to_the_end(environment)[0] == 1.0
    environment.reset(options={"task": task})
    assert environment.step("<answer>return 0</answer>")[1] == 0.0
    assert not any("assert" in str(value) or "canonical" in name for name, value in task.payload.items())


@pytest.mark.parametrize(
    ("mode", "row", "said"),
    [
        ("function", {**HUMANEVAL, "canonical_solution": "    return 7"}, "its own reference does not pass"),
        ("function", {"prompt": "def f(x):", "tests": "assert g(1) =="}, "entry_point|no Python"),
        ("function", {"prompt": "def f(x):", "entry_point": "f", "tests": []}, "list of texts with tests"),
        ("function", {"prompt": "f", "entry_point": "f", "tests": ["import torch\nassert f(1)"]}, "cannot judge"),
        ("write_program", {"examples": ["f(1) == 2"], "tests": "print(2)"}, "never calls 'f'"),
        ("write_program", {"examples": ["f(1) > 2"], "tests": ["f(1) == 2"]}, "every example must read"),
        ("repair", {"program": "def f(x): return 1", "failing": 3, "tests": ["f(1) == 2"]}, "'failing' must be"),
        ("find_input", {"program": "a=?\nprint(a)"}, "'input' is missing"),
        ("find_input", {"program": "a=1\nprint(a)", "input": 1}, "the first line must be a=\\?"),
        ("find_input", {"program": "a=?\nprint(a)", "input": 1, "output": "2"}, "it prints '1'"),
        ("notebook", {"question": "q", "setup": "1/0", "answer": 1}, "the setup does not run"),
        ("notebook", {"question": "q", "setup": "a=1"}, "'answer' is missing"),
    ],
)
def test_a_row_that_is_no_task_is_named(play: Any, mode: str, row: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=f"rows.jsonl:2: .*({said})"):
        play(mode).task_from_row(row, "rows.jsonl:2")


def cells(environment: CodeEnvironment, *said: str) -> list[str]:
    return [environment.step(text)[0] for text in said]


def test_a_notebook_remembers_what_its_cells_did(play: Any) -> None:
    environment = play("notebook", max_result=60)
    row = {"question": "what is d[1]?", "setup": "d = [1, 22]", "answer": 22}
    environment.reset(options={"task": environment.task_from_row(row, "here")})
    call = '<tool_call>{"name": "python", "arguments": {"code": "e * 2"}}</tool_call>'
    assert cells(environment, "<python>e = d[1]</python>", call) == ["no output", "44"]
    assert "ZeroDivisionError" in environment.step("<python>1/0</python>")[0]
    assert len(environment.step("<python>print('y' * 500)</python>")[0]) == 60
    observation, value, over, _, _ = environment.step("<python>e</python>")
    assert (value, over) == (0.0, True) and "no answer after 4" in observation


def test_a_notebook_branches(play: Any) -> None:
    one, two = play("notebook"), play("notebook")
    row = {"question": "?", "setup": "d = []", "answer": 2}
    one.reset(options={"task": one.task_from_row(row, "here")})
    one.step("<python>d.append(1)</python>")
    kept = one.snapshot()
    assert one.step("<python>d.append(2); d</python>")[0] == "[1, 2]"
    one.restore(kept)
    two.restore(kept)
    assert [env.step("<python>d</python>")[0] for env in (one, two)] == ["[1]", "[1]"]
    assert [env.step("<answer>2</answer>")[1] for env in (one, two)] == [1.0, 1.0]


@pytest.mark.parametrize("said", ["nothing", "<python>1", "<answer>", "<tool_call>{}</tool_call>"])
def test_what_is_neither_cell_nor_answer_earns_nothing(play: Any, said: str) -> None:
    environment = play("notebook", max_calls=1)
    environment.reset(seed=0)
    over, value = False, 0.0
    while not over:
        _, value, over, _, _ = environment.step(said)
    assert value == 0.0


def test_a_cell_that_never_ends_does_not_end_the_episode(play: Any) -> None:
    environment = play("notebook", wall_s=0.3)
    _, info = environment.reset(seed=0)
    assert "timeout" in environment.step("<python>while True: pass</python>")[0]
    assert environment.step(f"<answer>{info['task'].secret['reference']}</answer>")[1] == 1.0
