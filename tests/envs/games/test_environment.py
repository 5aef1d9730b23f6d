"""Games as environments: who is asked, what a seat reads, what illegal moves cost, what the measures say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sparring.envs.check import check_environment
from sparring.envs.games.base import GameEnvironment
from sparring.envs.games.ghost import GhostEnvironment
from sparring.envs.games.kuhn import KuhnEnvironment
from sparring.envs.games.leduc import LeducEnvironment
from sparring.envs.games.tictactoe import TicTacToeEnvironment
from sparring.envs.types import Score, Task

GAMES: tuple[type[GameEnvironment], ...] = (KuhnEnvironment, LeducEnvironment, TicTacToeEnvironment, GhostEnvironment)


def dealt(cards: str, begins: str = "first", **options: Any) -> KuhnEnvironment:
    """Kuhn poker with these cards for whoever begins and the other."""
    environment = KuhnEnvironment(options)
    environment.reset(seed=0, options={"task": Task("kuhn", {"game": "kuhn", "begins": begins}, {"deal": cards})})
    return environment


def values(scores: Mapping[str, list[Score]]) -> dict[str, float | None]:
    return {seat: next((one.value for one in found if one.name == "verifier"), None) for seat, found in scores.items()}


@pytest.mark.parametrize("kind", GAMES)
def test_games_keep_the_contract(kind: type[GameEnvironment]) -> None:
    check_environment(lambda: kind({"oracle": "uniform"}), tasks=4)


@pytest.mark.parametrize("kind", GAMES)
@pytest.mark.parametrize("style", ["brief", "full"])
@pytest.mark.parametrize("seed", range(4))
def test_a_game_of_legal_moves_ends_zero_sum_and_addresses_whoever_moves(
    kind: type[GameEnvironment], style: str, seed: int
) -> None:
    environment = kind({"style": style, "oracle": "uniform"})
    environment.reset(seed=seed)
    for _ in range(40):
        assert environment.addressee in environment.seats
        move = environment.oracle()
        assert move is not None
        _, reward, over, _, info = environment.step(move)
        if over:
            break
    assert over and environment.addressee is None and environment.oracle() is None
    won = values(info["scores"])
    assert set(won) == set(environment.seats) and sum(v for v in won.values() if v is not None) == 0
    assert reward in won.values()


def test_the_winner_of_a_called_bet_gets_two_and_each_seat_its_own_share() -> None:
    environment = dealt("31")
    assert environment._told() == "3:pb"
    assert environment.step("b")[0] == "1b:pb"
    said, reward, over, _, info = environment.step(" b\n")
    assert (reward, over, values(info["scores"])) == (-2.0, True, {"first": 2.0, "second": -2.0})
    assert said == "over: first +2, second -2"


def test_the_task_says_who_begins() -> None:
    environment = dealt("31", begins="second")
    assert environment.addressee == "second"
    environment.step("b")
    assert environment.addressee == "first"
    assert values(environment.step("p")[4]["scores"]) == {"first": -1.0, "second": 1.0}


def test_no_seat_reads_the_other_card_before_the_end() -> None:
    for cards, hidden in (("31", "1"), ("32", "2")):
        environment = dealt(cards)
        assert hidden not in environment._told() and cards not in str(environment.task and environment.task.payload)
    full = dealt("31", style="full")
    assert "king" in full._told().splitlines()[1] and "jack" not in full._told().splitlines()[1]


def test_an_illegal_move_forfeits_the_most_there_is_to_lose() -> None:
    *_, over, _, info = dealt("31").step("raise")
    assert over and values(info["scores"]) == {"first": -2.0, "second": 2.0}
    assert "legal moves were p, b" in info["scores"]["first"][0].note
    assert [one.value for one in info["scores"]["first"] if one.name == "legal"] == [0.0]


def test_an_illegal_move_may_count_as_the_most_timid_one() -> None:
    environment = dealt("31", illegal="pass")
    said, _, over, _, info = environment.step("raise")
    assert (said, over) == ("1p:pb", False)
    assert [(one.name, one.value) for one in info["scores"]["first"]] == [("legal", 0.0)]


def test_uniform_demonstrations_of_one_episode_are_drawn_apart() -> None:
    environment = KuhnEnvironment({"oracle": "uniform"})
    games = set()
    for seed in range(40):
        environment.reset(seed=seed)
        said, over = "", False
        while not over:
            kept = environment.snapshot()
            move = environment.oracle()
            environment.restore(kept)  # as play does: the draw is not part of what is kept
            assert move is not None
            said += move
            over = environment.step(move)[2]
        games.add(said)
    assert games == {"pp", "pbp", "pbb", "bp", "bb"}


def test_equal_deals_have_equal_keys_whatever_drew_them() -> None:
    environment, rng = KuhnEnvironment(), np.random.default_rng(0)
    tasks = [environment.sample({"begins": "first"}, rng) for _ in range(60)]
    assert len({task.key for task in tasks}) == len({task.secret["deal"] for task in tasks}) == 6


@pytest.mark.parametrize("kind", GAMES)
def test_positions_are_what_play_shows(kind: type[GameEnvironment]) -> None:
    environment = kind({"oracle": "uniform"})
    there = {(one.seat, one.observation): one.actions for one in environment.positions()}
    rng = np.random.default_rng(1)
    for _ in range(20):
        said, _ = environment.reset(options={"task": environment.sample({"begins": "first"}, rng)})
        over = False
        while not over:
            assert environment.addressee is not None
            moves = there[environment.addressee, said]
            said, _, over, _, _ = environment.step(str(rng.choice(moves)))


def test_measures_bring_legal_moves_to_one_and_say_what_was_missing() -> None:
    environment = KuhnEnvironment()
    found = environment.measure({one.label: [0.2, 0.2] for one in environment.positions()})
    assert found == pytest.approx({"exploitability": 11 / 24, "illegal": 0.6})
