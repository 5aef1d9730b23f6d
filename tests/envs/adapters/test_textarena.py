"""TextArena: seats, what each hears, the library's own invalid moves, and games that fail."""

from __future__ import annotations

import importlib.util
import random
from typing import Any

import pytest

from sparring.envs.adapters.apart import ForeignError, apart
from sparring.envs.adapters.textarena import TextArenaEnvironment
from sparring.envs.types import Validity
from sparring.scenarios.errors import ScenarioError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("textarena") is None, reason="pip install 'sparring[textarena]'"
)
WON = ("[0]", "[3]", "[1]", "[4]", "[2]")


def game(name: str = "TicTacToe-v0", **options: Any) -> TextArenaEnvironment:
    environment = TextArenaEnvironment({"game": name, **options})
    environment.reset(seed=1)
    return environment


def test_seats_take_turns_and_are_paid_at_the_end() -> None:
    environment = game()
    assert environment.seats == ("player_0", "player_1")
    turns = []
    for action in WON:
        turns.append(environment.addressee)
        said, _, over, _, info = environment.step(action)
    assert turns == ["player_0", "player_1"] * 2 + ["player_0"] and over and environment.addressee is None
    assert {seat: scores[0].value for seat, scores in info["scores"].items()} == {"player_0": 1.0, "player_1": -1.0}
    assert said.startswith("over: player_0 +1, player_1 -1")


def test_a_seat_hears_the_others_move_and_its_own_rules_once() -> None:
    environment = game()
    first = environment.step("[4]")[0]
    assert "You are Player 1" in first and "[Player 0] [4]" in first and "You are Player 0" not in first
    again = environment.step("[0]")[0]
    assert "You are Player" not in again and again.count("Current Board") == 1


def test_an_invalid_move_is_told_once_and_loses_the_second_time() -> None:
    environment = game()
    said, _, over, _, _ = environment.step("nonsense")
    assert "attempted an invalid move" in said and not over and environment.addressee == "player_0"
    _, _, over, _, info = environment.step("[99]")
    assert over and info["scores"]["player_0"][0].value == -1.0 and info["scores"]["player_1"][0].value == 1.0


def test_brackets_may_be_left_out() -> None:
    assert "in cell 4" in game().step("4")[0]


def test_a_game_for_one_has_no_seats() -> None:
    environment = game("TowerOfHanoi-v0", max_steps=3)
    assert environment.seats == () and environment.addressee is None
    steps = [environment.step(move) for move in ("[A C]", "[A B]", "[C B]")]
    assert steps[2][3] and steps[2][4]["scores"][0].value == 0.0


def test_players_may_be_named() -> None:
    assert len(game("LiarsDice-v0", players=4).seats) == 4


def test_a_moment_is_restored_in_another_instance_with_its_seat() -> None:
    one, other = game(), game()
    one.step("[4]")
    moment = one.snapshot()
    expected = one.step("[0]")
    other.restore(moment)
    assert other.addressee == "player_1" and other.step("[0]") == expected


def test_a_foreign_draw_between_turns_changes_nothing() -> None:
    one, other = game("KuhnPoker-v0"), game("KuhnPoker-v0")
    expected = [one.step("[check]")[0], one.step("[bet]")[0]]
    seen = [other.step("[check]")[0]]
    random.seed(3)
    assert [*seen, other.step("[bet]")[0]] == expected


def test_a_game_lost_with_its_process_goes_on_where_it_stood() -> None:
    one, other = game(), game()
    one.step("[4]"), other.step("[4]")
    apart("sparring.envs.adapters.textarena_games").close()
    assert one.step("[0]") == other.step("[0]")


def test_a_game_that_hangs_is_ended_and_its_scores_are_invalid() -> None:
    environment = game(timeout_s=20)
    hurried = environment.config.model_copy(update={"timeout_s": 0.0})
    environment.config = hurried
    _, _, over, _, info = environment.step("[4]")
    scores = [score for found in info["scores"].values() for score in found]
    assert over and len(scores) == 2 and all(score.validity is Validity.INVALID for score in scores)
    assert "the game hung: no answer within 0 s" in scores[0].note


def test_the_far_end_says_what_it_raised() -> None:
    with pytest.raises(ForeignError, match="KeyError") as caught:
        apart("sparring.envs.adapters.textarena_games").call("play", -1, "[0]")
    assert caught.value.how == "raised"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"game": "TicTacTo-v0"}, "did you mean 'TicTacToe-v0'"),
        ({"game": "TicTacToe-v0", "players": 3}, "cannot be set up"),
        ({"game": "TicTacToe-v0", "options": {"size": 9}}, "cannot be set up"),
    ],
)
def test_games_that_cannot_be_set_up_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        TextArenaEnvironment(options)
