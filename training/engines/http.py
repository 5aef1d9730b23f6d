"""How remote engines speak HTTP: one client that waits out passing faults and tells apart those a person must mend.

What is said over it belongs to the engines.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httpx
import numpy as np

from sparring.scenarios.errors import EngineError
from sparring.scenarios.seeds import derive

from .wire import told

T = TypeVar("T")
U = TypeVar("U")
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})  # another try may fare better
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 15.0
CONNECT_S = 10.0
SHOWN = 300  # characters of what a server said


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered: any status but those that are waited out and those that refuse the key."""

    status: int
    body: Any
    text: str = ""

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return 200 <= self.status < 300

    @property
    def said(self) -> str:
        """The error's text, cut short."""
        return (told(self.body) or self.text)[:SHOWN]


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer for as long as patience lasted. ``why`` is the last fault."""

    why: str


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    body: Mapping[str, Any] | None
    query: Mapping[str, str]
    passing: frozenset[int] = PASSING


@dataclass(frozen=True, slots=True)
class _Fault:
    why: str
    wait_s: float = 0.0  # what the server asks for
    unreachable: bool = False


@dataclass(eq=False)
class Client:
    """Speaks JSON with the server at ``url`` on behalf of an engine, which errors call ``name``.

    A call is tried again after a fault that may pass (unreachable, time-out, 429, 5xx), at most ``retries`` times and
    for ``patience_s`` after its first fault; a call to a server that nobody has reached for that long gets one try.
    One try takes ``timeout_s`` at most. Waits double from 0.25 s to 15 s and are spread by the client's own generator.
    The key is read once from the environment variable ``api_key_env``. Raises ``EngineError`` when it is not set.
    """

    url: str
    name: str
    api_key_env: str | None = None
    timeout_s: float = 600.0
    patience_s: float = 120.0
    retries: int = 16
    _key: str = field(default="", init=False, repr=False)
    _open: dict[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, int]] = field(
        default_factory=dict, init=False, repr=False
    )
    _down_since: float | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.url = _checked(self.url, self.name)
        self._key = self._read_key()
        self._rng = np.random.Generator(np.random.Philox(derive(self.url, self.name, "backoff")))
        self._ssl = ssl.create_default_context()

    async def get(self, path: str, **query: str) -> Reply | Lost:
        """GET ``path``. Raises ``EngineError`` when the key is refused."""
        return await self._ask(_Call("GET", path, None, query))

    async def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, retried: bool = True, **query: str
    ) -> Reply | Lost:
        """POST ``body``. With ``retried`` false a 500 is an answer: the same would only fail again.

        Raises ``EngineError`` when the key is refused.
        """
        return await self._ask(_Call("POST", path, body or {}, query, PASSING if retried else PASSING - {500}))

    def hurried(self, patience_s: float) -> Client:
        """The same for calls that shall not wait long."""
        return replace(self, patience_s=patience_s)

    def hide(self, text: str) -> str:
        """``text`` without the key, in case a server repeats it."""
        return text.replace(self._key, "***") if self._key else text

    async def _ask(self, call: _Call) -> Reply | Lost:
        since: float | None = None
        fault = _Fault("")
        async with self._client() as client:
            for attempt in range(self.retries + 1):
                found = await self._try(client, call)
                if isinstance(found, Reply):
                    self._down_since = None
                    return found
                fault = found
                now, wait_s = time.monotonic(), max(fault.wait_s, self._wait_s(attempt))
                since = now if since is None else since
                if fault.unreachable and self._down_since is None:
                    self._down_since = now
                known = since if self._down_since is None else min(since, self._down_since)
                if attempt == self.retries or now + wait_s - known > self.patience_s:
                    break
                await asyncio.sleep(wait_s)
        return Lost(f"{self.name} at {self.url}: {fault.why}; tried {attempt + 1} times")

    async def _try(self, client: httpx.AsyncClient, call: _Call) -> Reply | _Fault:
        try:
            response = await client.request(call.method, self.url + call.path, json=call.body, params=dict(call.query))
        except httpx.TimeoutException:
            return _Fault(f"no answer to {call.path} in {self.timeout_s:g} s", unreachable=True)
        except httpx.DecodingError as error:  # it has answered, and would so again
            return Reply(200, None, f"(cannot be read: {self.hide(str(error))})")
        except httpx.RequestError as error:
            return _Fault(f"cannot be reached ({self.hide(str(error)) or type(error).__name__})", unreachable=True)
        reply = self._read(response)
        if response.status_code in (401, 403):
            raise EngineError(self._refused(call.path, reply))
        if response.status_code in call.passing:
            said = f": {reply.said}" if reply.said else ""
            return _Fault(f"HTTP {response.status_code} to {call.path}{said}", _retry_after(response))
        return reply

    def _read(self, response: httpx.Response) -> Reply:
        try:
            body = response.json()
        except (ValueError, RecursionError):  # not JSON, or JSON nested to break its reader
            body = None
        if not response.is_success:
            return Reply(response.status_code, {"error": self.hide(told(body))}, self.hide(response.text.strip()))
        return Reply(response.status_code, body, response.text[:SHOWN] if body is None else "")

    def _refused(self, path: str, reply: Reply) -> str:
        what = f"{self.name}: {self.url} refuses {path} (HTTP {reply.status}: {reply.said or 'no reason given'})"
        if reply.status == 403:
            return f"{what}; the server's settings or the key do not allow it"
        if self.api_key_env:
            return f"{what}; put a key it accepts into the environment variable {self.api_key_env}"
        return f"{what}; put the key into an environment variable and its name into the engine's api_key_env"

    def _wait_s(self, attempt: int) -> float:
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt)
        return longest * float(self._rng.uniform(0.5, 1.0))

    def _read_key(self) -> str:
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise EngineError(
                f"{self.name}: the environment variable {self.api_key_env} is not set; put the key for "
                f"{self.url} into it: export {self.api_key_env}=..."
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise EngineError(
                f"{self.name}: the environment variable {self.api_key_env} holds characters that no key has "
                "(a space, a line break, a letter outside ASCII); set it to the key alone"
            )
        return key

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        """The running loop's client, shared by the calls under way. The last one closes it: loops come and go."""
        loop = asyncio.get_running_loop()
        client, users = self._open.get(loop) or (self._new(), 0)
        self._open[loop] = client, users + 1
        try:
            yield client
        finally:
            client, users = self._open.pop(loop)
            if users > 1:
                self._open[loop] = client, users - 1
            else:
                await client.aclose()

    def _new(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        here = urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(self.timeout_s, connect=CONNECT_S, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=256),
            verify=self._ssl,
            trust_env=not here,  # a proxy would look for this machine's loopback on its own
        )


class PerLoop(Generic[T]):
    """One of a kind per event loop, made when it is first asked for: locks and the like belong to a single loop."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._found: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    @property
    def here(self) -> T:
        """The running loop's."""
        return self._found.setdefault(asyncio.get_running_loop(), self._make())


async def side_by_side(work: Callable[[U], Coroutine[Any, Any, T]], items: Sequence[U]) -> list[T]:
    """What ``work`` makes of each item, in order. The first error, or being cancelled, ends the others."""
    begun = [asyncio.ensure_future(work(item)) for item in items]
    try:
        return list(await asyncio.gather(*begun))
    finally:
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)


def settled(waiting: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine where nothing can be awaited, whether or not a loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(waiting)
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(asyncio.run, waiting).result()


def _checked(url: str, name: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EngineError(f"{name}: url must be like http://127.0.0.1:8000")
    if parts.username or parts.password or parts.query:
        raise EngineError(
            f"{name}: the url of {parts.hostname} holds a user, a password or a query; put the key into an "
            "environment variable and its name into the engine's api_key_env"
        )
    return url.rstrip("/")


def _retry_after(response: httpx.Response) -> float:
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdecimal() else 0.0
