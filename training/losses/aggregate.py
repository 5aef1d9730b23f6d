"""How much of a role's loss each token is: every denominator in one place, computed over the whole step."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Aggregate


def shares(turns_B: Sequence[Sequence[int]], aggregate: Aggregate, length: int = 0) -> list[list[float]]:
    """The share of one token of each turn, for B trajectories given as token counts of their turns.

    ``tokens``: 1 / N. ``trajectories``: 1 / (B tokens of the trajectory). ``turns``: 1 / (B turns tokens of the turn).
    ``constant``: 1 / (B length), Dr. GRPO's (arXiv 2503.20783), whatever was sampled.

    >>> shares([[3], [1]], "trajectories")
    [[0.16666666666666666], [0.5]]
    """
    filled = [[count for count in turns if count] for turns in turns_B]
    total, trajectories = sum(map(sum, filled)), sum(map(bool, filled))
    found = []
    for turns, counted in zip(turns_B, filled, strict=True):
        of = {
            "tokens": lambda count: total,
            "trajectories": lambda count, whole=sum(counted): trajectories * whole,
            "turns": lambda count, n=len(counted): trajectories * n * count,
            "constant": lambda count: trajectories * length,
        }[aggregate]
        found.append([1.0 / of(count) if count else 0.0 for count in turns])
    return found
