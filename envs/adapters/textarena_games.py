"""The far end of ``textarena.py``: games by number, each with generators of its own, in a process without a network."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .globals import Globals, need

_PLAYERS = (2, 1, 3, 4, 5, 6, 7, 8)  # tried in this order where a scenario names no number
_COUNTER = itertools.count(1)
_GAMES: dict[int, _Game] = {}


@dataclass
class _Game:
    make: Callable[[], Any]
    players: int
    generators: Globals
    world: Any = None

    def deal(self, seed: int) -> None:
        """A new world for every deal: several keep cards or boards of the last one through their own reset."""
        self.generators.seed(seed)
        with self.generators.lend():
            self.world = self.make()
            self.world.reset(num_players=self.players, seed=seed)


def prepare() -> None:
    """Import the library."""
    need("textarena", "textarena")


def names() -> list[str]:
    """Every game's id, without the variants that only wrap it otherwise."""
    registry = need("textarena.envs.registration", "textarena").ENV_REGISTRY
    return sorted(name for name in registry if not name.endswith(("-raw", "-train")))


def open_game(name: str, players: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """A new game: its number, and for how many players it is. Raises what the library raises."""
    library = need("textarena", "textarena")
    problem: Exception | None = None
    for count in (players,) if players is not None else _PLAYERS:
        try:
            game = _Game(lambda: _bare(library.make(name, **options), library), count, Globals(name))
            game.deal(0)
        except AssertionError as error:  # how the library says that the number does not fit
            problem = problem or error
            continue
        number = next(_COUNTER)
        _GAMES[number] = game
        return {"game": number, "players": count}
    raise problem or ValueError(f"{name} takes no number of players up to {_PLAYERS[-1]}")


def forget(number: int) -> None:
    """Forget the game."""
    _GAMES.pop(number, None)


def start(number: int, seed: int) -> dict[str, Any]:
    """Deal anew; what the player who begins reads."""
    game = _GAMES[number]
    game.deal(seed)
    with game.generators.lend():
        return _told(game)


def play(number: int, action: str) -> dict[str, Any]:
    """One action of the player whose turn it is. ``done`` with ``rewards`` by player, or what the next one reads."""
    game = _GAMES[number]
    if not re.search(r"[\[\]]", action):
        action = f"[{action.strip()}]"  # as the library's own wrapper does for players that leave brackets out
    with game.generators.lend():
        done, _ = game.world.step(action=action)
        return _ended(game) if done else _told(game)


def _bare(world: Any, library: Any) -> Any:
    """The game without wrappers: they repeat all that was said before, which a conversation holds already."""
    while isinstance(world, library.Wrapper):
        world = world.env
    return world


def _told(game: _Game) -> dict[str, Any]:
    seat, messages = game.world.get_observation()
    roles = game.world.state.role_mapping or {}
    boards = [place for place, (_, _, kind) in enumerate(messages) if "GAME_BOARD" in str(kind)]
    lines = [
        f"[{'GAME' if sender == -1 else roles.get(sender, f'Player {sender}')}] {message}"
        for place, (sender, message, _) in enumerate(messages)
        if sender != seat
        and place not in boards[:-1]  # its own words stand in its conversation; old boards say nothing
    ]
    return {"seat": seat, "said": "\n".join(lines), "done": False}


def _ended(game: _Game) -> dict[str, Any]:
    rewards, told = game.world.close()
    found = {str(seat): float(reward) for seat, reward in (rewards or {}).items()}
    if len(found) < game.players or not all(map(math.isfinite, found.values())):
        raise ValueError(f"the game ended with the rewards {rewards} for {game.players} players")
    reason = next((str(one["reason"]) for one in told.values() if isinstance(one, dict) and one.get("reason")), "")
    return {"seat": None, "said": reason, "done": True, "rewards": found}
