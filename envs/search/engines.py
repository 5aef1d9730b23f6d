"""What answers a search: an index on this machine, or somebody's server over HTTP that may be slow, wrong or gone."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import httpx
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.seeds import derive

from .documents import Document, plain
from .index import Hit, Index, Way
from .words import LONGEST_QUERY

RETRIED = (408, 425, 429, 500, 502, 503, 504)
LONGEST_WAIT = 30.0  # seconds: a server that asks for more patience is taken for down
REMEMBERED = 10_000  # documents kept so that what was found can be opened


class EngineDown(RuntimeError):
    """The engine itself failed: no fault of whoever searched."""


class SearchEngine(Protocol):
    """Finds documents and opens them; shared by threads."""

    def search(self, query: str, k: int) -> list[Hit]:
        """At most ``k`` documents, best first; raises ``EngineDown``."""

    def document(self, name: str) -> Document | None:
        """The document with this id, ``None`` when it is not known."""


class IndexEngine:
    """An index, searched one way."""

    def __init__(self, index: Index, way: Way) -> None:
        """Raises ``ScenarioError`` when ``way`` needs vectors and the index has none."""
        if way != "bm25" and index.vectors is None:
            raise ScenarioError(
                f"backend {way} needs vectors, and the index {index.path} has none; build it with:"
                f" sparring index build {index.manifest.source} --dense MODEL"
            )
        self.index = index
        self.way: Way = way

    def search(self, query: str, k: int) -> list[Hit]:
        """As the index does."""
        return self.index.search(query, k, self.way)

    def document(self, name: str) -> Document | None:
        """As the index does."""
        return self.index.document(name)


class HttpOptions(BaseModel):
    """A search server that answers with JSON: a list of ``{id, title, text}``, bare or under ``results``.

    ``url``: asked by GET with ``query_name`` and ``k_name`` added. ``key_env``: variable that holds a bearer token.
    ``timeout_s``: for one try, the whole answer included. ``retries``: after a first try that failed for want of the
    server (no connection, time-out, 429, 5xx); the n-th waits ``backoff_s`` x 2^n, from half to all of it.
    ``max_bytes`` of an answer. ``per_second``: searches started. ``cache``: answers kept, by query.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str = Field(pattern=r"^https?://\S+$")
    query_name: str = "q"
    k_name: str = "k"
    key_env: str | None = None
    timeout_s: float = Field(5.0, gt=0, le=600)
    retries: int = Field(2, ge=0, le=10)
    backoff_s: float = Field(0.25, ge=0, le=60)
    max_bytes: int = Field(1 << 20, ge=1024)
    per_second: float = Field(20.0, gt=0)
    cache: int = Field(4096, ge=0)


