"""The split grader: one process has the candidate and its inputs, and what is expected never enters it.

Comparison happens out here. Tests that say more than ``CALL == LITERAL`` run in a second process that holds them and
reaches the candidate only through this side, so nothing a candidate does can touch its own verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from sparring.scenarios.errors import SandboxUnavailable

from .live import Live, Reply
from .outcome import Limits, Outcome
from .same import same
from .sandbox import Sandbox
from .suites import Case, Script, Test

_ATTEMPTS = 3  # gradings begun before our own failure is the result
_MOST_CALLS = 1000  # that one script may make
_NAMED = "_call_with_names"
_RAISED = re.compile(r"^(?:\w+\.)*(\w{1,60})(?::|$)", re.ASCII)


class Grade(StrEnum):
    """How a grading ended. All but ``SANDBOX_ERROR`` are the candidate's doing."""

    PASSED = "passed"
    WRONG_ANSWER = "wrong_answer"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    CRASHED = "crashed"
    PROTOCOL_VIOLATION = "protocol_violation"
    MODULE_UNAVAILABLE = "module_unavailable"
    SANDBOX_ERROR = "sandbox_error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many of the tests passed. ``grade`` names the first failure; ``note`` is set for our own, and ours alone."""

    grade: Grade
    passed: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class Rules:
    """``limits`` of the candidate, how values are compared (see ``same``), and the ``seed`` of the tests' order.

    With ``every`` the tests after a failure run as well, as long as the candidate lives.
    """

    limits: Limits
    tolerance: float = 1e-6
    exact: bool = True
    seed: int = 0
    every: bool = False


def grade(
    sandbox: Sandbox, source: str, entry_point: str, tests: Sequence[Test], rules: Rules, preamble: str = ""
) -> Verdict:
    """Define ``source``, call ``entry_point`` as the tests say, compare. Never raises for what the candidate does.

    ``preamble`` is defined beside scripts (helpers that a prompt gives); it is data of the task, not of the candidate.
    """
    verdict = Verdict(Grade.SANDBOX_ERROR, 0, len(tests), "not begun")
    for _ in range(_ATTEMPTS):
        try:
            verdict = _graded(sandbox, source, entry_point, tests, rules, preamble)
        except SandboxUnavailable as error:  # no child to be had: too many, or zygotes that die
            verdict = Verdict(Grade.SANDBOX_ERROR, 0, len(tests), str(error))
        if verdict.grade is not Grade.SANDBOX_ERROR:
            break
    return verdict


def _graded(
    sandbox: Sandbox, source: str, entry_point: str, tests: Sequence[Test], rules: Rules, preamble: str
) -> Verdict:
    order = np.random.Generator(np.random.Philox(rules.seed)).permutation(len(tests))
    worst, passed = Grade.PASSED, 0
    with sandbox.open(_with_names(source, entry_point), limits=rules.limits) as live:
        if live.started.outcome is not Outcome.OK:
            return _ended(live.started, len(tests))
        for index in order:
            test = tests[int(index)]
            if isinstance(test, Case):
                found, note = _judge(test, live, entry_point, rules), ""
            else:
                found, note = _script(sandbox, test, live, entry_point, rules, preamble)
            if found is Grade.SANDBOX_ERROR:
                return Verdict(found, passed, len(tests), note or "the sandbox failed in a call")
            passed += found is Grade.PASSED
            worst = found if worst is Grade.PASSED else worst
            if worst is not Grade.PASSED and (not rules.every or live.ended is not None):
                break
    return Verdict(worst, passed, len(tests))


def _with_names(source: str, entry_point: str) -> str:
    # defined last, in the candidate's own process: what it makes of it is its own affair
    return f"{source}\ndef {_NAMED}(arguments, named): return {entry_point}(*arguments, **named)\n"


def _ended(reply: Reply, total: int) -> Verdict:
    found = _grade_of(reply)
    return Verdict(found, 0, total, reply.stderr_tail[-200:] if found is Grade.SANDBOX_ERROR else "")


def _grade_of(reply: Reply) -> Grade:
    return Grade.PASSED if reply.outcome is Outcome.OK else Grade(str(reply.outcome))


def _call(live: Live, entry_point: str, arguments: Iterable[Any], named: Any) -> Reply:
    if named:
        return live.call(_NAMED, [tuple(arguments), dict(named)])
    return live.call(entry_point, list(arguments))


def _judge(case: Case, live: Live, entry_point: str, rules: Rules) -> Grade:
    reply = _call(live, entry_point, case.arguments, case.named)
    found = _grade_of(reply)
    if found is not Grade.PASSED:
        return found
    right = same(case.expected, reply.value, rules.tolerance, rules.exact)
    return Grade.PASSED if right else Grade.WRONG_ANSWER


