"""What a trainer part is: a step's episodes in, rows for its losses out, with the records that lead back from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sparring.envs.types import Episode
from sparring.storage.records import AdvantageRow, GroupRow

from ..rows import Row
from ..stages.base import Offering

if TYPE_CHECKING:
    import numpy as np

    from sparring.scenarios.schema import RoleSpec

    from ..advantages.base import TokenAdvantage
    from ..losses.base import Loss


@dataclass(frozen=True)
class Played:
    """What a trainer part may read. ``state`` is its own JSON memory: what it writes there is saved with the step.

    ``rounds``: how many episodes there were after each round of play; ``told`` takes what its stages say in numbers.
    """

    episodes: Sequence[Episode]
    roles: Mapping[str, RoleSpec]
    step: int
    rng: np.random.Generator
    renderer: Any
    state: dict[str, Any] = field(default_factory=dict)
    rounds: Sequence[int] = ()
    told: dict[str, float] = field(default_factory=dict)


@dataclass
class Made:
    """What a trainer part made of a step. Group indices count from 0 within it; the step renumbers them.

    ``shapes`` are token-level estimators by loss name, applied once the policy was scored. ``earlier`` names
    episodes of earlier steps of this run, each once, by step and position there; an ``AdvantageRow`` of a turn of
    ``earlier[k]`` has the ``episode`` -(k + 1), which the step renumbers too.
    """

    rows: Sequence[Row] = ()
    groups: Sequence[GroupRow] = ()
    advantages: Sequence[AdvantageRow] = ()
    shapes: Mapping[str, TokenAdvantage] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    earlier: Sequence[tuple[int, int]] = ()


class TrainerPart(Protocol):
    """Built as ``Part(config, scenario)``. ``losses`` are its losses by the name its rows carry in ``Row.loss``.

    Names need be unique only within the part: a run puts the trainer's own name before them.
    """

    losses: Mapping[str, Loss]

    def make(self, played: Played) -> Made:
        """Rows of this step; none when there is nothing to learn."""
        ...


class Staged:
    """A trainer part whose groups go through stages."""

    stages: Sequence[Any]

    def offer(self, episodes: Sequence[Episode], renderer: Any) -> list[Episode]:
        """The episodes with whatever turns the stages put beside the sampled ones, before groups are formed."""
        found = list(episodes)
        for stage in self.stages:
            if isinstance(stage, Offering):
                found = stage.offer(found, renderer)
        return found
