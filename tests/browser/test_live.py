"""A page follows a run that is being written, without loading anew, and rests when the run is over."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect
from tests.browser.conftest import Opened, served

from sparring.storage.samples import sample_step
from sparring.storage.store import Store

PATIENCE_MS = 60_000


def test_a_page_follows_a_run_and_stops_with_it(tmp_path: Path, visit: Callable[..., Opened]) -> None:
    file = tmp_path / "sparring.db"
    with Store(file) as store:
        store.start_run("live", {"name": "live", "training": {"steps": 9}}, "digest", 0)
        store.save_step("r1", sample_step(0, episodes=2))
        with served(file) as home:
            page = visit().go(f"{home}/runs/r1/steps")
            page.evaluate("window.mark = 1")
            store.save_step("r1", sample_step(1, episodes=2))
            expect(page.locator('main a[href="/runs/r1/steps/1"]').first).to_be_visible(timeout=PATIENCE_MS)
            expect(page.locator("#pulse")).to_have_text("live")
            store.finish_run("r1", "done")
            expect(page.locator("#pulse")).to_have_text("", timeout=PATIENCE_MS)
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.wait_for_timeout(6_000)
            assert asked == [] and page.evaluate("window.mark") == 1


def test_what_a_reader_opened_stays_open_while_the_page_renews_itself(
    tmp_path: Path, visit: Callable[..., Opened]
) -> None:
    file = tmp_path / "sparring.db"
    with Store(file) as store:
        store.start_run("live", {"name": "live", "training": {"steps": 9}}, "digest", 0)
        store.save_step("r1", sample_step(0, episodes=2))
        with served(file) as home:
            page = visit().go(f"{home}/runs/r1")
            page.locator("main details > summary").first.click()
            with page.expect_response(re.compile(r"/runs/r1$"), timeout=PATIENCE_MS):
                store.save_step("r1", sample_step(1, episodes=2))
            page.wait_for_timeout(500)
            assert page.locator("main details").first.get_attribute("open") is not None
        store.finish_run("r1", "done")