# Runs in the second process. It plays the test from its start each time and stops where an answer is still missing:
# so a test that reads ``candidate(x)`` needs no way out of its sandbox.
_HOLDER = """
import builtins, copy, random
_answers, _asked, _texts = [], [], []
class _Missing(BaseException): pass
def hold(text, entry, preamble):
    _texts[:] = [text, entry, preamble]
def answer(kind, value):
    _answers.append((kind, value))
def play():
    text, entry, preamble = _texts
    place, missing, thrown = [0], [], []
    def candidate(*arguments, **named):
        at = place[0]
        place[0] += 1
        request = repr((arguments, named))
        if at >= len(_answers):
            missing.append((arguments, named))
            if at == len(_asked): _asked.append(request)
            raise _Missing
        if _asked[at] != request:
            missing.append(None)
            raise _Missing
        kind, value = _answers[at]
        if kind == "value": return copy.deepcopy(value)
        error = getattr(builtins, value, None)
        fits = isinstance(error, type) and issubclass(error, Exception)
        thrown.append((error if fits else RuntimeError)())
        raise thrown[-1]
    random.seed(0)
    space = {"__name__": "tests"}
    try:
        try: exec(compile(preamble, "preamble", "exec"), space)
        except SyntaxError: pass
        space[entry] = space["candidate"] = candidate
        exec(compile(text, "tests", "exec"), space)
        if callable(space.get("check")): space["check"](candidate)
        ending = ("passed",)
    except AssertionError: ending = ("wrong_answer",)
    except BaseException as error:
        own = any(error is one for one in thrown)
        ending = ("exception",) if own else ("unfit", f"{type(error).__name__}: {error}"[:200])
    if missing and missing[0] is None: return ("differs",)
    if missing: return ("missing", missing[0][0], missing[0][1])
    return ending
"""


def _script(
    sandbox: Sandbox, script: Script, live: Live, entry_point: str, rules: Rules, preamble: str
) -> tuple[Grade, str]:
    """Play a script in its own process, answering its calls from the candidate's."""
    with sandbox.open(_HOLDER, limits=_holding(rules.limits)) as holder:
        reply = holder.call("hold", [script.text, entry_point, preamble])
        for _ in range(_MOST_CALLS):
            reply = holder.call("play") if reply.outcome is Outcome.OK else reply
            if reply.outcome is not Outcome.OK:
                return _grade_of(reply), reply.stderr_tail[-200:]
            if reply.value[0] != "missing":
                return _conclusion(reply.value)
            try:
                asked = _call(live, entry_point, reply.value[1], reply.value[2])
                if asked.outcome not in (Outcome.OK, Outcome.EXCEPTION) or live.ended is not None:
                    return _grade_of(asked), asked.stderr_tail[-200:]
                reply = _answered(holder, asked)
            except ValueError:  # a value at the edge of what may cross does not fit into the message around it
                return Grade.OUTPUT_LIMIT, ""
    return Grade.TIMEOUT, ""


def rehearse(sandbox: Sandbox, script: Script, entry_point: str, limits: Limits, preamble: str = "") -> str | None:
    """Why a script can judge nobody (a module that is not there, a name it lacks), or ``None`` if it gets to a call."""
    with sandbox.open(_HOLDER, limits=_holding(limits)) as holder:
        reply = holder.call("hold", [script.text, entry_point, preamble])
        reply = holder.call("play") if reply.outcome is Outcome.OK else reply
    if reply.outcome is not Outcome.OK:
        return f"{reply.outcome}: {reply.stderr_tail.strip()[-200:]}"
    if reply.value[0] == "missing":
        return None
    return reply.value[1] if reply.value[0] == "unfit" else f"it never calls {entry_point}"


def _holding(limits: Limits) -> Limits:
    """A script is played from its start for every call it makes."""
    return Limits(5 * limits.wall_s, 10 * limits.cpu_s, limits.memory_mb)


def _conclusion(said: Sequence[str]) -> tuple[Grade, str]:
    if said[0] == "differs":
        return Grade.SANDBOX_ERROR, "the test is not the same each time it runs, so it judges nothing"
    # a test that trips over what it was given (a None with no length, say) was given something wrong
    return Grade(said[0]) if said[0] != "unfit" else Grade.WRONG_ANSWER, ""


def _answered(holder: Live, asked: Reply) -> Reply:
    if asked.outcome is Outcome.OK:
        return holder.call("answer", ["value", asked.value])
    last = (asked.stderr_tail.strip().splitlines() or [""])[-1]
    named = _RAISED.match(last)
    return holder.call("answer", ["raised", named[1] if named else "RuntimeError"])
