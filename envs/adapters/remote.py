"""An environment whose episodes live in a process apart: what is lost with that process is played again."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from .apart import Apart, ForeignError, apart
from .history import Replayed


class Remote(Replayed):
    """``far`` is the module of the far end; there ``start(number, ...)`` and ``play(number, action)`` are functions.

    A subclass gives ``open``, which makes the far side of this instance and returns its number, and ``begun``, the
    arguments of ``start``. Options have ``timeout_s``, seconds for one call.
    """

    far = ""
    locked = True
    """Whether the process gives up writing, sockets and programs before it serves."""

    def __init__(self, config: BaseModel | Mapping[str, Any] | None = None) -> None:
        """``config`` is this class's ``Config``, or a mapping it validates. The far side is made at once."""
        super().__init__(config)
        self.process: Apart = apart(self.far, self.locked)
        self._number: tuple[int, int] | None = None
        self._made()

    @property
    def stamp(self) -> str:
        """What rows say about this world: how its process is locked in."""
        return f"apart={self.process.lock_in}"

    def open(self) -> int:
        """Make the far side; raises ``ScenarioError`` when that cannot be done as asked."""
        raise NotImplementedError

    def begun(self) -> tuple[Any, ...]:
        """What ``start`` gets for the task in force."""
        raise NotImplementedError

    def restart(self) -> Any:
        """Begin the task in force over; what the far ``start`` gives."""
        return self.process.call("start", self._made(), *self.begun(), timeout_s=self.config.timeout_s)

    def exchange(self, action: str) -> Any:
        """What the far ``play`` gives for ``action``, after playing again what was lost; raises ``ForeignError``."""
        if self._number is None or self._number[1] != self.process.life:
            self.restart()
            for taken in self._taken:
                self._play(taken)
        return self._play(action)

    def close(self) -> None:
        """Forget the far side."""
        number, self._number = self._number, None
        if number is not None and number[1] == self.process.life:
            with contextlib.suppress(ForeignError):  # then it is gone anyhow
                self.process.call("forget", number[0])

    def _play(self, action: str) -> Any:
        return self.process.call("play", self._made(), action, timeout_s=self.config.timeout_s)

    def _made(self) -> int:
        if self._number is None or self._number[1] != self.process.life:
            number = self.open()
            self._number = (number, self.process.life)
        return self._number[0]
