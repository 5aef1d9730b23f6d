"""What turns earned of what they could: a role's reward as it is trained, beside what the verifier says."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparring.agents.conditions import VERIFIER, outcome
from sparring.envs.types import Turn

from ..credit import components
from .figures import Figure, Found, Seen

FORMAT = "format"


@dataclass(frozen=True, slots=True)
class Paid:
    """A turn with its reward's parts (weighted), and whether it is right (``None``: nobody can tell).

    ``at`` is the position of its episode. ``most`` is what its role can earn: each reward its weight, or the most it
    paid in this step where that is more.
    """

    at: int
    turn: Turn
    task: str
    most: float
    parts: Mapping[str, float]
    right: bool | None

    @property
    def reward(self) -> float:
        """All of it."""
        return math.fsum(self.parts.values())

    @property
    def well(self) -> bool:
        """Whether it earned more than half of what there is."""
        return self.reward > self.most / 2

    @property
    def falsely(self) -> bool:
        """Paid well without being known to be right."""
        return not self.right and self.well

    @property
    def opinion(self) -> float:
        """What neither the verifier nor the output contract paid."""
        return math.fsum(value for name, value in self.parts.items() if name not in (VERIFIER, FORMAT))


def paid(seen: Seen) -> list[Paid]:
    """Every sampled turn of a role that learns whose reward is valued."""
    valued = [
        (at, episode, turn, parts)
        for at, episode, turn in seen.spoken()
        if seen.learns(turn.author) and (parts := components(episode, turn, seen.roles[turn.author].reward)) is not None
    ]
    of_role: defaultdict[str, list[Mapping[str, float]]] = defaultdict(list)
    for _, _, turn, parts in valued:
        of_role[turn.author].append(parts)
    most = {role: _most(seen.roles[role].reward, all_parts) for role, all_parts in of_role.items()}
    return [
        Paid(
            at, turn, turn.task or f"episode {at}", most[turn.author], parts,
            outcome(episode.score(turn.index, VERIFIER)),
        )
        for at, episode, turn, parts in valued
    ]  # fmt: skip


def figures(earnings: Sequence[Paid]) -> Found:
    """By role: the mean share of what it can earn."""
    of_role: defaultdict[str, list[float]] = defaultdict(list)
    for one in earnings:
        if one.most > 0:
            of_role[one.turn.author].append(one.reward / one.most)
    return {f"earned/{role}": Figure(math.fsum(shares) / len(shares), len(shares)) for role, shares in of_role.items()}


def _most(weights: Mapping[str, float], earnings: Sequence[Mapping[str, float]]) -> float:
    return math.fsum(
        max([weight, *(parts.get(name, 0.0) for parts in earnings)]) for name, weight in weights.items() if weight > 0
    )
