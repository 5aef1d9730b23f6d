"""Rules: criteria that code can check. A rule is a sentence pattern and a check of one text, without the task.

A criterion no rule recognises is left to a judge; how criteria make a share of points is in ``rubric.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from sparring.scenarios.registry import rules

MAX_TEXT = 20_000  # characters of a text that a rule reads; what comes after is not there
MAX_SEARCHED = 2_000  # characters a model-written regex may search
MAX_REGEX = 80


class Check(NamedTuple):
    """Whether a text meets a criterion, and the passage that shows it."""

    met: bool
    quote: str = ""


class Rule:
    """A sentence pattern with named groups and a check that takes the text and those groups as keywords.

    ``takes``, given the same groups, may turn a sentence away that fits the pattern only on the surface.
    """

    def __init__(
        self, name: str, pattern: str, check: Callable[..., Check], takes: Callable[..., bool] | None = None
    ) -> None:
        self.name = name
        self.pattern = re.compile(pattern, re.IGNORECASE)
        self._check = check
        self._takes = takes
        self.__doc__ = check.__doc__

    def reads(self, criterion: str) -> bool:
        """Whether ``criterion`` is a sentence of this rule."""
        found = self.pattern.fullmatch(criterion)
        return found is not None and (self._takes is None or self._takes(**found.groupdict()))

    def check(self, criterion: str, said: str) -> Check:
        """Whether ``said`` meets ``criterion``; never raises for a criterion this rule reads."""
        found = self.pattern.fullmatch(criterion)
        return self._check(said[:MAX_TEXT], **found.groupdict()) if found else Check(False)


def rule(name: str, pattern: str, takes: Callable[..., bool] | None = None) -> Callable[[Callable[..., Check]], Rule]:
    """Decorator: the function below checks criteria that match ``pattern`` in full, case-insensitively."""

    def register(check: Callable[..., Check]) -> Rule:
        made = Rule(name, pattern, check, takes)
        rules.add(name, made)
        return made

    return register


def rule_for(criterion: str) -> Rule | None:
    """The first registered rule, by name, that reads ``criterion``; ``None`` leaves it to a judge."""
    return _rule_for(criterion, tuple(rules.names()))


@lru_cache(maxsize=4096)
def _rule_for(criterion: str, names: tuple[str, ...]) -> Rule | None:
    for name in names:
        found: Rule = rules.get(name)
        if found.reads(criterion):
            return found
    return None


def inside(said: str, tag: str) -> str | None:
    """The text in the last closed ``<tag>``, not stripped."""
    _, opened, rest = said.rpartition(f"<{tag}>")
    text, closed, _ = rest.partition(f"</{tag}>")
    return text if opened and closed else None


@rule("answer_is", r"(?:the )?answer is (?!.* after line \d+$)(?P<value>.+)")
def answer_is(said: str, value: str) -> Check:
    """``answer is X``: the last answer tag holds exactly X."""
    answer = inside(said, "answer")
    met = answer is not None and answer.strip() == value.strip()
    return Check(met, (answer or "").strip() if met else "")


@rule("value_after_line", r"(?P<name>\w{1,40}) is (?P<value>.{1,80}) after line (?P<line>\d{1,4})")
def value_after_line(said: str, name: str, value: str, line: str) -> Check:
    """``NAME is X after line N``: line N of the working (the last think tag) says ``NAME=X`` or ``NAME=...=X``."""
    lines = (inside(said, "think") or "").strip("\n").splitlines()
    number = int(line)
    working = lines[number - 1].strip() if 1 <= number <= len(lines) else ""
    left, equals, rest = working.partition("=")
    met = bool(equals) and left.strip() == name and rest.rpartition("=")[2].strip() == value.strip()
    return Check(met, working if met else "")


@rule("says", r"says (?P<words>.+)")
def says(said: str, words: str) -> Check:
    """``says X``: X occurs, letter case aside."""
    wanted = words.strip().strip("\"'") or words
    at = said.lower().find(wanted.lower())
    return Check(at >= 0, said[at : at + len(wanted)] if at >= 0 else "")


@rule("at_most_words", r"at most (?P<limit>\d{1,6}) words?")
def at_most_words(said: str, limit: str) -> Check:
    """``at most N words``, counted between white space."""
    count = len(said.split())
    return Check(count <= int(limit), f"{count} words")


@rule("at_least_lines", r"at least (?P<limit>\d{1,6}) lines?")
def at_least_lines(said: str, limit: str) -> Check:
    """``at least N lines``, blank ones not counted."""
    count = sum(bool(line.strip()) for line in said.splitlines())
    return Check(count >= int(limit), f"{count} lines")


_ATOM = r"(?:\\[dwsDWSbB.\\/+*?()\[\]{}|^$-]|\[\^?(?:[^\\\[\]]|\\[dws.\\\]\[-])+\]|[^\\\[\](){}|*+?])"
_SIMPLE = re.compile(rf"(?:{_ATOM}(?:[*+?]|\{{\d{{1,2}}(?:,\d{{1,2}})?\}})?)+")
_ATOM_ONLY = re.compile(_ATOM)


@lru_cache(maxsize=1024)
def simple_regex(regex: str) -> re.Pattern[str] | None:
    """The compiled regex when it is short and cannot blow up, else ``None``.

    Allowed: literals, escapes, classes, ``.``, anchors, and quantifiers on single atoms, at most one of ``*`` or ``+``
    and at most four in all. No groups, no alternatives, no references: a search stays below quadratic time.
    """
    if len(regex) > MAX_REGEX or _SIMPLE.fullmatch(regex) is None:
        return None
    if any(pair in regex for pair in ("--", "&&", "||", "~~")):  # set operations to come, a warning in Python today
        return None
    bare = _ATOM_ONLY.sub("", regex)  # what is left of the atoms are the quantifiers, and a ? is one of them
    endless = bare.count("*") + bare.count("+")
    counted = bare.count("{")
    if endless > 1 or endless + counted > 2 or bare.count("?") > 2:
        return None
    try:
        return re.compile(regex)
    except re.error:
        return None


@rule("matches", rf"matches /(?P<regex>.{{1,{MAX_REGEX}}})/", takes=lambda regex: simple_regex(regex) is not None)
def matches(said: str, regex: str) -> Check:
    """``matches /REGEX/``: found in the text's first 2000 characters."""
    compiled = simple_regex(regex)
    found = compiled.search(said[:MAX_SEARCHED]) if compiled else None
    return Check(found is not None, found[0][:200] if found else "")
