"""What a curriculum is to a run: it proposes picks for a step, hears what came of them, and keeps plain JSON state.

Bandits over arms and teachers of continuous parameters differ only in what they do with the same ``Outcome``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

from numpy.random import Generator

from sparring.agents.engine import DEMONSTRATION
from sparring.envs.types import Pick
from sparring.storage.records import AdvantageRow


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step asks for: ``picks`` decisions that share ``episodes`` episodes, in ``step`` (from 1) of ``steps``."""

    picks: int
    episodes: int
    step: int = 1
    steps: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one pick, in the turns of the role that the curriculum listens to.

    ``advantages`` are absolute, one per turn; ``rewards`` those of the turns that were sampled and whose reward is
    valued: what a demonstration earns is not the policy's. Both are empty when nothing was: that teaches nothing, and
    is no zero. ``episodes`` is how many were played for the pick.
    """

    advantages: tuple[float, ...] = ()
    rewards: tuple[float, ...] = ()
    episodes: int = 0

    @classmethod
    def of(cls, rows: Sequence[AdvantageRow], episodes: int) -> Outcome:
        """From the rows that a step stores."""
        rewards = tuple(row.reward for row in rows if row.reward is not None and row.note != DEMONSTRATION)
        return cls(tuple(abs(row.value) for row in rows), rewards, episodes)

    @property
    def signal(self) -> float | None:
        """Mean absolute advantage: how hard the pick pulled at the policy."""
        return fmean(self.advantages) if self.advantages else None

    @property
    def reward(self) -> float | None:
        """Mean reward."""
        return fmean(self.rewards) if self.rewards else None


class Curriculum(Protocol):
    """``propose`` picks for a step, ``observe`` what came of each, ``state_dict`` to go on after a restart.

    It may also have ``role``, whose turns it listens to (every trained role's when it is ``None``), and ``figures()``,
    its own numbers for a step's metrics.
    """

    def propose(self, wanted: Wanted, rng: Generator) -> list[Pick]: ...
    def observe(self, pick: Pick, outcome: Outcome) -> None: ...
    def weights(self) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def figures(curriculum: Curriculum, outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """What a step's metrics say of a curriculum that has a choice; nothing of one that has none.

    ``entropy`` of the arms' shares in nats, the ``largest`` of them, ``signal``: mean absolute advantage of the step's
    turns. And the curriculum's own ``figures()``.
    """
    shares = [share for share in curriculum.weights().values() if share > 0]
    if len(curriculum.weights()) < 2:
        return {}
    heard = [value for outcome in outcomes for value in outcome.advantages]
    found: dict[str, float | None] = {
        "entropy": -math.fsum(share * math.log(share) for share in shares),
        "largest": max(shares),
        "signal": fmean(heard) if heard else None,
    }
    own = getattr(curriculum, "figures", None)
    return found | (own() if own is not None else {})
