"""Words that mean nothing anywhere else: names and values of small made-up worlds, and which of these are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Literal

from numpy.random import Generator

from sparring.envs.types import canonical

Split = Literal["train", "held_out"]
HELD_OUT_ONE_IN = 5
DRAWS = 1000  # tries before a world is given up
SLOTS = ("pet", "hue", "job", "food", "city", "tool", "song", "game", "tree", "coin", "ship", "drum")
NUMBERED = ("age", "room", "seat", "gate", "cost", "size", "page", "code", "rank", "line", "dose", "step")
_FIRST, _MIDDLE, _LAST = "bdfgklmnprstvz", "aeiou", "bdgklmnrst"


def word(rng: Generator, syllables: int, taken: Collection[str] = SLOTS) -> str:
    """A word of so many syllables (consonant, vowel; a consonant at the end) that is not ``taken``.

    >>> import numpy as np
    >>> word(np.random.default_rng(0), 1)
    'tom'
    """
    while True:
        parts = [_one(rng, _FIRST) + _one(rng, _MIDDLE) for _ in range(syllables)]
        made = "".join(parts) + _one(rng, _LAST)
        if made not in taken:
            return made


def several(rng: Generator, count: int, syllables: int, taken: Collection[str] = SLOTS) -> list[str]:
    """``count`` different words."""
    found: list[str] = []
    while len(found) < count:
        found.append(word(rng, syllables, {*taken, *found}))
    return found


def on_side(world: object, split: Split) -> bool:
    """Whether ``world`` (plain data) belongs to this side; a stable hash keeps one in five for evaluation."""
    bucket = int.from_bytes(hashlib.sha256(canonical(world).encode()).digest()[:4], "little")
    return (bucket % HELD_OUT_ONE_IN == 0) == (split == "held_out")


def _one(rng: Generator, letters: str) -> str:
    return letters[int(rng.integers(len(letters)))]
