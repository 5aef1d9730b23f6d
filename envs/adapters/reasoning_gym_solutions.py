"""Right answers where reasoning-gym keeps none: breadth-first search, carrying boxes home, turning a cube back."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SIDE = 6  # squares of the rush hour board


def rush_hour(board: str) -> str | None:
    """The fewest moves that bring the first car to the right edge, as ``A+1 B-2``.

    ``board``: 36 letters, ``o`` empty, ``x`` wall. Cars are called A, B, ... in the order of their letters, as the
    library shows them.

    >>> rush_hour("o" * 12 + "AAoBoo" + "oooBoo" + "o" * 12)
    'B+1 A+4'
    """
    cells = {label: [i for i, found in enumerate(board) if found == label] for label in sorted({*board} - {"o", "x"})}
    walls = sum(1 << i for i, found in enumerate(board) if found == "x")
    labels = list(cells)
    strides = [cells[label][1] - cells[label][0] for label in labels]
    shapes = [sum(1 << (i - cells[label][0]) for i in cells[label]) for label in labels]
    sizes = [len(cells[label]) for label in labels]
    start = tuple(cells[label][0] for label in labels)
    came: dict[tuple[int, ...], tuple[tuple[int, ...], str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        if state[0] % _SIDE == _SIDE - sizes[0]:
            return _way(came, state)
        for car, steps, place in _moves(state, strides, shapes, sizes, walls):
            after = (*state[:car], place, *state[car + 1 :])
            if after not in came:
                came[after] = (state, f"{chr(ord('A') + car)}{steps:+d}")
                waiting.append(after)
    return None


def _way(came: Mapping[tuple[int, ...], tuple[tuple[int, ...], str] | None], state: tuple[int, ...]) -> str:
    moves: list[str] = []
    while (before := came[state]) is not None:
        state, move = before
        moves.append(move)
    return " ".join(reversed(moves))


def _moves(
    state: tuple[int, ...], strides: Sequence[int], shapes: Sequence[int], sizes: Sequence[int], walls: int
) -> Iterator[tuple[int, int, int]]:
    """Every car, how far it may go, and where it then starts."""
    taken = walls
    for place, shape in zip(state, shapes, strict=True):
        taken |= shape << place
    for car, place in enumerate(state):
        others = taken & ~(shapes[car] << place)
        at = place % _SIDE if strides[car] == 1 else place // _SIDE
        for direction in (1, -1):
            steps = direction
            while 0 <= at + steps <= _SIDE - sizes[car]:
                new = place + steps * strides[car]
                if others & (shapes[car] << new):
                    break
                yield car, steps, new
                steps += direction


def boxnet(squares: Mapping[str, Sequence[str]]) -> str:
    """A plan that carries every box to a target of its colour, one move at a time; ``squares``: what lies on each."""
    targets: dict[str, list[str]] = {}
    for square, items in squares.items():
        for item in items:
            if item.startswith("target_"):
                targets.setdefault(item[7:], []).append(square)
    plan: list[dict[str, str]] = []
    for square, items in squares.items():
        for item in items:
            if item.startswith("box_"):
                plan += _carried(item, square, targets[item[4:]].pop())
    return json.dumps(plan)


def _carried(box: str, start: str, goal: str) -> Iterator[dict[str, str]]:
    row, column = map(float, start.split("_"))
    goal_row, goal_column = map(float, goal.split("_"))
    while (row, column) != (goal_row, goal_column):
        agent = f"Agent[{row}, {column}]"
        if row != goal_row:
            row += 1.0 if goal_row > row else -1.0
        else:
            column += 1.0 if goal_column > column else -1.0
        yield {agent: f"move({box}, square[{row}, {column}])"}
    yield {f"Agent[{row}, {column}]": f"move({box}, target_{box[4:]})"}


def turned_back(moves: str) -> str:
    """The moves that undo ``moves``.

    >>> turned_back("R U' F")
    "F' U R'"
    """
    return " ".join(move[:-1] if move.endswith("'") else f"{move}'" for move in reversed(moves.split()))


def solution(name: str, entry: Mapping[str, Any]) -> str | None:
    """A right answer of an entry whose dataset keeps none."""
    metadata = entry["metadata"]
    if name == "rush_hour":
        return rush_hour(str(metadata["board_config"]))
    if name == "rubiks_cube":
        return turned_back(str(metadata["scramble_moves"]))
    return boxnet(metadata["initial_state"]) if name == "boxnet" else None
