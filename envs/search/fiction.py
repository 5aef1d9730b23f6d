"""Invented names in place of real ones, so that what a model knows of the real library does not answer the question.

Names and answer of one task are replaced in everything the policy reads, and put back in what it searches for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sparring.envs.types import digest

SHORTEST = 5  # letters from which on a name is replaced inside longer words too

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Fiction:
    """Real texts and what stands for them. ``hide`` is for what the policy reads, ``reveal`` for what it writes."""

    names: Mapping[str, str]

    def hide(self, text: str) -> str:
        """``text`` with every real name replaced, letter case aside."""
        return _replace(text, self.names)

    def reveal(self, text: str) -> str:
        """``text`` with every invented name replaced by the real one."""
        return _replace(text, {invented: real for real, invented in self.names.items()})


def invent(real: Iterable[str], known: Collection[str] = (), salt: int = 0) -> Fiction:
    """An invented name for each of ``real``, none of them a word in ``known``; another ``salt``, other inventions."""
    made: dict[str, str] = {}
    for name in dict.fromkeys(real):
        tries = (_invented(name, [salt, turn]) for turn in range(1000))
        made[name] = next(one for one in tries if one.lower() not in known and one not in made.values() and one != name)
    return Fiction(made)


def _invented(name: str, salt: list[int]) -> str:
    draw = int(digest(["fiction", name, salt], 16), 16)
    if _NUMBER.fullmatch(name):
        return str(draw % 9000 + 1000)  # four digits: no year, no small constant that fits by chance
    word = ""
    for _ in range(2):
        draw, consonant = divmod(draw, len(_CONSONANTS))
        draw, vowel = divmod(draw, len(_VOWELS))
        word += _CONSONANTS[consonant] + _VOWELS[vowel]
    word += _CONSONANTS[draw % len(_CONSONANTS)]
    ending = re.search(r"(?:Error|Exception|Warning|Interrupt|Exit)$", name)
    return word.capitalize() + ending[0] if ending else word.capitalize() if name[:1].isupper() else word


def _replace(text: str, names: Mapping[str, str]) -> str:
    lowered = {name.lower(): other for name, other in names.items()}
    longest_first = sorted(lowered, key=lambda name: (-len(name), name))
    if not longest_first:
        return text
    pattern = "|".join(_whole(name) for name in longest_first)
    return re.sub(pattern, lambda found: lowered[found[0].lower()], text, flags=re.IGNORECASE)


def _whole(name: str) -> str:
    """Long names anywhere; short ones and numbers only where they stand alone, or words would fall apart."""
    quoted = re.escape(name)
    if len(name) >= SHORTEST and name.isidentifier():
        return quoted
    return rf"(?<![^\W_]){quoted}(?![^\W_])" if name.isidentifier() else rf"(?<![\w.]){quoted}(?!\w|\.\d)"
