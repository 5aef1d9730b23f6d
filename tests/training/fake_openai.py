"""A stand-in for any OpenAI-compatible server: HTTP/1.1 on loopback, answers by a function, faults on demand.

``with FakeOpenAI(answer) as server:`` listens at ``server.url``; ``server.asked`` are the bodies of what it was asked.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One raw answer. ``hangs``: it comes only when the server is closed; ``cut``: half of it, then the line drops."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    cut: bool = False

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> Reply:
        """``value`` as JSON."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})

    @classmethod
    def error(cls, status: int, message: str, code: str | None = None, **headers: str) -> Reply:
        """An error as OpenAI lays it out."""
        return cls.json(
            {"error": {"message": message, "type": "error", "param": None, "code": code}}, status, **headers
        )


def completion(text: Any, finish: Any = "stop", usage: tuple[int, int] | None = (10, 5), **choice: Any) -> Body:
    """The body of a chat completion that says ``text``."""
    message = {"role": "assistant", "content": text}
    found: Body = {"id": "c", "object": "chat.completion", "model": "m"}
    found["choices"] = [{"index": 0, "message": message, "finish_reason": finish, **choice}]
    if usage is not None:
        found["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return found


Answer = Callable[[Body], "str | Body | Reply"]


class FakeOpenAI:
    """The server. ``faults`` are given out before any answer, one per chat request; ``key`` is the only one it takes.

    ``die()`` drops every connection and stops listening, ``revive()`` listens again at the same address.
    """

    def __init__(self, answer: Answer | str = "hello", models: Sequence[str] | None = ("m",), key: str = "") -> None:
        self.answer: Answer | str = answer
        self.models, self.key = models, key
        self.faults: deque[Reply] = deque()
        self.asked: list[Body] = []
        self.keys: list[str] = []  # of every request, as the Authorization header gives it
        self.most_at_once = 0
        self.chats = 0  # requests for a completion, failed ones included
        self.port = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._busy = 0
        self._closing = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> FakeOpenAI:
        self.revive()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    @property
    def url(self) -> str:
        """The base that clients are given."""
        return f"http://127.0.0.1:{self.port}/v1"

    def revive(self) -> None:
        """Listen, at the address of before if there was one."""
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def die(self) -> None:
        """Stop at once: whoever is connected finds the line dropped."""
        if self._server is None:
            return
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        with self._lock:
            lines, self._open = set(self._open), set()
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _chat(self, body: Body) -> Reply:
        with self._lock:
            self.chats += 1
            self._busy += 1
            self.most_at_once = max(self.most_at_once, self._busy)
            fault = self.faults.popleft() if self.faults else None
            self.asked += [] if fault else [body]
        try:
            found = fault or (self.answer if isinstance(self.answer, str) else self.answer(body))
        finally:
            with self._lock:
                self._busy -= 1
        if isinstance(found, Reply):
            return found
        return Reply.json(completion(found) if isinstance(found, str) else found)

    def _reply(self, method: str, path: str, authorization: str, body: Body) -> Reply:
        self.keys.append(authorization)
        if self.key and authorization != f"Bearer {self.key}":
            return Reply.error(401, f"Incorrect API key provided: {authorization.removeprefix('Bearer ')}")
        if (method, path) == ("GET", "/v1/models") and self.models is not None:
            return Reply.json({"object": "list", "data": [{"id": name} for name in self.models]})
        if (method, path) != ("POST", "/v1/chat/completions"):
            return Reply(404, b"<html><body>no such page</body></html>", {"Content-Type": "text/html"})
        if self.models and body.get("model") not in self.models:
            return Reply.error(404, f"The model {body.get('model')!r} does not exist", "model_not_found")
        return self._chat(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A line that drops in mid-answer is what some tests are about."""


def _handler(fake: FakeOpenAI) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            with fake._lock:
                fake._open.add(self.connection)

        def finish(self) -> None:
            with fake._lock:
                fake._open.discard(self.connection)
            super().finish()

        def do_GET(self) -> None:
            self._answer("GET", {})

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer("POST", json.loads(sent))

        def _answer(self, method: str, body: Body) -> None:
            reply = fake._reply(method, self.path, self.headers.get("Authorization") or "", body)
            if reply.hangs:
                fake._closing.wait()
            self.send_response(reply.status)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
            if reply.cut:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing: the test says what went wrong."""

    return Handler
