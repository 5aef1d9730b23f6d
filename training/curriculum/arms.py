"""Curricula that learn nothing: arms drawn at random, one after the other, or in blocks from first to last.

They are the controls of those that do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field, field_validator

from sparring.envs.types import Pick

from .base import Outcome, Wanted
from .grid import Bounds, Value, cells


def ordered(value: Mapping[str, Bounds]) -> Mapping[str, Bounds]:
    """Ranges whose lower bound comes first; anything else is a ``ValueError``."""
    for name, (low, high) in value.items():
        if not low < high:
            raise ValueError(f"{name}: [{low}, {high}] is no range; the lower bound comes first")
    return value


class RandomArms:
    """Every arm equally likely: the control of every curriculum. Without arms there is one: the default task."""

    class Config(BaseModel):
        """``arms`` names parameters and the values each may take; an arm is one combination.

        ``ranges`` names continuous parameters and the bounds of each; a pick is a point in that box. Bounds that are
        whole numbers make whole numbers, each equally likely. Each range is cut into ``cells`` equal parts: an arm is
        one cell of the box, and its point is drawn uniformly in it.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")
        arms: dict[str, Annotated[tuple[Value, ...], Field(min_length=1)]] = {}
        ranges: dict[str, Bounds] = {}
        cells: int = Field(default=3, ge=1, le=100)

        _ordered = field_validator("ranges")(ordered)

    role: str | None = None

    def __init__(self, config: Config | None = None) -> None:
        settings = config or self.Config()
        self.cells = cells(settings.arms, settings.ranges, settings.cells)

    def propose(self, wanted: Wanted, rng: Generator) -> list[Pick]:
        """Draws from ``weights()``."""
        shares = self.weights()
        names = list(shares)
        drawn = rng.choice(len(names), size=wanted.picks, p=list(shares.values()))
        return self.picked([names[index] for index in drawn], wanted, rng)

    def picked(self, names: Sequence[str], wanted: Wanted, rng: Generator) -> list[Pick]:
        """A pick per name, the episodes shared out evenly. Equal picks are one: no two points of a box are equal."""
        counts: dict[str, int] = {}
        points: list[Pick] = []
        for place, name in enumerate(names):
            share = wanted.episodes // len(names) + (place < wanted.episodes % len(names))
            if self.cells[name].spans:
                points.append(Pick(name, self.cells[name].draw(rng), share))
            else:
                counts[name] = counts.get(name, 0) + share
        return points or [Pick(name, self.cells[name].draw(rng), count) for name, count in sorted(counts.items())]

    def observe(self, pick: Pick, outcome: Outcome) -> None:
        """It learns nothing."""

    def weights(self) -> dict[str, float]:
        """Probability of each arm; sums to 1."""
        return {name: 1.0 / len(self.cells) for name in self.cells}

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


class InterleavedArms(RandomArms):
    """One arm after the other, over and over, in the order written."""

    def propose(self, wanted: Wanted, rng: Generator) -> list[Pick]:
        """The next arms; where they begin follows from the step alone."""
        names, first = list(self.cells), (wanted.step - 1) * wanted.picks
        return self.picked([names[(first + place) % len(names)] for place in range(wanted.picks)], wanted, rng)


class BlockedArms(RandomArms):
    """One arm at a time, each for its share of the steps, in the order written: easy to hard, or hard to easy.

    After the last block its arm stays.
    """

    class Config(RandomArms.Config):
        """``steps``: how many the blocks take together, the whole run when absent."""

        steps: int | None = Field(default=None, ge=1)

    def __init__(self, config: Config | None = None) -> None:
        settings = config or self.Config()
        super().__init__(settings)
        self.steps, self.now = settings.steps, next(iter(self.cells))

    def propose(self, wanted: Wanted, rng: Generator) -> list[Pick]:
        """The arm whose block it is."""
        names, steps = list(self.cells), self.steps or wanted.steps
        self.now = names[min(len(names) - 1, (wanted.step - 1) * len(names) // steps)]
        return self.picked([self.now] * wanted.picks, wanted, rng)

    def weights(self) -> dict[str, float]:
        """All on the arm whose block it is."""
        return {name: float(name == self.now) for name in self.cells}
