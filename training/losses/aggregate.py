"""How much of a role's loss each token is: every denominator in one place, computed over the whole step."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Aggregate


def shares(turns_B: Sequence[Sequence[int]], aggregate: Aggregate, length: int = 0) -> list[list[float]]:
    """The share of one token of each turn, for one role's B trajectories given as trained tokens of their turns.

    ``tokens``: 1 / N. ``trajectories``: 1 / (B x tokens of the trajectory). ``turns``: 1 / (B x its turns x tokens of
    the turn). ``constant``: 1 / (B x length), whatever was sampled (Dr. GRPO, arXiv 2503.20783). Turns and trajectories
    without tokens count nowhere. The whole step is given at once, so micro-batches and ranks cannot change a
    denominator (verl#5625, ms-swift#10116, open-instruct#1161). Raises ``ValueError`` for ``constant`` without a
    positive ``length``.

    >>> shares([[3], [1]], "trajectories")
    [[0.16666666666666666], [0.5]]
    """
    if aggregate == "constant" and length < 1:
        raise ValueError(f"aggregate: constant divides by length, which must be at least 1; found {length}")
    trajectories = sum(any(turns) for turns in turns_B)
    total = sum(map(sum, turns_B))

    def tokens_for_one(turns: Sequence[int], count: int) -> int:
        """How many tokens' worth of loss one token shares with."""
        if aggregate == "tokens":
            return total
        if aggregate == "constant":
            return trajectories * length
        return trajectories * (sum(turns) if aggregate == "trajectories" else sum(map(bool, turns)) * count)

    return [[1.0 / tokens_for_one(turns, count) if count else 0.0 for count in turns] for turns in turns_B]
