"""A search server that is down, slow, busy, or answers nonsense: a tool's words for the model, an invalid score."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sparring.envs.search.dense import embedder
from sparring.envs.search.engines import EngineDown, HttpEngine, HttpOptions
from sparring.envs.search.env import SearchEnvironment
from sparring.envs.types import Task, Validity
from sparring.scenarios.errors import EngineError

FOUND = {"results": [{"id": "a", "title": "A", "text": "the answer is 42"}, {"url": "b", "text": "nothing"}]}


class Server:
    """Answers with ``say(handler, turn)``; ``asked`` are the queries it got."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.say: Callable[[Any, int], None] = lambda handler, turn: reply(handler, json.dumps(FOUND).encode())
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(parse_qs(urlsplit(self.path).query))
                with suppress(BrokenPipeError, ConnectionResetError):  # the asker may hang up, as it should
                    server.say(self, len(server.asked))

            def log_message(self, *words: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/find"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


def reply(handler: Any, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def engine(server: Server, waits: list[float] | None = None, **options: Any) -> HttpEngine:
    kept = {"timeout_s": 0.5, "retries": 2, "per_second": 1e6, **options}
    return HttpEngine(HttpOptions(url=server.url, **kept), (waits if waits is not None else []).append)


def test_results_are_read_remembered_and_can_be_opened(server: Server) -> None:
    asked = engine(server)
    assert [hit.id for hit in asked.search("what & why", 2)] == ["a", "b"]
    assert [hit.id for hit in asked.search("what & why", 2)] == ["a", "b"]
    assert server.asked == [{"q": ["what & why"], "k": ["2"]}]
    document = asked.document("a")
    assert document is not None and document.text == "the answer is 42"
    assert asked.document("z") is None


def test_a_busy_server_is_asked_again_after_growing_waits_with_jitter(server: Server) -> None:
    def busy(handler: Any, turn: int) -> None:
        reply(handler, b"", 429) if turn < 3 else reply(handler, json.dumps(FOUND).encode())

    server.say = busy
    waits: list[float] = []
    assert len(engine(server, waits, backoff_s=1.0).search("x", 5)) == 2
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0
    server.asked.clear()
    again: list[float] = []
    engine(server, again, backoff_s=1.0).search("x", 5)
    assert again == waits


def test_the_wait_a_server_asks_for_is_kept_unless_it_is_too_long(server: Server) -> None:
    server.say = lambda handler, turn: reply(handler, b"", 503, Retry_After="3" if turn < 2 else "3600")
    waits: list[float] = []
    with pytest.raises(EngineDown, match="503, and wants 3600 s"):
        engine(server, waits).search("x", 1)
    assert waits == [3.0]


def drip(handler: Any, turn: int) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def flood(handler: Any, turn: int) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b"x" * (1 << 20))


@pytest.mark.parametrize(
    ("say", "said", "tries"),
    [
        (lambda handler, turn: reply(handler, b"<html><body>hello"), "not JSON; it begins '<html>", 1),
        (lambda handler, turn: reply(handler, b'{"results": 3}'), "neither a list", 1),
        (lambda handler, turn: reply(handler, b'[{"title": "no text"}]'), "has no text", 1),
        (lambda handler, turn: reply(handler, b"[" * 50_000), "not JSON", 1),
        (lambda handler, turn: reply(handler, b"", 404), "answered 404", 1),
        (lambda handler, turn: reply(handler, b"", 302, Location="http://127.0.0.1:1/"), "answered 302", 1),
        (lambda handler, turn: reply(handler, b"", 500), "answered 500 .3 tries", 3),
        (lambda handler, turn: time.sleep(0.7), "no answer within 0.5 s", 3),
        (drip, "no whole answer within 0.5 s", 3),
        (flood, "longer than 1048576 bytes", 1),
    ],
)  # fmt: skip
def test_every_way_of_failing_is_told_in_words(server: Server, say: Any, said: str, tries: int) -> None:
    server.say = say
    with pytest.raises(EngineDown, match=said):
        engine(server).search("x", 3)
    assert len(server.asked) == tries


def test_a_server_that_is_not_there_is_no_connection() -> None:
    options = HttpOptions.model_validate({"url": "http://127.0.0.1:9/", "retries": 1, "timeout_s": 0.5})
    with pytest.raises(EngineDown, match="no connection"):
        HttpEngine(options, lambda seconds: None).search("x", 1)


def test_searches_start_no_faster_than_the_rate(server: Server) -> None:
    waits: list[float] = []
    asked = engine(server, waits, per_second=2.0)
    for number in range(3):
        asked.search(str(number), 1)
    assert len(waits) == 2 and 0 < waits[0] <= 0.5 < waits[1] <= 1.0


def world(server: Server) -> SearchEnvironment:
    environment = SearchEnvironment({"backend": "http", "http": {"url": server.url, "retries": 0, "timeout_s": 0.5}})
    task = environment.task_from_row({"question": "what?", "answer": "42"}, "qa.jsonl, line 1")
    environment.reset(seed=0, options={"task": task})
    return environment


def test_an_engine_that_failed_makes_the_score_invalid_whatever_is_answered(server: Server) -> None:
    server.say = lambda handler, turn: reply(handler, b"<html>")
    for answer in ("<answer>42</answer>", "<answer>0</answer>", "I give up"):
        environment = world(server)
        said, _, over, _, _ = environment.step("<search>the answer</search>")
        assert said.startswith("search failed: EngineDown: the answer is not JSON") and not over
        scores = environment.step(answer)[4]["scores"]
        assert [score.validity for score in scores if score.name == "verifier"] == [Validity.INVALID]


def test_an_engine_that_works_leads_to_the_answer(server: Server) -> None:
    environment = world(server)
    assert environment.step("<search>the answer</search>")[0].startswith("a: the answer is 42")
    assert environment.step("<open>a</open>")[0] == "A\nthe answer is 42"
    assert environment.step("<answer>42</answer>")[1] == 1.0


def test_masked_questions_need_an_index_and_say_so(server: Server) -> None:
    environment = SearchEnvironment({"backend": "http", "http": {"url": server.url}})
    with pytest.raises(ValueError, match="name a file of questions"):
        environment.reset(seed=0)
    assert isinstance(world(server).task, Task)


def test_an_embeddings_server_gives_rows_in_the_order_of_the_texts() -> None:
    with embeddings(
        lambda texts: [{"index": at, "embedding": [len(text), 1]} for at, text in enumerate(texts)][::-1]
    ) as url:
        found = embedder(f"{url}#small").embed(["a", "bbb"])
    assert found.tolist() == [[1, 1], [3, 1]]


@pytest.mark.parametrize("rows", [None, [{"index": 0}], "text"])
def test_an_embeddings_server_that_gives_none_is_named(rows: Any) -> None:
    with embeddings(lambda texts: rows) as url, pytest.raises(EngineError, match="model 'small'"):
        embedder(f"{url}#small").embed(["a"])


def test_an_embeddings_server_needs_a_model() -> None:
    with pytest.raises(EngineError, match="#MODEL"):
        embedder("http://127.0.0.1:9/v1")


@contextmanager
def embeddings(rows: Callable[[list[str]], Any]) -> Iterator[str]:
    """A server that answers ``POST /v1/embeddings`` with ``rows(texts)`` as its data."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert asked["model"] == "small" and self.path == "/v1/embeddings"
            reply(self, json.dumps({"data": rows(asked["input"])}).encode())

        def log_message(self, *words: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/v1"
    http.shutdown()
    http.server_close()
