"""Ctrl-C and SIGTERM: the first asks for a stop at the next whole step, the second stops at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

ASKED = "stopping after this step, so that nothing is lost; once more stops at once"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """While the block runs, signals ask instead of killing. ``signal`` is the number that asked, 0 when none did."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        """``tell`` is called with a line for the person, inside the signal's handler."""
        self.signal = 0
        self._tell = tell or write
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """Whether to stop at the next whole step."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signal if self.signal else 0

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            self._restore()
            raise KeyboardInterrupt
        self.signal = number
        self._tell(ASKED)

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def __enter__(self) -> Self:
        """Listen."""
        self._before = {number: signal.signal(number, self._heard) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Listen no more."""
        self._restore()


def write(line: str) -> None:
    """A line to standard error, safe in a signal's handler."""
    os.write(2, f"\n{line}\n".encode())  # print is not safe where it may interrupt a print
