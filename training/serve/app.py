"""The server: every route, who may ask, and what happens before the first request and after the last."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request as Call
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sparring.storage.store import Store

from .chat import Talk
from .recording import PREFIX, Ended, Opening, Recorder
from .refusals import Refusal, body_of, failure, guarded, read
from .served import Served
from .source import POLL_S, follow
from .tokens import Wire

FREE = ("/health",)  # asked by whoever watches over servers
EPISODIC = ("/v1/chat/completions", "/v1/completions", "/v1/models")  # what an episode's key opens, beside its own end


@dataclass(frozen=True)
class Door:
    """Who may ask. ``key`` is wanted of everybody where it is set; ``loopback``: only this machine is meant to ask."""

    key: str = field(default="", repr=False)
    loopback: bool = True


def build(
    served: Served,
    door: Door = Door(),
    recorder: Recorder | None = None,
    store: Store | None = None,
    tell: Callable[[str], None] = lambda line: None,
    poll_s: float = POLL_S,
) -> Starlette:
    """The application. ``store`` is where a followed run is; ``tell`` is given lines for the person who started it."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await served.begin()
        follower = None
        if served.following and store is not None:
            follower = asyncio.ensure_future(follow(served, store, tell, poll_s))
        try:
            yield
        finally:
            if follower is not None:
                follower.cancel()
                with suppress(asyncio.CancelledError):
                    await follower
            for line in recorder.close() if recorder is not None else ():
                tell(line)

    talk, wire, episodes = Talk(served), Wire(served), Episodes(recorder)
    routes = {
        ("POST", "/v1/chat/completions"): talk.chat,
        ("POST", "/v1/completions"): talk.complete,
        ("GET", "/v1/models"): talk.models,
        ("POST", "/inference/v1/generate"): wire.generate,
        ("POST", "/pause"): wire.pause,
        ("POST", "/resume"): wire.resume,
        ("GET", "/is_paused"): wire.is_paused,
        ("POST", "/collective_rpc"): wire.collective_rpc,
        ("POST", "/update_weight_version"): wire.update_weight_version,
        ("GET", "/weight_info"): wire.weight_info,
        ("POST", "/reset_prefix_cache"): wire.reset_prefix_cache,
        ("POST", "/v1/load_lora_adapter"): wire.load_lora_adapter,
        ("POST", "/v1/unload_lora_adapter"): wire.unload_lora_adapter,
        ("POST", "/tokenize"): wire.tokenize,
        ("POST", "/detokenize"): wire.detokenize,
        ("GET", "/health"): wire.health,
        ("GET", "/version"): wire.version,
        ("POST", "/episodes"): episodes.open,
        ("GET", "/episodes"): episodes.figures,
        ("POST", "/episodes/{key}/end"): episodes.end,
    }
    app = Starlette(
        routes=[Route(path, guarded(route), methods=[method]) for (method, path), route in routes.items()],
        lifespan=lifespan,
        exception_handlers={404: _unknown, 405: _unknown, 500: _broken},
    )
    app.add_middleware(Entrance, door=door, recorder=recorder)
    return app


@dataclass
class Episodes:
    """The routes of recorded episodes."""

    recorder: Recorder | None

    async def open(self, call: Call) -> Response:
        """``POST /episodes``: one opening, or ``{"episodes": [...]}`` with several that are stored together."""
        recorder, body = self._recorder(), await body_of(call)
        several = "episodes" in body
        rows = body["episodes"] if several else [body]
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise Refusal(400, "episodes: a list of objects is needed", "episodes")
        asked = [read(Opening, row) for row in rows]
        made = recorder.open(asked)
        base = f"{call.url.scheme}://{call.url.netloc}/v1"
        answers = []
        for pick in range(len(asked)):
            keys = [episode.key for episode in made if episode.pick == pick]
            answers.append({"key": keys[0], "keys": keys, "base_url": base})
        return JSONResponse({"episodes": answers} if several else answers[0])

    async def end(self, call: Call) -> Response:
        """``POST /episodes/KEY/end``."""
        recorder = self._recorder()
        return JSONResponse(await recorder.end(call.path_params["key"], read(Ended, await body_of(call))))

    async def figures(self, call: Call) -> Response:
        """``GET /episodes``: how many are open and stored, and where."""
        return JSONResponse(self._recorder().figures())

    def _recorder(self) -> Recorder:
        if self.recorder is None:
            raise Refusal(409, "this server does not record; start it with: sparring serve ... --record")
        return self.recorder


class Entrance:
    """Turns away who has the wrong key, and pages of other sites in a browser on this machine."""

    def __init__(self, app: ASGIApp, door: Door, recorder: Recorder | None) -> None:
        self.app, self.door, self.recorder = app, door, recorder
        self._key = _hash(door.key) if door.key else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        call = Call(scope)
        refusal = self._foreign(call) or self._unlocked(call, scope)
        await (self.app if refusal is None else refusal)(scope, receive, send)

    def _foreign(self, call: Call) -> Response | None:
        """A web page may send requests here without anybody's wish; its origin or the name it used give it away."""
        origin = urlsplit(call.headers.get("origin") or "").hostname
        host = urlsplit(f"//{call.headers.get('host', '')}").hostname
        if self.door.loopback and not (_local(host) and (origin is None or _local(origin))):
            return failure(403, "only this machine is served; say 127.0.0.1, or start with --host and --api-key-env")
        return None

    def _unlocked(self, call: Call, scope: Scope) -> Response | None:
        """Find out whose key it is. An episode's key opens what an episode is played with, and nothing else."""
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        path = call.url.path
        if path in FREE or path.startswith(f"/episodes/{PREFIX}"):  # who names an episode's key may end it
            return None
        if self.recorder is not None and token.startswith(PREFIX) and path in EPISODIC:
            try:
                scope["episode"] = self.recorder.find(token)
            except Refusal as refusal:
                return refusal.response()
            return None
        if token.startswith(PREFIX) or (self._key and not secrets.compare_digest(_hash(token), self._key)):
            return failure(401, "the API key is not the one this server was started with")
        return None


def _local(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


async def _unknown(call: Call, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return failure(status, f"there is no {call.method} {call.url.path} here; docs/serve.md lists the routes")


async def _broken(call: Call, error: Exception) -> Response:
    return failure(500, f"an error of this server: {type(error).__name__}")
