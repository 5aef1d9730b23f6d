"""Exploitability and values by our own tree walk: against open_spiel, known values, and play that loses nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparring.envs.games.exact import best_value, decisions, exploitability, uniform, value
from sparring.envs.games.ghost import Ghost
from sparring.envs.games.kuhn import Kuhn
from sparring.envs.games.leduc import Leduc
from sparring.envs.games.rules import Policy, Rules, State
from sparring.envs.games.solve import solve
from sparring.envs.games.tictactoe import TicTacToe

KUHN = {"p": 0, "b": 1}
LEDUC = {"f": 0, "c": 1, "r": 2}


def drawn(rules: Rules, seed: int) -> tuple[dict[tuple[int, str], list[float]], Policy]:
    """Random probabilities, now and then 0, for every information set."""
    rng = np.random.default_rng(seed)
    table = {}
    for one in decisions(rules):
        weights = rng.random(len(one.state.legal())) * (rng.random(len(one.state.legal())) > 0.2) + 1e-12
        table[one.player, one.view] = (weights / weights.sum()).tolist()

    def policy(state: State) -> list[float]:
        assert state.player is not None
        found: list[float] = table[state.player, state.view(state.player)]
        return found

    return table, policy


@pytest.fixture
def theirs() -> Any:
    """``theirs(name, rules, codes, policy)``: NashConv / 2 as open_spiel has it."""
    pyspiel = pytest.importorskip("pyspiel", reason="open_spiel has no wheel for this system; it only checks ours")
    from open_spiel.python import policy as policies
    from open_spiel.python.algorithms import exploitability as algorithms

    def found(name: str, rules: Rules, codes: dict[str, int], policy: Policy) -> float:
        game = pyspiel.load_game(name)
        table = policies.TabularPolicy(game)

        def pair(ours: State, state: Any, cards: list[int]) -> None:
            cards = list(cards)
            while state.is_chance_node():
                state.apply_action(cards.pop(0))
            if ours.player is None:
                return
            at = table.state_lookup[state.information_state_string(ours.player)]
            table.action_probability_array[at] = 0.0
            for move, chance in zip(ours.legal(), policy(ours), strict=True):
                table.action_probability_array[at][codes[move]] = chance
                pair(ours.after(move), state.child(codes[move]), cards)

        for deal in rules.deals():
            pair(deal.start, game.new_initial_state(), [int(card) - 1 for card in deal.name])
        return float(algorithms.exploitability(game, table))

    return found


@pytest.mark.parametrize("seed", range(5))
def test_exploitability_of_random_policies_of_kuhn_poker_is_open_spiels(theirs: Any, seed: int) -> None:
    _, policy = drawn(Kuhn(), seed)
    expected = theirs("kuhn_poker", Kuhn(), KUHN, policy)
    assert exploitability(Kuhn(), policy) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_exploitability_of_random_policies_of_leduc_poker_is_open_spiels(theirs: Any, seed: int) -> None:
    _, policy = drawn(Leduc(), seed)
    expected = theirs("leduc_poker(suit_isomorphism=true)", Leduc(), LEDUC, policy)
    assert exploitability(Leduc(), policy) == pytest.approx(expected, abs=1e-9)


def test_uniform_play_has_the_known_exploitability() -> None:
    assert exploitability(Kuhn(), uniform) == pytest.approx(11 / 24)
    assert exploitability(Leduc(), uniform) == pytest.approx(2.3736111, abs=1e-6)


def test_kuhns_own_equilibrium_cannot_be_exploited_and_loses_an_eighteenth() -> None:
    bets = {"1": 1 / 3, "2": 0, "3": 1, "1pb": 0, "2pb": 2 / 3, "3pb": 1}
    bets |= {"1p": 1 / 3, "2p": 0, "3p": 1, "1b": 0, "2b": 1 / 3, "3b": 1}

    def policy(state: State) -> list[float]:
        assert state.player is not None
        bet = bets[state.view(state.player)]
        return [1 - bet, bet]

    assert exploitability(Kuhn(), policy) == pytest.approx(0, abs=1e-12)
    assert value(Kuhn(), policy) == pytest.approx(-1 / 18)


@pytest.mark.parametrize(("rules", "most"), [(Kuhn(), 2e-3), (Ghost(), 1e-12), (TicTacToe(), 1e-12)])
def test_best_play_loses_nothing(rules: Rules, most: float) -> None:
    assert -1e-12 <= exploitability(rules, solve(rules)) < most


def test_equilibrium_of_leduc_poker_comes_closer_with_every_round() -> None:
    few, more = (exploitability(Leduc(), solve(Leduc(), rounds)) for rounds in (5, 40))
    assert more < 0.1 < few


def test_a_best_answer_never_does_worse_than_the_policy_itself() -> None:
    for seed in range(5):
        _, policy = drawn(Kuhn(), seed)
        both = value(Kuhn(), policy)
        assert best_value(Kuhn(), policy, 0) >= both - 1e-12 and best_value(Kuhn(), policy, 1) >= -both - 1e-12
