"""Every game of TextArena, with a seat for each player, played in a process apart (``apart.py``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sparring.envs.types import Score, Task
from sparring.scenarios.errors import MissingExtra, ScenarioError
from sparring.scenarios.registry import environments, nearest

from .apart import ForeignError
from .remote import Remote

_BY = "textarena"
_WORDS = "it needs word lists; python -m nltk.downloader words averaged_perceptron_tagger_eng universal_tagset"


class TextArenaOptions(BaseModel):
    """``game``: the library's id, such as ``TicTacToe-v0``. ``players``: how many play; left out, 2, or the number the
    game takes. ``options``: arguments of the game. ``max_steps``: actions of all players together until a game is cut,
    which earns everybody 0. ``timeout_s``: seconds for one action; past that the game is ended and the score invalid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    game: str = Field(min_length=1)
    players: int | None = Field(None, ge=1, le=20)
    options: Mapping[str, Any] = {}
    max_steps: int = Field(200, ge=1)
    timeout_s: float = Field(20.0, gt=0)


@environments("textarena")
class TextArenaEnvironment(Remote):
    """A game of TextArena. Seats are ``player_0``, ``player_1``, ...; a game for one player has none.

    A seat hears what the library tells that player since its last turn. Moves the library calls invalid are answered
    and counted as it does. At the end each seat's score ``verifier`` is its reward: mostly 1, 0 or -1.
    """

    far = "sparring.envs.adapters.textarena_games"
    Config = TextArenaOptions
    examples = ({"game": "TicTacToe-v0"}, {"game": "TowerOfHanoi-v0", "max_steps": 20})

    def __init__(self, config: BaseModel | Mapping[str, Any] | None = None) -> None:
        """Raises ``ScenarioError`` for a game there is none of, and for one that cannot be set up as asked."""
        if importlib.util.find_spec("textarena") is None:
            raise MissingExtra("environment 'textarena': pip install 'sparring[textarena]'")
        self._seat: int | None = None
        self._players: int | None = None
        super().__init__(config)
        if self._players != 1:
            self.seats = tuple(f"player_{seat}" for seat in range(self._players or 0))  # type: ignore[misc]  # the game's
            self.unaudited = "what an action earns depends on the other players"  # type: ignore[misc]  # as above

    @property
    def addressee(self) -> str | None:
        """Whose turn it is; ``None`` in a game for one, and when it is over."""
        return None if self._seat is None or not self.seats else f"player_{self._seat}"

    def named(self, seed: int, parameters: Mapping[str, Any]) -> Task:
        """The deal of ``seed``."""
        payload = {"game": self.config.game, "players": self._players, "seed": seed}
        return Task(_BY, payload, {}, dict(parameters), (self.config.game,), "generator")

    def start(self, task: Task) -> str:
        """What the player who begins reads."""
        told = self.restart()
        self._seat = told["seat"]
        return str(told["said"])

    def play(self, action: str) -> tuple[str, Any, bool, bool]:
        """One action of the player whose turn it is."""
        try:
            told = self.exchange(action)
        except ForeignError as error:
            self._seat = None
            note = f"the game {error.how}: {error}"[:500]
            return "The game failed.", self._all(Score.invalid("verifier", _BY, note)), True, False
        self._seat = told["seat"]
        if told["done"]:
            return self._over(told["rewards"], str(told["said"]))
        if len(self._taken) + 1 >= self.config.max_steps:
            self._seat = None
            note = f"cut after {self.config.max_steps} actions"
            return note, self._all(Score.valued("verifier", 0.0, _BY, note)), True, True
        return str(told["said"]), [], False, False

    def open(self) -> int:
        """Set the game up and find out how many play."""
        arguments = self.config.game, self._players or self.config.players, dict(self.config.options)
        try:
            made = self.process.call("open_game", *arguments, timeout_s=60.0)
        except ForeignError as error:
            known = self.process.call("names")
            if self.config.game in known:
                why = _WORDS if "nltk" in str(error) else str(error)[:400]
                raise ScenarioError(f"environment textarena: {self.config.game} cannot be set up: {why}") from None
            hint = nearest(self.config.game, known)
            meant = f"; did you mean {hint!r}?" if hint else ""
            raise ScenarioError(f"environment textarena: no game {self.config.game!r}{meant}") from None
        self._players = int(made["players"])
        return int(made["game"])

    def begun(self) -> tuple[Any, ...]:
        """The seed."""
        assert self.task is not None, "reset first"
        return (int(self.task.payload["seed"]),)

    def _over(self, rewards: Mapping[str, float], reason: str) -> tuple[str, Any, bool, bool]:
        if not self.seats:
            score = Score.valued("verifier", rewards["0"], _BY, reason)
            return f"over: {rewards['0']:+g}. {reason}", [score], True, False
        scores = {f"player_{seat}": [Score.valued("verifier", reward, _BY, reason)] for seat, reward in rewards.items()}
        said = ", ".join(f"player_{seat} {reward:+g}" for seat, reward in rewards.items())
        return f"over: {said}. {reason}", scores, True, False

    def _all(self, score: Score) -> Any:
        """``score`` for everybody."""
        return {seat: [score] for seat in self.seats} if self.seats else [score]
