"""The pages over a PostgreSQL server: the same models as over a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sparring.storage.inspector.app import app
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

pytestmark = pytest.mark.postgres
PATHS = (
    "/runs", "/runs/r1", "/runs/r1/steps", "/runs/r1/episodes", "/runs/r1/episodes?order=best", "/runs/r1/figures",
    "/runs/r1/tasks", "/runs/r1/rubrics", "/runs/r1/lineage", "/runs/r1/steps/1", "/runs/r1/steps/1/episodes/0",
    "/search?q=print", "/search?q=a&where=tasks&run=r1", "/search?q=a&where=criteria", "/compare?runs=r1,r1",
)  # fmt: skip
CLOCKS = ("started_at", "finished_at", "last_at", "saved_at", "database", "made_at")  # differ from store to store


def fill(url: str | Path) -> None:
    with Store(url) as store:
        store.start_run("sample", {"name": "sample", "training": {"steps": 2}}, "digest", 0)
        for number in range(3):
            store.save_step("r1", sample_step(number, episodes=4))
        store.finish_run("r1", "done")


def without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_clocks(one) for name, one in value.items() if name not in CLOCKS}
    if isinstance(value, float):
        return round(value, 9)  # databases add up in another order
    return [without_clocks(one) for one in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def both(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    urls = (server.empty(), tmp_path_factory.mktemp("file") / "sparring.db")
    for url in urls:
        fill(url)
    clients = [TestClient(app(url), base_url="http://127.0.0.1") for url in urls]
    yield clients
    for client in clients:
        client.app.state.opened.close()  # type: ignore[attr-defined]  # Starlette's state, behind the client


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_the_same_over_a_server(both: list[TestClient], path: str) -> None:
    served, filed = (client.get(path.replace("?", ".json?") if "?" in path else path + ".json") for client in both)
    assert served.status_code == filed.status_code == 200, served.text
    assert without_clocks(served.json()) == without_clocks(filed.json())
    page = both[0].get(path)
    assert page.status_code == 200 and "geheim" not in page.text


def test_the_command_says_where_it_reads_without_the_password(server: Any, tmp_path: Path) -> None:
    url = server.empty()
    fill(url)
    typed = [sys.executable, "-c", "from sparring.training.cli import main; main()", "ui", "--port", "0", "--db", url]
    with subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        rest, _ = process.communicate(timeout=60)
    assert first.startswith("pages of postgresql") and "geheim" not in first + rest
