"""Help that a role reads while it samples and that its update does not: some of a rubric's criteria, or of a secret.

Siblings are shown different amounts. Source: RuscaRL, arXiv 2508.16949.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparring.envs.criteria import RUBRIC
from sparring.envs.types import Rubric, Score, Task
from sparring.scenarios.schema import ScaffoldSpec
from sparring.scenarios.seeds import derive

from .role import SCAFFOLD as SCAFFOLD

KEPT = "the update reads it too"


@dataclass(frozen=True, slots=True)
class Item:
    """A line that may be shown; one with points below 0 says what to avoid."""

    text: str
    points: float = 1.0


@dataclass(frozen=True, slots=True)
class Help:
    """What one turn is shown: the ``places`` of ``items``. ``kept``: its update reads it too."""

    items: tuple[Item, ...]
    places: tuple[int, ...] = ()
    kept: bool = False

    @property
    def variables(self) -> Mapping[str, Sequence[str]]:
        """What templates read as ``scaffold``: texts that are ``wanted`` and texts that are ``unwanted``."""
        shown = [self.items[at] for at in self.places]
        return {
            "wanted": tuple(one.text for one in shown if one.points >= 0),
            "unwanted": tuple(one.text for one in shown if one.points < 0),
        }

    def score(self) -> Score:
        """The record on the turn: the share shown, and the numbers of the items."""
        numbers = ", ".join(str(at + 1) for at in self.places) or "none"
        note = f"shown of {len(self.items)}: {numbers}" + (f"; {KEPT}" if self.kept else "")
        return Score.valued(SCAFFOLD, len(self.places) / len(self.items), SCAFFOLD, note)


def fraction(share: float, spread: str, sample: int, siblings: int) -> float:
    """The fraction of the items that sibling ``sample``, counted from 0, is shown.

    ``linear`` shows the first all of ``share`` and the last nothing; ``none`` shows all siblings as much.

    >>> [fraction(1.0, "linear", i, 5) for i in range(5)], fraction(0.5, "none", 3, 4)
    ([1.0, 0.75, 0.5, 0.25, 0.0], 0.5)
    """
    if spread == "none" or siblings == 1:
        return share
    return share * (siblings - 1 - sample) / (siblings - 1)


def items_of(shows: str, rubrics: Sequence[Rubric], task: Task | None) -> tuple[Item, ...]:
    """The lines there are: the task's criteria, or those of the secret called ``shows``."""
    if shows == RUBRIC:
        return tuple(Item(one.text, one.points) for rubric in rubrics for one in rubric.criteria)
    secret: Any = None if task is None else task.secret.get(shows)
    if secret is None:
        return ()
    listed = isinstance(secret, Sequence) and not isinstance(secret, str)
    return tuple(Item(str(one)) for one in (secret if listed else [secret]))


def drawn(spec: ScaffoldSpec, items: tuple[Item, ...], sample: int, siblings: int, seed: int) -> Help:
    """A random part of the items, as large as this sibling's fraction of them, rounded half up."""
    count = math.floor(fraction(spec.share, spec.spread, sample, siblings) * len(items) + 0.5)
    chance = random.Random(derive(seed, SCAFFOLD))
    places = tuple(sorted(chance.sample(range(len(items)), count)))
    return Help(items, places, bool(places) and chance.random() < spec.kept)
