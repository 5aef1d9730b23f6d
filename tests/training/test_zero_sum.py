"""Credit in games of two seats: every move earns its seat's result, less the running average of that role (SPIRAL)."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest

from sparring.envs.types import Episode
from sparring.scenarios.schema import RoleSpec
from sparring.training.advantages.group import MeanBaseline
from sparring.training.credit import credit

Make = Callable[..., Episode]
SEAT = RoleSpec.model_validate({"kind": "plain", "reward": ["r"], "compare": "baseline", "discount": 1.0})
SEATS = {"first": SEAT, "second": SEAT}
DEALT = {"author": "environment", "tokens": 0}
MOVES = [
    DEALT,
    {"author": "first", "parent": 0},
    {"author": "environment", "tokens": 0, "parent": 1},
    {"author": "second", "parent": 2},
    {"author": "environment", "tokens": 0, "parent": 3},
    {"author": "first", "parent": 4},
]


def game(episode: Make, won: float, index: int = 0) -> Episode:
    """Check, bet, call: the first seat moves twice, without following its own words, and is scored at its last move."""
    return episode(MOVES, {3: -won, 5: won}, index)


def test_every_move_of_a_seat_earns_the_games_result(episode: Make) -> None:
    found = credit([game(episode, 2.0)], SEATS, MeanBaseline())
    assert {row.turn: row.reward for row in found.advantages} == {1: 2.0, 5: 2.0, 3: -2.0}


def test_each_role_is_measured_against_its_own_running_average(episode: Make) -> None:
    held = {"first": 0.5, "second": -0.5}
    found = credit([game(episode, 2.0), game(episode, -1.0, 1)], SEATS, MeanBaseline(), held)
    values = {(row.episode, row.turn): row.value for row in found.advantages}
    assert values == {(0, 1): 1.5, (0, 5): 1.5, (0, 3): -1.5, (1, 1): -1.5, (1, 5): -1.5, (1, 3): 1.5}
    after = {"first": 0.95 * 0.5 + 0.05 * fmean([2.0, -1.0]), "second": 0.95 * -0.5 + 0.05 * fmean([-2.0, 1.0])}
    assert dict(found.baselines) == pytest.approx(after)


def test_an_advantage_of_the_seat_itself_is_not_praised_for_ever(episode: Make) -> None:
    held: dict[str, float] = {}
    games: list[Any] = [game(episode, 1.0, index) for index in range(4)]
    for _ in range(200):
        held = dict(credit(games, SEATS, MeanBaseline(), held).baselines)
    found = credit(games, SEATS, MeanBaseline(), held)
    assert all(abs(row.value) < 1e-3 for row in found.advantages)
