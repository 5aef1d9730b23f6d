"""One connection to an MCP server, kept by a thread of its own; calls come from anywhere and never hang.

What a server may do wrong (not start, die, fall silent, talk nonsense) is ``ServerFailed``; after it the next call
starts the server again, as often in a row as allowed.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, TextIO

from .globals import need

_CLOSED, _TIMED_OUT = -32000, -32001  # JSON-RPC codes with which the client reports the connection, not the tool
_PAGES = 100  # of a list of tools; a server that never stops listing is broken
_PARTING_S = 10.0
_SIGN_OF_LIFE_S = 5.0
_TAIL = 300


class ServerFailed(RuntimeError):
    """The server's fault, not the caller's."""


@dataclass(frozen=True)
class Listed:
    """A tool as its server describes it."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Where:
    """A command line or an address, and how long to wait: for the server to be there, for one answer."""

    command: tuple[str, ...]
    url: str | None
    environment: tuple[tuple[str, str], ...] = ()
    start_s: float = 30.0
    timeout_s: float = 20.0
    restarts: int = 2


class Link:
    """The connection. Opened by the first call; calls of several threads go over it at the same time."""

    def __init__(self, where: Where) -> None:
        """Nothing is started yet."""
        self._where = where
        self._failures = 0
        self._live: _Live | None = None
        self._lock = threading.Lock()

    def tools(self) -> list[Listed]:
        """What the server offers; raises ``ServerFailed``."""
        return self._opened().listed

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The text of a result, a tool's own error included; raises ``ServerFailed``."""
        live = self._opened()
        try:
            said = live.call(name, dict(arguments), self._where.timeout_s)
        except ServerFailed:
            if not live.answers():  # else one slow tool would end the server under everybody's calls
                self._drop(live)
            raise
        self._failures = 0
        return said

    def close(self) -> None:
        """End the connection, and the server if it is ours."""
        with self._lock:
            live, self._live = self._live, None
        if live is not None:
            live.close()

    def _drop(self, live: _Live) -> None:
        """A life is over; of all calls that were under way then, one counts it."""
        with self._lock:
            if self._live is not live:
                return
            self._live = None
            self._failures += 1
        live.close()

    def _opened(self) -> _Live:
        with self._lock:
            return self._live if self._live is not None else self._open()

    def _open(self) -> _Live:
        if self._failures > self._where.restarts:
            raise ServerFailed(f"the server failed {self._failures} times in a row; it is not started again")
        live = _Live(self._where)
        try:
            live.open(self._where.start_s)
        except ServerFailed:
            self._failures += 1
            live.close()
            raise
        self._live = live
        return live


@cache
def shared(where: Where) -> Link:
    """The one connection of this Python to ``where``; it ends when Python does."""
    made = Link(where)
    atexit.register(made.close)
    return made


class _Live:
    """One life of a connection: a thread with an event loop, in which the client is entered and left."""

    def __init__(self, where: Where) -> None:
        self.listed: list[Listed] = []
        self._where = where
        self._ready: concurrent.futures.Future[list[Listed]] = concurrent.futures.Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._client: Any = None
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - until close
        self._thread = threading.Thread(target=self._run, name="mcp", daemon=True)

    def open(self, patience_s: float) -> None:
        """Connect and list the tools."""
        self._thread.start()
        try:
            self.listed = self._ready.result(patience_s)
        except concurrent.futures.TimeoutError:
            raise ServerFailed(f"no server within {patience_s:g} s{self._tail()}") from None
        except Exception as error:  # whatever the client raises while connecting means that there is no server
            raise ServerFailed(f"{_innermost(error)}{self._tail()}") from None

    def call(self, name: str, arguments: dict[str, Any], timeout_s: float) -> str:
        """One call, from another thread."""
        try:
            return _text(self._ask(self._client.call_tool(name, arguments), timeout_s))
        except concurrent.futures.TimeoutError:
            raise ServerFailed(f"no answer within {timeout_s:g} s{self._tail()}") from None
        except Exception as error:  # sorted here into the server's failures and answers that say no
            code = getattr(error, "code", None)
            if isinstance(code, int) and code not in (_CLOSED, _TIMED_OUT):
                return f"error: {error}"
            raise ServerFailed(f"{_innermost(error)}{self._tail()}") from None

    def answers(self) -> bool:
        """Whether the server still says something."""
        try:
            self._ask(self._client.list_tools(cache_mode="refresh"), _SIGN_OF_LIFE_S)
        except Exception:  # no answer of any kind
            return False
        return True

    def _ask(self, question: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        assert self._loop is not None, "open first"
        try:
            asked = asyncio.run_coroutine_threadsafe(question, self._loop)
        except RuntimeError:  # the loop has ended
            question.close()
            raise
        try:
            return asked.result(timeout_s)
        finally:
            asked.cancel()

    def close(self) -> None:
        """Leave the client; wait a while for the server to go."""
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
        if self._thread.ident is not None:
            self._thread.join(_PARTING_S)
        self._said.close()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            async with _client(self._where, self._said) as client:
                self._client = client
                self._ready.set_result(await _listed(client))
                await asyncio.Event().wait()  # until close cancels it
        except BaseException as error:  # told to the thread that waits in open; later ones end the connection
            if not self._ready.done():
                self._ready.set_exception(error if isinstance(error, Exception) else RuntimeError("cancelled"))
            if isinstance(error, asyncio.CancelledError):
                raise

    def _tail(self) -> str:
        """The end of what the server said on its error stream."""
        with contextlib.suppress(ValueError, OSError):
            self._said.seek(0)
            said = " ".join(self._said.read().split())[-_TAIL:]
            return f"; the server said: {said}" if said else ""
        return ""


def _client(where: Where, said: TextIO) -> AbstractAsyncContextManager[Any]:
    library = need("mcp", "mcp")
    if where.url is not None:
        client: AbstractAsyncContextManager[Any] = library.Client(where.url, read_timeout_seconds=where.start_s)
        return client
    command = sys.executable if where.command[0] == "python" else where.command[0]
    server = library.StdioServerParameters(
        command=command, args=list(where.command[1:]), env=dict(where.environment), encoding_error_handler="replace"
    )
    client = library.Client(library.stdio_client(server, errlog=said), read_timeout_seconds=where.start_s)
    return client


async def _listed(client: Any) -> list[Listed]:
    found: list[Listed] = []
    cursor = None
    for _ in range(_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            line = (tool.description or tool.name).strip().splitlines()[0]
            found.append(Listed(tool.name, line, dict(tool.input_schema)))
        cursor = page.next_cursor
        if cursor is None:
            return found
    raise RuntimeError(f"the list of tools has no end after {_PAGES} pages")


def _text(result: Any) -> str:
    """The words of a result; what is no text is named."""
    parts = [getattr(block, "text", None) or f"[{getattr(block, 'type', 'content')}]" for block in result.content]
    said = "\n".join(parts)
    return f"error: {said}" if result.is_error else said


def _innermost(error: BaseException) -> str:
    """The first cause inside groups of exceptions, which task groups wrap around everything."""
    causes: Sequence[BaseException] = list(_leaves(error))
    return f"{type(causes[0]).__name__}: {causes[0]}"[:400]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
