"""Kuhn poker: three cards, one bet. H. W. Kuhn, A simplified two-person poker, 1950."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from sparring.scenarios.registry import environments

from .base import GameEnvironment
from .rules import Deal, Returns

CARDS = "123"  # jack, queen, king: digits, which order themselves and which small byte-level models tell apart
NAMES = {"1": "jack", "2": "queen", "3": "king"}
OVER = ("pp", "pbp", "pbb", "bp", "bb")
WORDS = {"p": "pass", "b": "bet"}


@dataclass(frozen=True, slots=True)
class KuhnState:
    """``cards`` of the two players; ``said``: the moves so far, ``p`` for pass and ``b`` for bet."""

    cards: str
    said: str = ""

    @property
    def player(self) -> int | None:
        """They move in turn; a game lasts two or three moves."""
        return None if self.said in OVER else len(self.said) % 2

    def legal(self) -> tuple[str, ...]:
        """Pass (facing a bet: fold) or bet (facing a bet: call)."""
        return () if self.player is None else ("p", "b")

    def after(self, move: str) -> KuhnState:
        """One more move."""
        return KuhnState(self.cards, self.said + move)

    def returns(self) -> Returns:
        """A fold loses the ante of 1; else the higher card wins the ante, or 2 after a bet."""
        if self.said == "bp":
            return 1.0, -1.0
        if self.said == "pbp":
            return -1.0, 1.0
        won = 2.0 if self.said.endswith("bb") else 1.0
        first = won if CARDS.index(self.cards[0]) > CARDS.index(self.cards[1]) else -won
        return first, -first

    def view(self, player: int) -> str:
        """The own card and the moves so far."""
        return self.cards[player] + self.said

    def tell(self, player: int) -> str:
        """The same in words."""
        moves = ", ".join(f"{'you' if at % 2 == player else 'they'} {WORDS[m]}" for at, m in enumerate(self.said))
        return f"Your card: {NAMES[self.cards[player]]}. So far: {moves or 'nothing'}."


class Kuhn:
    """The rules as one value."""

    name = "kuhn"
    most = 2.0
    summary = (
        "Kuhn poker. The cards are jack, queen and king, in rising order; each of two players holds one and has paid "
        "1. b bets 1 more, or matches a bet; p passes, and facing a bet gives up. Without a fold the higher card wins."
    )

    def deals(self) -> list[Deal]:
        """Two different cards of three, all six ways alike."""
        return [Deal(a + b, 1 / 6, KuhnState(a + b)) for a, b in permutations(CARDS, 2)]


@environments("kuhn")
class KuhnEnvironment(GameEnvironment):
    """Kuhn poker for two seats; in units of the ante."""

    rules = Kuhn()