class HttpEngine:
    """One server, asked by everyone in this process with these options: they share its cache and its rate."""

    def __init__(self, options: HttpOptions, sleep: Callable[[float], None] = time.sleep) -> None:
        """``sleep`` waits so many seconds."""
        self.options = options
        self._sleep = sleep
        self._client = httpx.Client(timeout=options.timeout_s, follow_redirects=False)
        self._rng = np.random.Generator(np.random.Philox(derive("search engine", options.url)))
        self._lock = threading.Lock()
        self._next = 0.0  # when the next search may start
        self._answers: OrderedDict[tuple[str, int], list[Hit]] = OrderedDict()
        self._documents: OrderedDict[str, Document] = OrderedDict()

    def search(self, query: str, k: int) -> list[Hit]:
        """Ask the server, or remember what it said; raises ``EngineDown`` that says what it did."""
        asked = (query[:LONGEST_QUERY], k)
        with self._lock:
            if asked in self._answers:
                self._answers.move_to_end(asked)
                return self._answers[asked]
        hits = _read(self._fetch(*asked), k)
        with self._lock:
            _keep(self._answers, asked, hits, self.options.cache)
            for hit in hits:
                _keep(self._documents, hit.id, Document(hit.id, hit.title, hit.passage), REMEMBERED)
        return hits

    def document(self, name: str) -> Document | None:
        """A document that a search found before."""
        with self._lock:
            return self._documents.get(name)

    def _fetch(self, query: str, k: int) -> bytes:
        said = ""
        for turn in range(self.options.retries + 1):
            self._await_turn()
            try:
                return self._try(query, k)
            except _Again as again:
                said = str(again)
                wait = again.after if again.after is not None else self._backoff(turn)
            if wait > LONGEST_WAIT:
                raise EngineDown(f"{said}, and wants {wait:.0f} s of patience")
            if turn < self.options.retries:
                self._sleep(wait)
        raise EngineDown(f"{said} ({self.options.retries + 1} tries)")

    def _backoff(self, turn: int) -> float:
        with self._lock:  # one generator, many threads
            share = float(self._rng.uniform(0.5, 1.0))
        return min(LONGEST_WAIT, self.options.backoff_s * share * 2.0**turn)

    def _await_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + 1.0 / self.options.per_second
        if start > now:
            self._sleep(start - now)

    def _try(self, query: str, k: int) -> bytes:
        parameters = {self.options.query_name: query, self.options.k_name: str(k)}
        try:
            # an address may have parameters of its own; these are added to them
            url = httpx.URL(self.options.url).copy_merge_params(parameters)
            with self._client.stream("GET", url, headers=self._headers()) as answer:
                if answer.status_code in RETRIED:
                    raise _Again(f"the server answered {answer.status_code}", _after(answer.headers))
                if answer.status_code != 200:
                    raise EngineDown(f"the server answered {answer.status_code}")
                return self._body(answer)
        except httpx.TimeoutException:
            raise _Again(f"no answer within {self.options.timeout_s:g} s") from None
        except httpx.TransportError as error:
            raise _Again(f"no connection ({type(error).__name__})") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise EngineDown(f"the request failed ({type(error).__name__})") from None

    def _headers(self) -> dict[str, str]:
        name = self.options.key_env
        key = os.environ.get(name, "") if name else ""
        return {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def _body(self, answer: httpx.Response) -> bytes:
        ends = time.monotonic() + self.options.timeout_s
        body = bytearray()
        for piece in answer.iter_bytes():
            body += piece
            if len(body) > self.options.max_bytes:
                raise EngineDown(f"the answer is longer than {self.options.max_bytes} bytes")
            if time.monotonic() > ends:  # a byte a second never times out by itself
                raise _Again(f"no whole answer within {self.options.timeout_s:g} s")
        return bytes(body)


class _Again(RuntimeError):
    """A try that failed and may be repeated, ``after`` so many seconds if the server said so."""

    def __init__(self, said: str, after: float | None = None) -> None:
        super().__init__(said)
        self.after = after


def _after(headers: httpx.Headers) -> float | None:
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:  # absent, or a date
        return None
    return max(0.0, seconds) if seconds == seconds else None


def _keep(held: OrderedDict[Any, Any], key: object, value: object, most: int) -> None:
    held[key] = value
    held.move_to_end(key)
    while len(held) > most:
        held.popitem(last=False)


def _read(body: bytes, k: int) -> list[Hit]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        start = body[:40].decode("utf-8", "replace")
        raise EngineDown(f"the answer is not JSON; it begins {start!r}") from None
    rows = found.get("results") if isinstance(found, Mapping) else found
    if not isinstance(rows, list):
        raise EngineDown("the answer is neither a list nor {results: [...]}")
    return [_hit(row, place) for place, row in enumerate(rows[:k])]


def _hit(row: object, place: int) -> Hit:
    if not isinstance(row, Mapping) or not isinstance(row.get("text"), str):
        raise EngineDown("a result has no text")
    title = str(row.get("title") or "")
    name = str(row.get("id") or row.get("url") or title or place)
    return Hit(plain(name), plain(title), plain(row["text"]), 0, 1.0 / (place + 1))


@lru_cache(maxsize=16)
def http_engine(options: HttpOptions) -> HttpEngine:
    """The one engine of this process with these options."""
    return HttpEngine(options)
