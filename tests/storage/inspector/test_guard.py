"""Who may read the pages, and what every answer carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sparring.storage.inspector.app import app

TOKEN = "a-token-of-this-test"


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "evil.example:8020", "", "localhost@evil"])
def test_a_foreign_name_that_points_here_is_refused(reader: TestClient, name: str) -> None:
    answer = reader.get("/", headers={"host": name})
    assert answer.status_code == 403 and "sample" not in answer.text


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.1:8020", "localhost:1", "[::1]:8020", "LOCALHOST"])
def test_the_names_of_this_machine_are_answered(reader: TestClient, name: str) -> None:
    assert reader.get("/", headers={"host": name}).status_code == 200


def test_every_answer_forbids_foreign_content_and_being_framed(reader: TestClient) -> None:
    for path in ("/", "/runs.json", "/nothing", "/static/inspector.css", "/runs/r9"):
        headers = reader.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")


def test_without_the_token_nothing_is_told(ask: Any, database: Path) -> None:
    reader = ask(database, token=TOKEN, names=None)
    for path in ("/", "/runs/r1", "/runs.json", "/static/inspector.css", "/?token=wrong", "/?token=", "/?token=%ff"):
        answer = reader.get(path)
        assert answer.status_code == 401 and "sample" not in answer.text, path
    assert reader.get("/", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert reader.get("/", headers={"cookie": "sparring_token=wrong"}).status_code == 401


def test_the_token_becomes_a_cookie_and_leaves_the_address(ask: Any, database: Path) -> None:
    reader = ask(database, token=TOKEN, names=None)
    answer = reader.get(f"/runs/r1?before=3&token={TOKEN}")
    assert answer.status_code == 303 and answer.headers["location"] == "/runs/r1?before=3"
    kept = answer.headers["set-cookie"].lower()
    assert "httponly" in kept and "samesite=strict" in kept
    assert reader.get("/runs/r1").status_code == 200


def test_entering_never_leads_to_another_site(ask: Any, database: Path) -> None:
    reader = ask(database, token=TOKEN, names=None)
    for path in ("//evil.example", "///evil.example/x", "/\\evil.example"):
        answer = reader.get(f"http://127.0.0.1{path}?token={TOKEN}")
        assert answer.headers["location"][0] == "/" and answer.headers["location"][1:2] not in ("/", "\\"), path


def test_a_script_may_send_the_token_as_a_header(ask: Any, database: Path) -> None:
    reader = ask(database, token=TOKEN, names=None)
    assert reader.get("/runs.json", headers={"authorization": f"Bearer {TOKEN}"}).json()["total"] == 1


def test_an_open_address_without_a_token_cannot_be_made(database: Path) -> None:
    with pytest.raises(ValueError, match="needs a token"):
        app(database, token=None, names=None)


def test_files_beside_the_styles_are_not_served(reader: TestClient) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py"):
        assert reader.get(path).status_code in (404, 405), path
