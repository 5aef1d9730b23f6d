"""Strategies that lose nothing to a best answer: perfect play where all is open, else an equilibrium by CFR+.

Source: counterfactual regret minimisation, Zinkevich et al. 2007; CFR+, arXiv 1407.5042, with its linear averages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import fsum

from .rules import Rules, State

Strategy = Callable[[State], Sequence[float]]
Key = tuple[int, str]
ROUNDS = 200


@lru_cache(maxsize=8)
def solve(rules: Rules, rounds: int = ROUNDS) -> Strategy:
    """A strategy for both players. Kept per game: it takes seconds for Leduc poker."""
    if all(deal.start.view(0) == deal.start.view(1) for deal in rules.deals()):
        return _perfect()
    return _Regrets(rules).run(rounds)


def _perfect() -> Strategy:
    """The moves that keep the best result, all alike."""
    known: dict[State, float] = {}

    def worth(state: State) -> float:
        """What player 0 wins from here."""
        if state not in known:
            if state.player is None:
                known[state] = state.returns()[0]
            else:
                best = max if state.player == 0 else min
                known[state] = best(worth(state.after(move)) for move in state.legal())
        return known[state]

    def strategy(state: State) -> list[float]:
        good = [worth(state.after(move)) == worth(state) for move in state.legal()]
        return [one / sum(good) for one in good]

    return strategy


class _Regrets:
    """Regrets and averages of every information set."""

    def __init__(self, rules: Rules) -> None:
        self.deals = [(deal.chance, deal.start) for deal in rules.deals()]
        self.regrets: dict[Key, list[float]] = {}
        self.sums: dict[Key, list[float]] = {}

    def run(self, rounds: int) -> Strategy:
        for number in range(1, rounds + 1):
            for player in (0, 1):
                gained: dict[Key, list[float]] = {}
                now = {key: _matched(regrets) for key, regrets in self.regrets.items()}
                for chance, start in self.deals:
                    self._walk(start, player, 1.0, chance, number, gained, now)
                for key, gains in gained.items():
                    old = self.regrets.get(key, [0.0] * len(gains))
                    self.regrets[key] = [max(0.0, a + b) for a, b in zip(old, gains, strict=True)]
        average = {key: _normal(values) for key, values in self.sums.items()}

        def strategy(state: State) -> Sequence[float]:
            assert state.player is not None
            return average[state.player, state.view(state.player)]

        return strategy

    def _walk(
        self,
        state: State,
        player: int,
        own: float,
        others: float,
        weight: float,
        gained: dict[Key, list[float]],
        now: dict[Key, list[float]],
    ) -> float:
        """What ``player`` wins from here; ``own`` and ``others`` are the chances of coming here by each one's doing."""
        if state.player is None:
            return state.returns()[player]
        key = (state.player, state.view(state.player))
        moves = state.legal()
        chances = now.get(key) or [1 / len(moves)] * len(moves)
        mine = state.player == player
        worths = [
            self._walk(
                state.after(move),
                player,
                own * chance if mine else own,
                others if mine else others * chance,
                weight,
                gained,
                now,
            )
            for move, chance in zip(moves, chances, strict=True)
        ]
        mean = fsum(chance * worth for chance, worth in zip(chances, worths, strict=True))
        if mine:
            old = gained.get(key, [0.0] * len(moves))
            gained[key] = [a + others * (worth - mean) for a, worth in zip(old, worths, strict=True)]
            sums = self.sums.get(key, [0.0] * len(moves))
            self.sums[key] = [a + weight * own * chance for a, chance in zip(sums, chances, strict=True)]
        return mean


def _matched(regrets: Sequence[float]) -> list[float]:
    return _normal([max(0.0, regret) for regret in regrets])


def _normal(values: Sequence[float]) -> list[float]:
    total = fsum(values)
    return [value / total for value in values] if total else [1 / len(values)] * len(values)
