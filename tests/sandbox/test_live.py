"""Live children: calls and cells answer in plain data, every ending has a name, and only the child pays for lying."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.code.jail import answering, plain
from sparring.envs.code.sandbox import Limits, Live, Outcome, Reply, Sandbox
from sparring.scenarios.errors import SandboxUnavailable

sys.path.insert(0, str(Path(__file__).parent))
from soak import descendants  # a sibling of this test, not of the package

PROGRAM = "state = []\ndef add(x):\n    state.append(x)\n    return state\ndef same(x):\n    return x\n"


@pytest.fixture
def live(sandbox: Sandbox) -> Iterator[Live]:
    with sandbox.open(PROGRAM, limits=Limits(wall_s=1.5, cpu_s=3)) as opened:
        assert opened.started.outcome is Outcome.OK
        yield opened


def _one(sandbox: Sandbox, source: str, wall_s: float = 1.0) -> Reply:
    """The reply of ``f()``."""
    with sandbox.open(source, limits=Limits(wall_s=wall_s, cpu_s=1)) as opened:
        return opened.call("f") if opened.ended is None else opened.started


def test_calls_share_one_namespace_and_answer_in_exact_types(live: Live) -> None:
    assert [live.call("add", [n]).value for n in (1, 2)] == [[1], [1, 2]]
    value = {"a": (1, 2.5, None, True), b"b": [{1}, frozenset({"é\ud800"})], -(1 << 3999): ""}
    answered = live.call("same", [value]).value
    assert answered == value and type(answered["a"][3]) is bool
    assert math.isnan(live.call("same", [math.nan]).value)


def test_cells_echo_the_last_expression_and_keep_their_own_output(live: Live) -> None:
    first = live.run("import math\nprint('one')\nx = [1, 2]\nx * 2")
    second = live.run("print('two'); y = x")
    assert (first.value, first.stdout, second.value, second.stdout) == ("[1, 2, 1, 2]", "one\n", None, "two\n")
    assert live.run("None").value is None
    assert live.run("add(7)").value == "[7]"


def test_an_error_ends_the_request_and_not_the_child(live: Live) -> None:
    errors = {"1/0": "ZeroDivisionError", "a =": "SyntaxError", "nobody": "NameError", "raise SystemExit": "SystemExit"}
    for code, name in errors.items():
        reply = live.run(code)
        assert reply.outcome is Outcome.EXCEPTION and name in reply.stderr_tail and "jail" not in reply.stderr_tail
    assert live.call("missing").outcome is Outcome.EXCEPTION
    assert live.run("import numpy").outcome is Outcome.MODULE_UNAVAILABLE
    assert live.run("'x' * (1 << 30)").outcome is Outcome.MEMORY
    assert live.run("lambda: 1").outcome is Outcome.OK and live.call("same", [1]).value == 1


RESULTS = {
    "(n for n in 'ab')": Outcome.EXCEPTION,
    "object()": Outcome.EXCEPTION,
    "type('int', (int,), {})(3)": Outcome.EXCEPTION,
    "self": Outcome.EXCEPTION,
    "10 ** 5000": Outcome.OUTPUT_LIMIT,
    "'x' * 2_000_000": Outcome.OUTPUT_LIMIT,
    "[0] * 200_000": Outcome.OUTPUT_LIMIT,
}


@pytest.mark.parametrize("result", RESULTS)
def test_a_result_that_is_not_small_plain_data_is_the_programs_fault(live: Live, result: str) -> None:
    live.run(f"self = []\nself.append(self)\ndef f(): return {result}")
    assert live.call("f").outcome is RESULTS[result]
    assert live.call("same", [1]).value == 1


DEATHS = {
    "import os\ndef f(): os._exit(0)": Outcome.CRASHED,
    "import ctypes\ndef f(): ctypes.string_at(0)": Outcome.CRASHED,
    "def f():\n  while 1: pass": Outcome.TIMEOUT,
    "import time\ndef f(): time.sleep(60)": Outcome.TIMEOUT,
    "def f():\n  while 1: print('x' * 4096)": Outcome.OUTPUT_LIMIT,
    "import os\ndef f():\n  while 1: os.write(2, b'x' * 4096)": Outcome.OUTPUT_LIMIT,
    "import os\ndef f(): os.write(3, b'x')": Outcome.PROTOCOL_VIOLATION,
    "import os\nos._exit(3)": Outcome.CRASHED,
    "1/0": Outcome.EXCEPTION,
    "a =": Outcome.EXCEPTION,
    "while 1: pass": Outcome.TIMEOUT,
    "b = bytearray(1 << 30)": Outcome.MEMORY,
    "raise SystemExit(4)": Outcome.EXCEPTION,
}


@pytest.mark.parametrize("source", DEATHS)
def test_a_child_that_ends_is_an_outcome_and_stays_one(sandbox: Sandbox, source: str) -> None:
    wall_s = 0.3 if DEATHS[source] is Outcome.TIMEOUT else 10
    with sandbox.open(source, limits=Limits(wall_s=wall_s, cpu_s=2)) as live:
        last = live.call("f") if live.ended is None else live.started
        assert last.outcome is live.ended is DEATHS[source]
        assert live.call("f").outcome is live.run("1").outcome is DEATHS[source]


UNASKED = {
    "a byte before the reply": "def f(): os.write(3, b'x'); return 1",
    "a late byte": "signal.signal(signal.SIGALRM, lambda *_: os.write(3, b'x'))\n"
    "def f(): signal.setitimer(signal.ITIMER_REAL, 0.01); return 1",
    "a second reply": "def f():\n  frame = sys._getframe(2)\n"
    "  os.write(3, b'\\0\\0\\0\\x08' + frame.f_locals['identity'] + b'\\0N'); return 1",
    "a length beyond bounds": "def f(): os.write(3, b'\\x7f\\xff\\xff\\xff')\n",
    "a reply before the question": "os.write(3, bytes(3) + b'\\x08' + bytes(6) + b'\\0N')\ndef f(): return 1",
    "an endless reply": "def f():\n  while 1: os.write(3, bytes(65536))",
    "a value that is none": "def f():\n  frame = sys._getframe(2)\n"
    "  os.write(3, b'\\0\\0\\0\\x08' + frame.f_locals['identity'] + b'\\0?'); time.sleep(9)",
}


@pytest.mark.parametrize("name", UNASKED)
def test_whatever_was_not_asked_for_ends_the_child_even_with_right_answers(sandbox: Sandbox, name: str) -> None:
    with sandbox.open("import os, signal, sys, time\n" + UNASKED[name], limits=Limits(wall_s=2)) as live:
        live.call("f")
        time.sleep(0.05)
        assert live.call("f").outcome is Outcome.PROTOCOL_VIOLATION


def test_a_program_that_leaves_with_zero_still_answers(sandbox: Sandbox) -> None:
    assert _one(sandbox, "def f(): return 3\nraise SystemExit").value == 3


def test_cpu_is_limited_over_the_whole_life() -> None:
    spend = (
        "import time\ndef f():\n  end = time.process_time() + 0.4\n  while time.process_time() < end: pass\n  return 1"
    )
    with Sandbox("auto", workers=1) as sandbox, sandbox.open(spend, limits=Limits(wall_s=5, cpu_s=1)) as live:
        replies = [live.call("f") for _ in range(4)]
    assert replies[0].outcome is Outcome.OK and replies[-1].outcome is Outcome.TIMEOUT
    assert 0.35 < replies[0].cpu_s < 0.6


def test_large_requests_and_replies_cross(live: Live) -> None:
    wide = ["x" * 1000] * 900
    assert live.call("same", [wide]).value == wide


def test_a_cell_that_is_too_long_is_an_error_of_its_own(live: Live) -> None:
    assert live.run("#" * (1 << 21)).outcome is Outcome.EXCEPTION
    assert live.run("'\ud800'").outcome is live.run("\0").outcome is Outcome.EXCEPTION
    assert live.run("#" * (1 << 19) + "\n7").value == "7"


def test_a_forked_copy_of_the_trainer_does_not_end_its_children(live: Live) -> None:
    if os.fork() == 0:
        live.close()
        os._exit(0)
    os.wait()
    assert live.call("same", [1]).value == 1


def test_arguments_that_are_not_plain_are_the_callers_error(live: Live) -> None:
    with pytest.raises(ValueError, match="not plain data"):
        live.call("same", [object()])
    assert live.call("same", [1]).value == 1


def test_many_children_live_at_once_and_die_with_their_handles(sandbox: Sandbox) -> None:
    lives = [sandbox.open(f"def f(): return {n}", variant=n % 2) for n in range(12)]
    assert [live.call("f").value for live in lives] == list(range(12))
    assert sandbox.run("print(1)").stdout == "1\n"
    for live in lives[1:]:
        live.close()
        live.close()
    assert lives[0].call("f").value == 0
    lives[0].close()
    with pytest.raises(ValueError, match="closed"):
        lives[0].call("f")


def test_one_too_many_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparring.envs.code.sandbox._MOST_LIVE", 1)
    monkeypatch.setattr("sparring.envs.code.sandbox._PATIENCE_S", 0.1)
    refused = pytest.raises(SandboxUnavailable, match="close one")
    with Sandbox("auto", workers=1) as shared, shared.open(""), refused:
        shared.open("")


def test_requests_of_threads_wait_in_line(live: Live) -> None:
    answers: list[object] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(live.call("same", [n]).value)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, answers)) == [str(n) for n in range(8)]


def test_a_zygote_killed_from_outside_is_our_failure_and_the_next_child_is_fine() -> None:
    with Sandbox("auto", workers=1) as shared:
        live = shared.open("def f(): return 1")
        for pid in shared.processes():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        assert live.call("f").outcome is Outcome.SANDBOX_ERROR
        live.close()
        with shared.open("def f(): return 2") as again:
            assert again.call("f").value == 2


def test_closing_leaves_no_process_and_no_descriptor() -> None:
    with Sandbox("auto", workers=1) as shared:
        shared.open("").close()
        before, zygotes = len(os.listdir("/proc/self/fd")), 2 * len(shared.processes())
        for n in range(50):
            with shared.open("import os\ndef f(): os._exit(0)") as live:
                live.call("f") if n % 2 else None
        abandoned = shared.open("")
        del abandoned
        deadline = time.monotonic() + 5
        while len(descendants(shared.processes())) > zygotes and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(descendants(shared.processes())) == zygotes
        assert len(os.listdir("/proc/self/fd")) <= before


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_survives_the_crossing_with_its_types(value: object) -> None:
    assert repr(plain.decode(plain.encode(value))) == repr(value)


@given(st.binary(max_size=300))
def test_hostile_bytes_decode_to_plain_data_or_are_malformed(data: bytes) -> None:
    try:
        value = plain.decode(data)
    except plain.Malformed:
        return
    plain.encode(value)


@given(PLAIN, st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_value_never_raises_anything_else(value: object, at: int, byte: int) -> None:
    data = bytearray(plain.encode(value))
    data[at % len(data)] = byte
    try:
        plain.decode(bytes(data))
    except plain.Malformed as error:
        assert str(error)


BOMBS = {
    "deep": b"L\0\0\0\1" * 1000 + b"N",
    "wide": b"L\xff\xff\xff\xff",
    "wide integer": b"I\xff\xff" + b"x" * 0xFFFF,
    "a second value": b"NN",
    "an unhashable key": b"M\0\0\0\1L\0\0\0\0N",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_malformed(name: str) -> None:
    with pytest.raises(plain.Malformed):
        plain.decode(BOMBS[name])


def test_keys_made_to_collide_are_malformed() -> None:
    keys = {tuple(-1 - (n >> bit & 1) for bit in range(12)): None for n in range(1000)}
    with pytest.raises(plain.Malformed, match="collide"):
        plain.decode(plain.encode(keys))


def test_a_frame_is_what_the_child_reads() -> None:
    assert answering.frame(b"abcdef", 1, b"xy") == b"\0\0\0\x09abcdef\x01xy"
