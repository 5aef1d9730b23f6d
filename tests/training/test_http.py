"""The HTTP client waits out what passes, tells apart what does not, and never shows its key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.training.fake_openai import FakeOpenAI
from tests.training.fake_openai import Reply as Raw

from sparring.scenarios.errors import EngineError
from sparring.training.engines import http
from sparring.training.engines.http import Client, Lost, PerLoop, Reply, settled

KEY = "sk-very-secret-0123"
CHAT = "/chat/completions"
BODY = {"model": "m", "messages": []}


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """A server that answers."""
    with FakeOpenAI() as found:
        yield found


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of milliseconds."""
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.001)


def post(client: Client, body: Any = BODY, path: str = CHAT, **more: Any) -> Reply | Lost:
    return asyncio.run(client.post(path, body, **more))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_fault_that_passes_is_waited_out(server: FakeOpenAI, status: int) -> None:
    server.faults.extend(Raw.error(status, "not now") for _ in range(3))
    found = post(Client(server.url, "chat"))
    assert isinstance(found, Reply) and found.ok
    assert server.chats == 4


def test_a_dropped_line_is_tried_again(server: FakeOpenAI) -> None:
    server.faults.append(Raw.json({"half": "an answer"}, 200))
    server.faults[0] = Raw(200, b'{"half": "an answer"}', cut=True)
    found = post(Client(server.url, "chat"))
    assert isinstance(found, Reply) and found.ok and server.chats == 2


def test_a_server_that_stays_broken_is_lost_after_the_last_try(server: FakeOpenAI) -> None:
    server.faults.extend(Raw.error(503, "loading") for _ in range(9))
    found = post(Client(server.url, "chat", retries=2))
    assert isinstance(found, Lost) and "503" in found.why and "loading" in found.why and server.chats == 3


def test_a_500_is_an_answer_where_another_try_would_be_no_better(server: FakeOpenAI) -> None:
    server.faults.append(Raw.error(500, "bad folder"))
    found = post(Client(server.url, "chat"), retried=False)
    assert isinstance(found, Reply) and (found.status, found.said) == (500, "bad folder")


def test_patience_ends_before_the_tries_do(server: FakeOpenAI) -> None:
    server.faults.extend(Raw.error(503, "loading") for _ in range(9))
    assert isinstance(post(Client(server.url, "chat", patience_s=0.0)), Lost)
    assert server.chats == 1


def test_a_wait_the_server_asks_for_beyond_all_patience_is_not_begun(server: FakeOpenAI) -> None:
    server.faults.append(Raw.error(429, "slowly", retry_after="3600"))
    began = time.monotonic()
    assert isinstance(post(Client(server.url, "chat", patience_s=60.0)), Lost)
    assert time.monotonic() - began < 30


def test_nobody_listens() -> None:
    with FakeOpenAI() as server:
        url = server.url
    found = post(Client(url, "chat", patience_s=0.05))
    assert isinstance(found, Lost) and "cannot be reached" in found.why


def test_one_call_s_patience_with_an_absent_server_is_every_call_s() -> None:
    with FakeOpenAI() as server:
        client = Client(server.url, "chat", patience_s=0.05)
    post(client)
    time.sleep(0.06)
    found = post(client)
    assert isinstance(found, Lost) and "tried 1 times" in found.why


def test_a_server_that_comes_back_is_found_again(server: FakeOpenAI) -> None:
    client = Client(server.url, "chat", patience_s=0.01)
    server.die()
    assert isinstance(post(client), Lost)
    server.revive()
    assert isinstance(post(client), Reply)
    assert client._down_since is None


@pytest.mark.parametrize("status", [400, 404, 422])
def test_what_another_try_would_not_mend_is_handed_to_the_engine(server: FakeOpenAI, status: int) -> None:
    server.faults.append(Raw.error(status, "no"))
    found = post(Client(server.url, "chat"))
    assert isinstance(found, Reply) and (found.status, found.said, found.ok) == (status, "no", False)
    assert server.chats == 1


def test_a_wrong_key_is_told_by_the_variable_s_name_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with FakeOpenAI(key="another") as server, pytest.raises(EngineError) as told:
        post(Client(server.url, "chat", "TEST_KEY"))
    assert "TEST_KEY" in str(told.value) and "401" in str(told.value) and KEY not in str(told.value)


def test_a_key_that_is_asked_for_and_not_named(server: FakeOpenAI) -> None:
    server.key = "something"
    with pytest.raises(EngineError, match="api_key_env"):
        post(Client(server.url, "chat"))


def test_a_forbidden_route_is_not_called_a_wrong_key(server: FakeOpenAI) -> None:
    server.faults.append(Raw.error(403, "start me with --enable-scale-out"))
    with pytest.raises(EngineError, match=r"--enable-scale-out.*settings"):
        post(Client(server.url, "chat"))


def test_the_key_goes_with_every_call_and_into_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", f" {KEY}\n")
    with FakeOpenAI(key=KEY) as server:
        client = Client(server.url, "chat", "TEST_KEY", retries=0)
        assert isinstance(post(client), Reply)
        server.faults += [Raw.error(500, f"{KEY} broke"), Raw.error(400, f"{KEY} is bad"), Raw(418, KEY.encode())]
        texts = [repr(post(client)) for _ in range(3)]
    assert not any(KEY in text for text in (*texts, repr(client)))
    assert "*** broke" in texts[0] and "*** is bad" in texts[1]


@pytest.mark.parametrize("value", ["", "  ", None])
def test_a_missing_key_is_told_by_the_variable_s_name(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(EngineError, match="TEST_KEY is not set"):
        Client("http://127.0.0.1:9", "chat", "TEST_KEY")


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "sk-é"])
def test_a_key_no_header_can_carry_is_not_shown_either(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(EngineError, match="TEST_KEY holds characters") as told:
        Client("http://127.0.0.1:9", "chat", "TEST_KEY")
    assert value not in str(told.value)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host/x", "http://", "http://me:sk-1@host/v1", "http://h?k=sk-1"]
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(EngineError) as told:
        Client(url, "chat")
    assert "sk-1" not in str(told.value)


def test_calls_of_one_loop_share_a_client_that_ends_with_the_last(server: FakeOpenAI) -> None:
    client = Client(server.url, "chat")

    async def both() -> None:
        await asyncio.gather(client.post(CHAT, BODY), client.post(CHAT, BODY))
        assert not client._open

    asyncio.run(both())
    asyncio.run(both())  # another loop


def test_settled_works_with_and_without_a_running_loop() -> None:
    async def seven() -> int:
        return 7

    async def inside() -> int:
        return settled(seven())

    assert settled(seven()) == asyncio.run(inside()) == 7


def test_what_belongs_to_a_loop_is_made_once_for_each() -> None:
    room = PerLoop(lambda: asyncio.Semaphore(1))

    async def twice() -> bool:
        return room.here is room.here

    assert asyncio.run(twice()) and asyncio.run(twice())
