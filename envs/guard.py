"""Calls into code that may raise, hang or answer nonsense: a verifier's failure becomes an invalid score, never 0.

Threads keep a run alive, they do not confine anything: programs that nobody trusts go to ``sparring.envs.code``.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from traceback import extract_tb
from typing import Any, TypeVar

from sparring.scenarios.errors import ContractBroken

from .types import Score, Validity

T = TypeVar("T")
MOST_ABANDONED = 4  # calls that never returned and still hold a thread each
LONGEST_NOTE = 500  # characters of a cause: a verifier may put a whole page into its error
_idle: list[SimpleQueue[_Job]] = []
_hanging: list[_Job] = []
_lock = threading.Lock()


def judged(
    name: str,
    by: str,
    verify: Callable[[], Score | float | bool],
    *,
    limit_s: float,
    between: tuple[float, float] = (0.0, 1.0),
) -> Score:
    """What ``verify()`` says as the score ``name``; an invalid one with the cause when it fails, never 0.

    It fails by raising, by taking longer than ``limit_s`` seconds, and by giving anything but a bool, a finite number
    in ``between`` or a ``Score`` of that name holding one. Raises ``TooManyHang``.
    """
    try:
        found = bounded(verify, limit_s, f"{name} by {by}")
    except TooManyHang:
        raise
    except (Hung, Ended) as error:  # they say all there is to say
        return Score.invalid(name, by, str(error))
    except Exception as error:  # the border: whatever a user's verifier raises is the note of an invalid score
        return Score.invalid(name, by, cause(error))
    if isinstance(found, Score):
        return _checked(found, name, by, between)
    problem = unusable(found, between)
    return Score.invalid(name, by, problem) if problem else Score.valued(name, float(found), by)


def bounded(call: Callable[[], T], limit_s: float, what: str) -> T:
    """``call()`` in a thread beside; raises what it raises, an exit as ``Ended``.

    After ``limit_s`` seconds the thread is left behind and ``Hung`` is raised. ``what`` names the call in messages. A
    call that holds the interpreter's lock all the time (a regular expression that backtracks without end) stops
    everything and cannot be left. Raises ``TooManyHang`` while ``MOST_ABANDONED`` calls have not come back.
    """
    if not 0 < limit_s <= threading.TIMEOUT_MAX:
        raise ValueError(f"limit_s: {limit_s} is no time to wait; give seconds above 0")
    _refuse_beyond(MOST_ABANDONED, what)
    job = _Job(copy_context(), call, what)
    _worker().put(job)
    try:
        value, error = job.told.get(timeout=limit_s)
    except Empty:
        with _lock:
            if not job.over:
                _hanging.append(job)
                raise Hung(f"{what} did not come back within {limit_s:g} s and was left behind") from None
        value, error = job.told.get()  # it came back in this very moment
    if error is None:
        return value  # type: ignore[no-any-return]  # what the call returned
    if isinstance(error, Exception):
        raise error
    raise Ended(f"{what} raised {type(error).__name__}: {said(error)}") from error


@dataclass(eq=False, slots=True)
class _Job:
    """A call on its way, and where its value or error is told."""

    context: Context
    call: Callable[[], Any]
    what: str
    told: SimpleQueue[tuple[Any, BaseException | None]] = field(default_factory=SimpleQueue)
    over: bool = False


def _worker() -> SimpleQueue[_Job]:
    """The jobs of an idle thread. Threads stay: a child process may be bound to the life of the one that began it."""
    with _lock:
        if _idle:
            return _idle.pop()
    jobs: SimpleQueue[_Job] = SimpleQueue()
    threading.Thread(target=_serve, args=(jobs,), name="guarded", daemon=True).start()
    return jobs


def _serve(jobs: SimpleQueue[_Job]) -> None:
    while True:
        job = jobs.get()
        outcome: tuple[Any, BaseException | None]
        try:
            outcome = job.context.run(job.call), None
        except BaseException as error:  # SystemExit too: a verifier does not end the run
            outcome = None, error
        with _lock:
            job.over = True
            if job in _hanging:
                _hanging.remove(job)
            _idle.append(jobs)
        job.told.put(outcome)
        del job, outcome  # while it waits it keeps nothing alive


def _after_fork() -> None:
    """A child process has none of the threads."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()
    _hanging.clear()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_after_fork)


class Ended(RuntimeError):
    """A call asked the whole program to end; it does not."""


class Hung(TimeoutError):
    """A call did not come back in time; its thread still runs."""


class TooManyHang(ContractBroken):
    """So many calls never returned that going on would only collect more."""


def abandoned() -> int:
    """How many calls that were left behind still run."""
    with _lock:
        return len(_hanging)


def _refuse_beyond(most: int, what: str) -> None:
    if (count := abandoned()) >= most:
        with _lock:
            names = ", ".join(sorted({job.what for job in _hanging}))
        raise TooManyHang(
            f"{what} is not called: {count} calls never came back ({names}) and each holds a thread. Give the code "
            "behind them a time limit of its own, then start again"
        )


def unusable(found: object, between: tuple[float, float] = (-math.inf, math.inf)) -> str:
    """Why ``found`` is no number to learn from; empty when it is a bool or a finite number in ``between``."""
    kind = type(found).__name__
    if isinstance(found, (str, bytes)) or not hasattr(found, "__float__"):
        return f"gave {short(found)} ({kind}), no number"
    try:
        value = float(found)
    except Exception as error:  # an array of several numbers, or a class with ideas of its own
        return f"gave {short(found)} ({kind}), no number: {cause(error)}"
    low, high = between
    if not math.isfinite(value):
        return f"gave {value}, no number to learn from"
    return "" if low <= value <= high else f"gave {value:g}, outside {low:g} to {high:g}"


def _checked(score: Score, name: str, by: str, between: tuple[float, float]) -> Score:
    if score.name != name:
        return Score.invalid(name, by, f"gave a score called {short(score.name)}")
    if score.validity is not Validity.VALUED:
        return replace(score, value=None)
    problem = unusable(score.value, between)
    return Score.invalid(name, by, problem) if problem else score


def cause(error: BaseException) -> str:
    """Kind, words and place of an error on one line, short enough for a note and in characters any file takes."""
    frames = extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {said(error)}"[:LONGEST_NOTE] + where


def said(error: BaseException) -> str:
    """The words of an error; those of one whose words cannot be had say so."""
    try:
        words = str(error)
    except Exception as worse:  # an error whose __str__ fails still has to be told
        words = f"(its words cannot be read: {type(worse).__name__})"
    return _plain(words) or "(no words)"


def short(value: object, longest: int = 60) -> str:
    """A value as one short line, whatever its ``repr`` does."""
    try:
        words = repr(value)
    except Exception as error:  # user classes may break their own repr
        words = f"(its repr raises {type(error).__name__})"
    words = _plain(words)
    return words if len(words) <= longest else f"{words[:longest]}..."


def _plain(words: str) -> str:
    return " ".join(words.encode("utf-8", "replace").decode("utf-8").split())
