"""Leduc poker: six cards of three ranks, two betting rounds, one card on the table. Southey et al., arXiv 1207.1411.

Suits never matter, so a deal here is of ranks alone; that is the same game with fewer information sets.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product
from math import prod

from sparring.scenarios.registry import environments

from .base import GameEnvironment
from .rules import Deal, Returns

RANKS = "123"  # jack, queen, king
NAMES = {"1": "jack", "2": "queen", "3": "king"}
WORDS = {"f": "fold", "c": "call", "r": "raise"}
ANTE = 1.0
RAISES = (2.0, 4.0)  # what a raise adds in the first and in the second round
MOST_RAISES = 2  # per round, both players together


@dataclass(frozen=True, slots=True)
class LeducState:
    """``cards``: rank of the first player, of the second, of the table. ``rounds``: the moves of each round so far.

    ``c`` also checks, when there is nothing to call.
    """

    cards: str
    rounds: tuple[str, ...] = ("",)

    @property
    def player(self) -> int | None:
        """Player 0 begins both rounds."""
        return None if self._over else len(self.rounds[-1]) % 2

    @property
    def _over(self) -> bool:
        return self.rounds[-1].endswith("f") or (len(self.rounds) == 2 and _settled(self.rounds[1]))

    def legal(self) -> tuple[str, ...]:
        """Fold when facing a raise, call, and raise while raises are left."""
        if self._over:
            return ()
        now = self.rounds[-1]
        fold = ("f",) if now.endswith("r") else ()
        more = ("r",) if now.count("r") < MOST_RAISES else ()
        return (*fold, "c", *more)

    def after(self, move: str) -> LeducState:
        """One more move; a settled first round shows the table's card and begins the second."""
        now = self.rounds[-1] + move
        rounds = (*self.rounds[:-1], now)
        return LeducState(self.cards, (*rounds, "") if len(rounds) == 1 and _settled(now) else rounds)

    def returns(self) -> Returns:
        """Who folded loses what it paid; else a pair with the table wins, then the higher rank; equal ranks split."""
        paid = self._paid()
        last = self.rounds[-1]
        if last.endswith("f"):
            loser = (len(last) - 1) % 2
            return (-paid[0], paid[0]) if loser == 0 else (paid[1], -paid[1])
        strengths = [(card == self.cards[2], RANKS.index(card)) for card in self.cards[:2]]
        if strengths[0] == strengths[1]:
            return 0.0, 0.0
        return (paid[1], -paid[1]) if strengths[0] > strengths[1] else (-paid[0], paid[0])

    def _paid(self) -> tuple[float, float]:
        """What each player has put in."""
        paid = [ANTE, ANTE]
        for moves, size in zip(self.rounds, RAISES, strict=False):
            for at, move in enumerate(moves):
                if move != "f":
                    paid[at % 2] = max(paid) + (size if move == "r" else 0.0)
        return paid[0], paid[1]

    def view(self, player: int) -> str:
        """The own card, the first round, and then the table's card and the second round."""
        table = "".join(f"/{self.cards[2]}{moves}" for moves in self.rounds[1:])
        return f"{self.cards[player]}{self.rounds[0]}{table}"

    def tell(self, player: int) -> str:
        """The same in words."""
        said = [_told(moves, player) for moves in self.rounds]
        table = f" On the table: {NAMES[self.cards[2]]}. Second round: {said[1]}." if len(said) == 2 else ""
        return f"Your card: {NAMES[self.cards[player]]}. First round: {said[0]}.{table}"


def _told(moves: str, player: int) -> str:
    told = (f"{'you' if at % 2 == player else 'they'} {WORDS[move]}" for at, move in enumerate(moves))
    return ", ".join(told) or "nothing yet"


def _settled(moves: str) -> bool:
    """Whether a round's bets are equal and both have spoken."""
    return len(moves) > 1 and moves.endswith("c")


class Leduc:
    """The rules as one value."""

    name = "leduc"
    most = ANTE + MOST_RAISES * sum(RAISES)
    summary = (
        "Leduc poker. Two jacks, two queens and two kings; each of two players holds one card and has paid 1. After a "
        "first round of bets a card is laid on the table, then comes a second round. r raises by 2 in the first round "
        "and by 4 in the second, at most twice a round; c calls or checks; f folds. A pair with the table wins, then "
        "the higher card; equal cards split."
    )

    def deals(self) -> list[Deal]:
        """Every triple of ranks with at most two of each, by the ways to draw it from six cards."""
        return [
            Deal("".join(ranks), _ways(ranks) / (6 * 5 * 4), LeducState("".join(ranks)))
            for ranks in product(RANKS, repeat=3)
            if max(Counter(ranks).values()) <= 2
        ]


def _ways(ranks: tuple[str, ...]) -> int:
    """Ordered draws of cards with these ranks: two cards of a rank at first, one fewer each time it was drawn."""
    return prod(2 - ranks[:at].count(rank) for at, rank in enumerate(ranks))


@environments("leduc")
class LeducEnvironment(GameEnvironment):
    """Leduc poker for two seats; in units of the ante. A view like ``3crc/2r`` is a king; check, raise, call; a
    queen on the table; a raise.
    """

    rules = Leduc()
