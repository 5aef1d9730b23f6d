"""Proposals that help whoever should solve them: text that nobody sees, answers given away, tasks that need no solving.

A node with ``do: admit`` says in ``refuse`` which of these it turns away. Each is a refusal's reason.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator

from sparring.envs.base import Environment
from sparring.envs.cheap import guesses, short
from sparring.envs.types import Refusal, Score, Task

from .conditions import VERIFIER, outcome
from .hollow import plain
from .roles import tagged

HIDDEN, TOLD, EASY = "hidden", "told", "easy"
LONGEST = 4_000  # characters of an answer that is tried
JOINERS = "\u200c\u200d"  # between letters of many scripts, and within one picture of several
_SELECTORS = range(0xE0100, 0xE01F0)  # of variants nobody draws; a byte fits into each


def hidden(text: str) -> str:
    """The first character of ``text`` that nobody sees, and its place; empty where there is none.

    >>> hidden("print(1)\\u200b"), hidden("\\u0645\\u06cc\\u200c\\u062e\\u0648"), hidden("a\\tb\\n")
    ('U+200B at 8', '', '')
    """
    for at, one in enumerate(text):
        kind = unicodedata.category(one)
        unseen = kind in ("Cf", "Co", "Cs") or (kind == "Cc" and one not in "\t\n\r") or ord(one) in _SELECTORS
        if unseen and not (one in JOINERS and _joins(text, at)):
            return f"U+{ord(one):04X} at {at}"
    return ""


def _joins(text: str, at: int) -> bool:
    """Whether a joiner stands between two characters that it may join: none of plain English is."""
    return 0 < at < len(text) - 1 and not text[at - 1].isascii() and not text[at + 1].isascii()


def told(task: Task, shown: str, oracle: str | None = None) -> str:
    """The right answer that stands in what the solver reads; empty where none does.

    Right is what the task's short secrets and the environment itself (``oracle``) say.
    """
    read = f" {plain(' '.join([shown, *map(str, task.payload.values())]))} "
    right = [answer for (answer,) in guesses(task)] + ([] if oracle is None else [oracle])
    for answer in (tagged(one, "answer") or one for one in right):
        if (bare := plain(answer)) and f" {bare} " in read:
            return short(answer)
    return ""


def easy(task: Task, environment: Environment, tried: Callable[[str], Iterable[Score]]) -> str:
    """An answer that needs no understanding and is marked right; empty where none is.

    Tried are the environment's junk, its words given back, and the task's key. ``tried`` says what an answer earns.
    """
    for answer in _cheap(task, environment):
        try:
            scores = list(tried(answer))
        except Exception:  # the environment is a plug-in: an answer at which it fails earns nothing
            continue
        if any(score.name == VERIFIER and outcome(score) for score in scores):
            return short(answer)
    return ""


def _cheap(task: Task, environment: Environment) -> Iterator[str]:
    for answer in (*environment.junk_answers(task), task.key):
        if len(answer) <= LONGEST:
            yield answer
            yield f"<answer>{answer}</answer>"


def collusion(
    text: str, task: Task, environment: Environment, shown: str, tried: Callable[[str], Iterable[Score]],
    refuse: Collection[str],
) -> Refusal | None:  # fmt: skip
    """Why an admitted proposal is turned away after all.

    ``text`` is the proposal, ``shown`` what the environment says of its task, ``tried`` what an answer earns.
    """
    checks: dict[str, Callable[[], str]] = {
        HIDDEN: lambda: hidden(text),
        TOLD: lambda: told(task, shown, environment.oracle()),
        EASY: lambda: easy(task, environment, tried),
    }
    for reason, check in checks.items():
        if reason in refuse and (detail := check()):
            return Refusal(reason, detail)
    return None
