"""Tic-tac-toe: nothing is hidden, perfect play draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sparring.scenarios.registry import environments

from .base import GameEnvironment
from .rules import Deal, Returns

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
MARKS = "xo"
EMPTY = "."


@dataclass(frozen=True, slots=True)
class TicTacToeState:
    """``board``: nine characters, row after row; ``x`` begins."""

    board: str = EMPTY * 9

    @property
    def player(self) -> int | None:
        """Whoever has fewer marks, x when they have equally many; nobody once a line or the board is full."""
        if self._winner is not None or EMPTY not in self.board:
            return None
        return (9 - self.board.count(EMPTY)) % 2

    @property
    def _winner(self) -> int | None:
        for line in LINES:
            marks = {self.board[at] for at in line}
            if len(marks) == 1 and marks != {EMPTY}:
                return MARKS.index(marks.pop())
        return None

    def legal(self) -> tuple[str, ...]:
        """Numbers of the empty squares, 1 to 9."""
        if self.player is None:
            return ()
        return tuple(str(at + 1) for at, mark in enumerate(self.board) if mark == EMPTY)

    def after(self, move: str) -> TicTacToeState:
        """The mover's mark on that square."""
        player, at = self.player, int(move) - 1
        assert player is not None
        return TicTacToeState(self.board[:at] + MARKS[player] + self.board[at + 1 :])

    def returns(self) -> Returns:
        """1 for three in a line, 0 each for a draw."""
        winner = self._winner
        if winner is None:
            return 0.0, 0.0
        return (1.0, -1.0) if winner == 0 else (-1.0, 1.0)

    def view(self, player: int) -> str:
        """The board; whose turn it is can be counted."""
        return self.board

    def tell(self, player: int) -> str:
        """The board in three rows."""
        rows = "\n".join(self.board[at : at + 3] for at in (0, 3, 6))
        return f"You are {MARKS[player]}. The board:\n{rows}"


class TicTacToe:
    """The rules as one value."""

    name = "tictactoe"
    most = 1.0
    summary = (
        "Tic-tac-toe. The squares are numbered 1 to 9, row after row; x moves first. Three marks in a row, a column or "
        "a diagonal win."
    )

    def deals(self) -> list[Deal]:
        """The empty board."""
        return [Deal("empty", 1.0, TicTacToeState())]


@environments("tictactoe")
class TicTacToeEnvironment(GameEnvironment):
    """Tic-tac-toe for two seats: 1 for a win, -1 for a loss, 0 for a draw. Exact measures ask for 4,520 positions."""

    rules = TicTacToe()
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = {"begins": ("drawn", "first", "second")}
