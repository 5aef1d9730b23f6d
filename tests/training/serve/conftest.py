"""A small policy behind a server on a free port of this machine, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("starlette", reason="serving needs the extra `serve`")
from sparring.storage.store import Store
from sparring.training.serve.app import Door, build
from sparring.training.serve.listen import background
from sparring.training.serve.recording import Recorder
from sparring.training.serve.served import Served
from sparring.training.serve.source import of_model

ANYBODY = Door()


class Behind:
    """A server that runs: where it is, what it serves, what it records, what it told the person who started it."""

    def __init__(self, url: str, served: Served, recorder: Recorder | None, told: list[str]) -> None:
        self.url, self.served, self.recorder, self.told = url, served, recorder, told
        self.http = httpx.Client(base_url=url, timeout=60)
        self.clients: list[Any] = [self.http]

    def openai(self, key: str = "any", **more: Any) -> Any:
        """The official client."""
        from openai import OpenAI

        self.clients.append(OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **more))
        return self.clients[-1]

    def post(self, path: str, body: Any = None, **query: str) -> Any:
        """The answer of a route, which must be a good one."""
        reply = self.http.post(path, json=body, params=query)
        assert reply.status_code == 200, reply.text
        return reply.json() if reply.headers["content-type"] == "application/json" else reply.text

    def refused(self, path: str, body: Any, status: int) -> str:
        """What a route says no with."""
        reply = self.http.post(path, json=body)
        assert reply.status_code == status, reply.text
        message: str = reply.json()["error"]["message"]
        return message


@pytest.fixture
def serve() -> Iterator[Callable[..., Behind]]:
    """``serve(served, door=, store=, record=)``: a server for the length of the test."""
    with ExitStack() as held:

        def started(
            served: Served, door: Door = ANYBODY, store: Store | None = None, record: bool = False, **more: Any
        ) -> Behind:
            recorder = Recorder(served, store) if record and store is not None else None
            told: list[str] = []
            held.callback(served.close)
            url = held.enter_context(background(build(served, door, recorder, store, told.append, **more)))
            behind = Behind(url, served, recorder, told)
            held.callback(lambda: [client.close() for client in behind.clients])
            return behind

        yield started


@pytest.fixture
def alone(folder: Path) -> Served:
    """The small model by itself."""
    return of_model(str(folder), ["policy.dtype=float32"])


@pytest.fixture
def server(alone: Served, serve: Callable[..., Behind]) -> Behind:
    """The small model, served."""
    return serve(alone)


@pytest.fixture
def recording(alone: Served, serve: Callable[..., Behind], tmp_path: Path) -> Iterator[Behind]:
    """The same with ``--record``, into a database of its own."""
    with Store(tmp_path / "sparring.db") as store:
        yield serve(alone, store=store, record=True)
