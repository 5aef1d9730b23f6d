"""Ghost: letters are added in turn to a fragment of a word; who completes a word loses, and there must be a word ahead.

The list of words is fixed and small, so that the game has a known value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sparring.scenarios.registry import environments

from .base import GameEnvironment
from .rules import Deal, Returns

LEAST = 4  # shorter words do not end the game
TEXT = """
able acid acorn actor adapt adder admit adopt afar after agent aide alarm alien alone amber anchor angel
apart apple apron arena arise armor arrow atlas attic bacon badge bamboo banana barn basin beacon beard
beast bell bench berry bird blade blast blind bloom board boat bold bone border bottle bread breeze bridge
bright bronze cabin cable camel camera candle canoe carbon carpet castle cellar chair chalk charm cheese
cherry chest child circle clean clear cliff cloud coal coast cold comet copper coral corner cotton crane
cream crow dance danger dart dawn deal decide deep deer desert detail diet dinner dish distant dome door
dragon dream dress eager eagle early earth ease east echo edge eight elbow elder ember emit empire
enamel end enter fable face falcon farm feather fern field film fire flame float floor flower foam forest
found frost
"""
WORDS = frozenset(TEXT.split())


@cache
def ahead(fragment: str) -> tuple[str, ...]:
    """The letters that may follow: those with which a word of the list still begins, in the order of the alphabet."""
    size = len(fragment)
    return tuple(sorted({word[size] for word in WORDS if word.startswith(fragment) and len(word) > size}))


@dataclass(frozen=True, slots=True)
class GhostState:
    """``fragment``: what was said so far, the dealt first letter included."""

    fragment: str

    @property
    def player(self) -> int | None:
        """They add letters in turn, until a word of the list stands there."""
        done = len(self.fragment) >= LEAST and self.fragment in WORDS
        return None if done or not ahead(self.fragment) else (len(self.fragment) - 1) % 2

    def legal(self) -> tuple[str, ...]:
        """Letters that lead to a word."""
        return () if self.player is None else ahead(self.fragment)

    def after(self, move: str) -> GhostState:
        """One more letter."""
        return GhostState(self.fragment + move)

    def returns(self) -> Returns:
        """Who added the last letter loses 1."""
        return (-1.0, 1.0) if len(self.fragment) % 2 == 0 else (1.0, -1.0)

    def view(self, player: int) -> str:
        """The fragment: nothing is hidden."""
        return self.fragment

    def tell(self, player: int) -> str:
        """The same in words."""
        return f"So far: {self.fragment}."


class Ghost:
    """The rules as one value."""

    name = "ghost"
    most = 1.0
    summary = (
        f"Ghost. Two players add a letter in turn. Who completes a word of {LEAST} letters or more loses; a letter "
        "must leave a word to come."
    )

    def deals(self) -> list[Deal]:
        """The first letter, each as likely as the others."""
        letters = sorted({word[0] for word in WORDS})
        return [Deal(letter, 1 / len(letters), GhostState(letter)) for letter in letters]


@environments("ghost")
class GhostEnvironment(GameEnvironment):
    """A word game for two seats: 1 for a win, -1 for a loss. Without a mistake the dealt letter decides who wins."""

    rules = Ghost()
