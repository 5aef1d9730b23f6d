"""Signals ask for a stop at the next whole step, and so does an output that nobody reads any more.

The first signal asks, the second stops at once. A run under ``nohup`` outlives its terminal.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self, TextIO

from sparring.scenarios.errors import StorageFull

ASKED = "stopping after this step, so that nothing is lost; once more stops at once"
HANGUP: int = getattr(signal, "SIGHUP", 0)  # a terminal that closes; 0 where there is none
BROKEN_PIPE: int = getattr(signal, "SIGPIPE", 13)
FULL = {errno.ENOSPC: StorageFull.exit_code, errno.EDQUOT: StorageFull.exit_code}
SIGNALS: tuple[int, ...] = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number)


class Stop:
    """While the block runs, signals ask instead of killing. ``signal`` is the number that asked, 0 when none did.

    ``tell`` is called with a line for the person, inside the signal's handler.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self.signal = 0
        self.tell = tell or write
        self._code = 0
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """Whether to stop at the next whole step."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended: 130 after Ctrl-C, 143 SIGTERM, 129 SIGHUP.

        141 where an output has no reader, 75 where it goes to a full disk.
        """
        return self._code or (128 + self.signal if self.signal else 0)

    def unheard(self, error: OSError) -> None:
        """Standard output or error cannot be written any more: ask for a stop. Under ``nohup`` go on without it."""
        if self.signal or _outlives_terminal():
            return
        self.signal = HANGUP if error.errno == errno.EIO else BROKEN_PIPE
        self._code = FULL.get(error.errno or 0, 0)
        self.tell(f"output cannot be written ({error.strerror}): {ASKED}")

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:
            self.signal = number
            self.tell(ASKED)
        elif number != HANGUP:  # a terminal that closes says so twice, by the shell and by the kernel
            self._restore()
            raise KeyboardInterrupt

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def __enter__(self) -> Self:
        """Listen; a SIGHUP that is ignored stays so."""
        mine = [number for number in SIGNALS if number != HANGUP or not _outlives_terminal()]
        self._before = {number: signal.signal(number, self._heard) for number in mine}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Listen no more."""
        self._restore()


def _outlives_terminal() -> bool:
    """Whether this process was told, as ``nohup`` does, that its terminal may close."""
    return HANGUP > 0 and signal.getsignal(HANGUP) is signal.SIG_IGN


def write(line: str) -> None:
    """A line to standard error, safe in a signal's handler."""
    with contextlib.suppress(OSError):  # a closed terminal is often why the signal came
        os.write(2, f"\n{line}\n".encode())  # print is not safe where it may interrupt a print


class Steady:
    """A text stream that outlives its reader: the first write that fails is told to ``gone``, the rest is dropped."""

    def __init__(self, stream: TextIO, gone: Callable[[OSError], None]) -> None:
        self._stream, self._gone = stream, gone

    def write(self, text: str) -> int:
        """Write ``text``, if there is anyone to read it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Send what is buffered on its way."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # what is buffered goes there too, so that the exit code stays ours
        os.close(nowhere)
        self._gone(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def steady(gone: Callable[[OSError], None]) -> Iterator[None]:
    """While the block runs, writes to standard output and error never fail; ``gone`` hears the first that would."""
    before = sys.stdout, sys.stderr
    mine: Any = Steady(before[0], gone), Steady(before[1], gone)
    sys.stdout, sys.stderr = mine
    try:
        yield
        for stream in mine:
            stream.flush()
    finally:
        sys.stdout, sys.stderr = before
