"""The rules of every game against open_spiel, state by state, and against what the papers print."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sparring.envs.games.exact import decisions, states
from sparring.envs.games.ghost import Ghost
from sparring.envs.games.kuhn import Kuhn
from sparring.envs.games.leduc import Leduc
from sparring.envs.games.rules import Rules, State
from sparring.envs.games.tictactoe import TicTacToe

GAMES: tuple[Rules, ...] = (Kuhn(), Leduc(), TicTacToe(), Ghost())
KUHN = {"p": 0, "b": 1}
LEDUC = {"f": 0, "c": 1, "r": 2}


@pytest.fixture
def spiel() -> Any:
    """open_spiel, which is in the test extra."""
    return pytest.importorskip("pyspiel", reason="open_spiel has no wheel for this system; it only checks ours")


def deal(state: Any, cards: list[int]) -> Any:
    """open_spiel's state after chance drew the first of these cards that are wanted now."""
    while state.is_chance_node():
        state.apply_action(cards.pop(0))
    return state


def walk(ours: State, theirs: Any, codes: dict[str, int], cards: list[int], seen: dict[Any, Any]) -> int:
    """Compare every history below a state; the number of states compared. ``seen`` pairs information sets."""
    left = list(cards)
    theirs = deal(theirs, left)
    if ours.player is None:
        assert theirs.is_terminal() and theirs.returns() == list(ours.returns())
        return 1
    player = ours.player
    assert theirs.current_player() == player
    assert {codes[move] for move in ours.legal()} == set(theirs.legal_actions())
    seen.setdefault((player, ours.view(player)), set()).add(theirs.information_state_string(player))
    return 1 + sum(walk(ours.after(m), theirs.child(codes[m]), codes, left, seen) for m in ours.legal())


def compare(spiel: Any, name: str, rules: Rules, codes: dict[str, int], draw: Callable[[str], list[list[int]]]) -> int:
    """Every deal of ``rules``, as every way open_spiel may deal it; information sets must match one to one."""
    seen: dict[Any, set[str]] = {}
    total = 0
    for one in rules.deals():
        for cards in draw(one.name):
            total += walk(one.start, spiel.load_game(name).new_initial_state(), codes, cards, seen)
    names = [name for group in seen.values() for name in group]
    assert len(names) == len(set(names)), "a set of theirs lies in two of ours"
    assert len(seen) == len(decisions(rules))
    assert all(len(group) == 1 for group in seen.values()), "a set of ours is several of theirs"
    return total


def test_every_history_of_kuhn_poker_is_open_spiels(spiel: Any) -> None:
    total = compare(spiel, "kuhn_poker", Kuhn(), KUHN, lambda name: [[int(card) - 1 for card in name]])
    assert total == 6 * 9


def test_every_history_of_leduc_poker_is_open_spiels(spiel: Any) -> None:
    total = compare(
        spiel, "leduc_poker(suit_isomorphism=true)", Leduc(), LEDUC, lambda name: [[int(rank) - 1 for rank in name]]
    )
    assert total == len(Leduc().deals()) * total // len(Leduc().deals()) > 1000


def test_leducs_deals_are_as_likely_as_six_cards_make_them(spiel: Any) -> None:
    found: dict[str, float] = {}
    game = spiel.load_game("leduc_poker(suit_isomorphism=true)")

    def draw(state: Any, name: str, chance: float) -> None:
        if len(name) == 3:
            found[name] = chance
            return
        while not state.is_chance_node():
            state = state.child(LEDUC["c"])
        for card, p in state.chance_outcomes():
            draw(state.child(card), name + str(card + 1), chance * p)

    draw(game.new_initial_state(), "", 1.0)
    assert found == pytest.approx({one.name: one.chance for one in Leduc().deals()})


def test_random_playouts_of_tic_tac_toe_are_open_spiels(spiel: Any) -> None:
    game, rng = spiel.load_game("tic_tac_toe"), np.random.default_rng(0)
    for _ in range(300):
        ours: State = TicTacToe().deals()[0].start
        theirs = game.new_initial_state()
        while ours.player is not None:
            assert {int(move) - 1 for move in ours.legal()} == set(theirs.legal_actions())
            move = str(rng.choice(ours.legal()))
            ours, theirs = ours.after(move), theirs.child(int(move) - 1)
        assert theirs.is_terminal() and theirs.returns() == list(ours.returns())


@pytest.mark.parametrize("rules", GAMES, ids=lambda rules: rules.name)
def test_games_are_zero_sum_and_lose_no_more_than_they_say(rules: Rules) -> None:
    ends = [state.returns() for state in states(rules) if state.player is None]
    assert all(a + b == 0 for a, b in ends)
    assert max(abs(a) for a, _ in ends) == rules.most
    assert sum(one.chance for one in rules.deals()) == pytest.approx(1.0)


@pytest.mark.parametrize("rules", GAMES, ids=lambda rules: rules.name)
def test_an_information_set_has_one_mover_and_one_list_of_moves(rules: Rules) -> None:
    found: dict[tuple[int, str], set[tuple[str, ...]]] = {}
    for state in states(rules):
        if state.player is not None:
            found.setdefault((state.player, state.view(state.player)), set()).add(state.legal())
    assert all(len(moves) == 1 for moves in found.values())
    assert len(found) == {"kuhn": 12, "leduc": 288, "tictactoe": 4520}.get(rules.name, len(found))
