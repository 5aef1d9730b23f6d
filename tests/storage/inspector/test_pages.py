"""Every registered page: reached by links, whole, with a strict twin, and clear about what does not exist."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sparring.storage.inspector.app import app
from sparring.storage.inspector.registry import PAGES
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

WORD = re.compile(r"\{\w+\}")
ALIKE = 3  # addresses of one page with the same words in their query that a walk visits
Answers = dict[str, Any]
HERE = "http://127.0.0.1"


def fill(file: Path) -> Path:
    """A database whose run r1 is over and holds three steps of four episodes."""
    with Store(file) as store:
        store.start_run("sample", {"name": "sample", "training": {"steps": 2}}, "digest", 0)
        for number in range(3):
            store.save_step("r1", sample_step(number, episodes=4))
        store.finish_run("r1", "done")
    return file


def hrefs(html: str) -> list[str]:
    """Where a page leads, within the site."""
    return [unescape(one) for one in re.findall(r'(?:href|src)="(/[^"#]*)', html)]


def pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(map(re.escape, WORD.split(path))) + r"\Z")


def kind(address: str) -> tuple[str, ...]:
    """Which page an address is of, and which words its query has."""
    path, _, query = address.partition("?")
    page = next((one for one in PAGES if pattern(one).match(path)), path)
    return (page, *sorted(part.partition("=")[0] for part in query.split("&")))


def walk(reader: TestClient) -> Answers:
    """Answers by address, following every kind of link from the list of runs."""
    answers: Answers = {}
    seen: Counter[tuple[str, ...]] = Counter()
    waiting = ["/", "/search?q=a", "/search?q=a&where=tasks", "/search?q=a&where=criteria"]
    while waiting:
        address = waiting.pop(0)
        if address in answers or seen[kind(address)] >= ALIKE:
            continue
        seen[kind(address)] += 1
        answers[address] = reader.get(address)
        if is_page(answers[address]):
            waiting += hrefs(answers[address].text)
    return answers


def is_page(answer: Any) -> bool:
    return bool(answer.headers["content-type"].startswith("text/html"))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample that no test of this file changes."""
    return fill(tmp_path_factory.mktemp("pages") / "sparring.db")


@pytest.fixture(scope="module")
def reader(database: Path) -> Iterator[TestClient]:
    """A reader of it."""
    with TestClient(app(database), base_url=HERE) as client:
        yield client
        client.app.state.opened.close()  # type: ignore[attr-defined]  # Starlette's state, behind the client


def content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def before(database: Path) -> str:
    """What it holds before anybody reads it."""
    return content(database)


@pytest.fixture(scope="module")
def answers(before: str, reader: TestClient) -> Answers:
    """What a walk over it meets."""
    return walk(reader)


def test_every_page_is_reached_by_links(answers: Answers) -> None:
    paths = [address.partition("?")[0] for address in answers]
    assert [path for path in PAGES if not any(pattern(path).match(one) for one in paths)] == []


def test_every_link_leads_somewhere(answers: Answers) -> None:
    assert {address: one.status_code for address, one in answers.items() if one.status_code != 200} == {}


def never(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def test_every_page_has_a_twin_that_is_strict_json(answers: Answers, reader: TestClient) -> None:
    twins = 0
    for answer in filter(is_page, answers.values()):
        twin = re.search(r'rel="alternate" type="application/json" href="([^"]*)"', answer.text)
        if twin:
            found = reader.get(unescape(twin[1]))
            assert found.status_code == 200, found.text
            json.loads(found.text, parse_constant=never)
            twins += 1
    assert twins >= len(PAGES)


def test_every_page_has_one_title_landmarks_and_headings_in_order(answers: Answers) -> None:
    for address, answer in answers.items():
        if not is_page(answer):
            continue
        levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", answer.text)]
        assert levels.count(1) == 1, address
        steps = [after - before for before, after in pairwise(levels)]
        assert max(steps, default=0) <= 1, (address, levels)
        assert answer.text.count("<main") == 1 and 'href="#main"' in answer.text, address


@pytest.mark.parametrize("path", [path for path in PAGES if WORD.search(path)])
@pytest.mark.parametrize("word", ["r999", "999", "%00", "x'\"<script>"])
def test_what_does_not_exist_is_a_page_that_says_what_does(reader: TestClient, path: str, word: str) -> None:
    below = path.replace("/runs/{run}/", "/runs/r1/")  # of a run that is there
    for wrong in {WORD.sub(lambda _: word, one) for one in (path, below) if WORD.search(one)}:
        answer, twin = reader.get(wrong), reader.get(wrong + ".json")
        assert (answer.status_code, twin.status_code) == (404, 404), wrong
        assert "<script>" not in answer.text and "Traceback" not in answer.text
        assert twin.json()["error"]


def test_reading_every_page_leaves_the_database_as_it_was(answers: Answers, before: str, database: Path) -> None:
    assert len(answers) > len(PAGES) and content(database) == before


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_no_address_takes_anything_but_a_question(reader: TestClient, method: str) -> None:
    for path in PAGES:
        assert reader.request(method, WORD.sub("r1", path)).status_code == 405


def test_an_empty_database_has_pages_too(ask: Any, tmp_path: Path) -> None:
    Store(tmp_path / "empty.db").close()
    reader = ask(tmp_path / "empty.db")
    assert "No run is stored here yet" in reader.get("/").text
    assert reader.get("/runs.json").json()["runs"] == []
    assert reader.get("/runs/r1").status_code == 404


def test_an_absent_database_is_a_message_and_is_not_made(ask: Any, tmp_path: Path) -> None:
    answer = ask(tmp_path / "none.db").get("/")
    assert answer.status_code == 503 and "no database at" in answer.text
    assert not (tmp_path / "none.db").exists()


def test_a_database_that_appears_later_is_read_then(ask: Any, tmp_path: Path) -> None:
    reader = ask(tmp_path / "later.db")
    assert reader.get("/").status_code == 503
    Store(tmp_path / "later.db").close()
    assert reader.get("/").status_code == 200
