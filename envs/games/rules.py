"""What a game is to the rest of the package: immutable states that know who moves, what may be said, and who won.

Chance moves happen once, before play: a deal decides every hidden card there will be. Nothing here draws numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, Protocol

Returns = tuple[float, float]
Policy = Callable[["State"], Sequence[float]]
"""Probabilities of a state's legal actions, in their order. It may look only at what the mover may see."""


class State(Protocol):
    """A moment of a game. Hashable; players are 0, who begins, and 1."""

    @property
    def player(self) -> int | None:
        """Who moves; ``None`` when the game is over."""

    def legal(self) -> tuple[str, ...]:
        """The texts of the moves there are, in a fixed order; the first is the most timid one."""

    def after(self, move: str) -> State:
        """The state this legal move leads to."""

    def returns(self) -> Returns:
        """What each player has won, in the game's units; they add up to 0. Only asked when the game is over."""

    def view(self, player: int) -> str:
        """Everything this player may know, in a few characters: equal views are one information set."""

    def tell(self, player: int) -> str:
        """The same in words."""


class Deal(NamedTuple):
    """One way a game may begin: its ``name`` says what was dealt, ``chance`` how likely that is."""

    name: str
    chance: float
    start: State


class Rules(Hashable, Protocol):
    """A game. ``most`` is the most a player can lose."""

    name: str
    most: float
    summary: str

    def deals(self) -> Sequence[Deal]:
        """Every deal; the chances add up to 1."""
