"""What a health figure is, what it is taken from, and how a step's metrics hold it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sparring.agents.engine import DEMONSTRATION
from sparring.envs.types import Ending, Episode, Turn
from sparring.storage.records import AdvantageRow

if TYPE_CHECKING:
    from sparring.scenarios.schema import RoleSpec

PREFIX, COUNTS = "health/", "health_n/"


class Figure(NamedTuple):
    """A mean and how many samples (turns, tokens, groups) it is of."""

    value: float
    n: int


Found = dict[str, Figure]


@dataclass(frozen=True)
class Seen:
    """What a step's figures are taken from. ``advantages`` number their episodes by position in ``episodes``."""

    episodes: Sequence[Episode]
    advantages: Sequence[AdvantageRow]
    roles: Mapping[str, RoleSpec]

    def turns(self) -> Iterator[tuple[int, Episode, Turn]]:
        """Every turn of every whole episode, with the episode's position."""
        for at, episode in enumerate(self.episodes):
            if episode.ending is not Ending.BROKE:
                yield from ((at, episode, turn) for turn in episode.turns)

    def spoken(self) -> Iterator[tuple[int, Episode, Turn]]:
        """The turns that a model sampled."""
        for at, episode, turn in self.turns():
            if turn.token_ids and turn.engine != DEMONSTRATION:
                yield at, episode, turn

    def learns(self, role: str) -> bool:
        """Whether a role's turns are meant to train the policy."""
        spec = self.roles.get(role)
        return spec is not None and spec.trainable and bool(spec.reward)


def share(part: float, whole: float) -> Figure | None:
    """``part`` of ``whole`` and how many that is; ``None`` of nothing."""
    return Figure(part / whole, int(whole)) if whole else None


def known(found: Mapping[str, Figure | None]) -> Found:
    """Without what could not be taken."""
    return {name: figure for name, figure in found.items() if figure is not None}


def stored(found: Mapping[str, Figure]) -> dict[str, float | None]:
    """As a step's metrics: values under ``health/``, samples under ``health_n/``."""
    values: dict[str, float | None] = {f"{PREFIX}{name}": float(figure.value) for name, figure in found.items()}
    return values | {f"{COUNTS}{name}": float(figure.n) for name, figure in found.items()}


def read(metrics: Mapping[str, float | None]) -> Found:
    """The figures that ``stored`` put into a step's metrics."""
    found: Found = {}
    for key, value in metrics.items():
        if key.startswith(PREFIX) and value is not None:
            name = key.removeprefix(PREFIX)
            found[name] = Figure(value, int(metrics.get(f"{COUNTS}{name}") or 0))
    return found
