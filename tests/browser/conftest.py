"""A real ``sparring ui`` over the database of a real run, and a headless Chromium that reads it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

import sparring.storage.inspector.app  # noqa: F401 - registers every page
from sparring.storage.inspector.registry import PAGES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

if find_spec("playwright") is None:
    collect_ignore_glob = ["test_*.py"]  # they need the extra `browser`, which only make test-browser installs

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
WORD = re.compile(r"\{\w+\}")
SETTINGS = ("training.steps=2", "rollout.episodes=8", "evaluation.every=1", "evaluation.tasks=4")
Site = Mapping[str, str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder drives the browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass
class Opened:
    """A page, and what went wrong on it: console errors, and requests for another machine."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def go(self, address: str) -> Page:
        """Load an address and wait until nothing is being loaded."""
        self.page.goto(address, wait_until="networkidle")
        return self.page


@contextmanager
def served(database: Path) -> Iterator[str]:
    """The address of ``sparring ui`` over a database file."""
    words = [sys.executable, "-m", "sparring", "ui", "--port", "0", "--db", str(database)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=database.parent) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pages of a short run of the built-in scenario: teacher, solver, critic, rubric writer, sandbox.

    SPARRING_BROWSER_DB names a database to look at instead.
    """
    folder = tmp_path_factory.mktemp("played")
    database = Path(os.environ.get("SPARRING_BROWSER_DB", folder / "sparring.db"))
    if database.exists():
        with served(database) as found:
            yield found
        return
    words = ["run", "code-output", "--db", str(database), *(word for one in SETTINGS for word in ("-s", one))]
    subprocess.run([sys.executable, "-m", "sparring", *words], cwd=folder, check=True, capture_output=True, timeout=280)
    with served(database) as found:
        yield found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser, with a profile of its own."""
    if not Path(CHROMIUM).exists():
        pytest.fail(f"no Chromium at {CHROMIUM}: run tools/browser_env.sh, or set CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Opened]]:
    """``visit(width=380, color_scheme="dark", java_script_enabled=False)``: a reader's fresh page."""
    contexts: list[BrowserContext] = []

    def start(width: int = 1280, **options: Any) -> Opened:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda said: _console(opened, said.type, said.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
        opened.page.on("request", lambda request: _local(opened, request.url))
        return opened

    yield start
    for context in contexts:
        context.close()


def _console(opened: Opened, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        opened.complaints.append(f"console {kind}: {text}")


def _local(opened: Opened, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("data", "blob", "about") and parts.hostname != "127.0.0.1":
        opened.complaints.append(f"asks {url}")


@pytest.fixture(scope="session")
def site(address: str) -> Site:
    """An address of every registered page, found by following links."""
    return addresses(address)


def addresses(home: str) -> dict[str, str]:
    """By registered path: the first address of that page that links lead to."""
    patterns = {path: re.compile("[^/]+".join(map(re.escape, WORD.split(path))) + r"\Z") for path in PAGES}
    found: dict[str, str] = {}
    tried: Counter[str] = Counter()
    waiting = ["/runs", "/search?q=a"]
    while waiting:
        at = waiting.pop(0)
        of = next((path for path, known in patterns.items() if known.match(at.partition("?")[0])), None)
        if of is None or tried[of] >= 3 or at in found.values():
            continue
        tried[of] += 1
        with urlopen(home + at) as answer:
            text = answer.read().decode()
        found.setdefault(of, home + at)
        waiting += [unescape(one) for one in re.findall(r'href="(/[^"#]*)', text)]
    return found
