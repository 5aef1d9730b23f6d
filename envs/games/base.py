"""The environment over any game of ``rules.py``: what seats read and say, who is asked next, what they win."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import fsum
from typing import Any, ClassVar, Literal

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict

from sparring.scenarios.errors import ContractBroken

from ..base import Environment
from ..types import Position, Score, Task, digest
from .exact import Decision, decisions, exploitability
from .rules import Deal, Rules, State
from .solve import Strategy, solve

SEATS = ("first", "second")
BEGINS = ("first", "second", "drawn")


class GameOptions(BaseModel):
    """``style``: observations are ``brief`` (``3pb:pb``: what the seat knows, a colon, the legal moves) or ``full``:
    rules and sentences.

    ``illegal``: an answer that is no legal move ``forfeit``s the game's greatest loss to the other seat, or counts as
    ``pass``, the most timid move there is. ``oracle``: demonstrations are ``best`` play (an equilibrium, or perfect
    play where nothing is hidden) or ``uniform`` over the legal moves.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    style: Literal["brief", "full"] = "brief"
    illegal: Literal["forfeit", "pass"] = "forfeit"
    oracle: Literal["best", "uniform"] = "best"


class GameEnvironment(Environment):
    """A game for two seats. A seat's answer, without outer white space, must be one of the legal moves it was told.

    At the end each seat's newest turn gets ``verifier``, what it won in the game's units: they add up to 0. The
    parameter ``begins`` says which seat moves first; hidden cards stand in ``Task.secret`` alone. Exploitability is
    that of the seats' probabilities over legal moves when ``first`` begins, (b0 + b1) / 2 with b what a best answer
    wins (NashConv / 2); ``illegal`` is the mean probability of every other text.
    """

    rules: ClassVar[Rules]
    Config = GameOptions
    seats = SEATS
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = {"begins": BEGINS}
    payload_fields: ClassVar[tuple[str, ...]] = ("game", "begins")
    examples: ClassVar = ({}, {"style": "full"}, {"illegal": "pass", "oracle": "uniform"})
    measures = ("exploitability", "illegal")
    scores: ClassVar = ("legal",)
    unaudited = "what an answer earns depends on the opponent, and no answer is right or wrong by itself"

    # episodes -------------------------------------------------------------------------------------------------

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A deal by its chance, with ``begins`` as asked."""
        begins = str(parameters.get("begins", self.parameters["begins"][0]))
        if begins == "drawn":
            begins = SEATS[int(rng.integers(2))]
        deals = self._deals
        dealt = deals[int(rng.choice(len(deals), p=[deal.chance for deal in deals]))].name
        payload, secret = {"game": self.rules.name, "begins": begins}, {"deal": dealt}
        # the key says which deal it is, so that episodes on the same one can be compared; no role reads keys
        key = digest([self.rules.name, payload, secret])
        return Task(self.rules.name, payload, secret, dict(parameters), (self.rules.name,), "generator", key=key)

    def begin(self, task: Task) -> str:
        """What the seat that begins reads."""
        dealt = str(task.secret.get("deal"))
        found = next((deal.start for deal in self._deals if deal.name == dealt), None)
        if found is None:
            raise ContractBroken(f"task {task.key}: {dealt!r} is no deal of {self.rules.name}")
        self.now: State = found
        return self._told()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """One move. The reward is what the acting seat won with it: 0 before the end."""
        seat = self.addressee
        assert seat is not None, "the game is over; reset first"
        self.np_random.random()  # demonstrations along an episode must not all follow one draw
        scores: dict[str, list[Score]] = {}
        move, legal = action.strip(), self.now.legal()
        if move not in legal:
            if self.config.illegal == "forfeit":
                return self._forfeit(seat, legal)
            scores[seat] = [Score.valued("legal", 0.0, self.rules.name, f"no legal move; {legal[0]} was played")]
            move = legal[0]
        self.now = self.now.after(move)
        if self.now.player is not None:
            return self._told(), 0.0, False, False, {"scores": scores}
        won = self.now.returns()
        for player, result in enumerate(won):
            told = scores.setdefault(self._seat(player), [])
            told.insert(0, Score.valued("verifier", result, by=self.rules.name, note=self.now.view(player)))
        return self._over(won), won[self._player(seat)], True, False, {"scores": scores}

    @property
    def addressee(self) -> str | None:
        """Whose move it is."""
        return None if self.now.player is None else self._seat(self.now.player)

    def oracle(self) -> str | None:
        """A legal move drawn uniformly, or by a strategy that cannot be exploited."""
        legal = self.now.legal()
        if not legal:
            return None
        chances = None if self.config.oracle == "uniform" else self._strategy(self.now)
        drawn = self.np_random.random()
        if chances is None:
            return legal[int(drawn * len(legal))]
        return next((move for at, move in enumerate(legal) if drawn < fsum(chances[: at + 1])), legal[-1])

    def state(self) -> object:
        """The state of the game."""
        return self.now

    def set_state(self, state: Any) -> None:
        """Back to that state."""
        self.now = state

    # the known value ------------------------------------------------------------------------------------------

    def positions(self) -> Sequence[Position]:
        """Every information set, with ``first`` as the seat that begins."""
        return [
            Position(_label(one), SEATS[one.player], self._text(one.state, one.player), one.state.legal())
            for one in self._decisions
        ]

    def measure(self, probabilities: Mapping[str, Sequence[float]]) -> Mapping[str, float]:
        """``exploitability`` of the probabilities brought to 1 over legal moves, ``illegal`` what was missing to 1."""
        found: dict[tuple[int, str], list[float]] = {}
        missing: list[float] = []
        for one in self._decisions:
            mass = probabilities[_label(one)]
            total = fsum(mass)
            missing.append(max(0.0, 1.0 - total))
            found[one.player, one.view] = [p / total if total else 1 / len(mass) for p in mass]

        def policy(state: State) -> Sequence[float]:
            assert state.player is not None
            return found[state.player, state.view(state.player)]

        illegal = fsum(missing) / len(missing)
        return {"exploitability": exploitability(self.rules, policy), "illegal": illegal}

    # texts ----------------------------------------------------------------------------------------------------

    def _told(self) -> str:
        assert self.now.player is not None
        return self._text(self.now, self.now.player)

    def _text(self, state: State, player: int) -> str:
        legal = state.legal()
        if self.config.style == "brief":
            return f"{state.view(player)}:{''.join(legal)}"
        return f"{self.rules.summary}\n{state.tell(player)}\nMoves: {', '.join(legal)}"

    def _over(self, won: Sequence[float]) -> str:
        return "over: " + ", ".join(f"{self._seat(player)} {result:+g}" for player, result in enumerate(won))

    def _forfeit(self, seat: str, legal: Sequence[str]) -> tuple[str, float, bool, bool, dict[str, Any]]:
        loser, most = self._player(seat), self.rules.most
        won = (-most, most) if loser == 0 else (most, -most)
        note = f"{seat} forfeits: the legal moves were {', '.join(legal)}"
        by = self.rules.name
        scores = {self._seat(player): [Score.valued("verifier", won[player], by, note)] for player in (0, 1)}
        scores[seat].append(Score.valued("legal", 0.0, by, note))
        self.now = Forfeited(won)
        return self._over(won), -most, True, False, {"scores": scores}

    # who and what ---------------------------------------------------------------------------------------------

    def _seat(self, player: int) -> str:
        assert self.task is not None, "reset first"
        return SEATS[player if self.task.payload["begins"] == SEATS[0] else 1 - player]

    def _player(self, seat: str) -> int:
        return 0 if self._seat(0) == seat else 1

    @cached_property
    def _deals(self) -> Sequence[Deal]:
        return self.rules.deals()

    @cached_property
    def _decisions(self) -> list[Decision]:
        return decisions(self.rules)

    @property
    def _strategy(self) -> Strategy:
        return solve(self.rules)


class Forfeited:
    """The state after an illegal move: over."""

    player = None

    def __init__(self, won: tuple[float, float]) -> None:
        self.won = won

    def legal(self) -> tuple[str, ...]:
        """No more moves."""
        return ()

    def after(self, move: str) -> State:
        """Nothing comes after it."""
        raise ContractBroken(f"the game was forfeited; {move!r} cannot be played")

    def returns(self) -> tuple[float, float]:
        """The greatest loss for who forfeited."""
        return self.won

    def view(self, player: int) -> str:
        """Nothing to see."""
        return ""

    def tell(self, player: int) -> str:
        """Nothing to tell."""
        return ""


def _label(one: Decision) -> str:
    return f"{SEATS[one.player]} {one.view}"
