"""The application: routes for every registered page and its twin, templates, errors as pages."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import func, select
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sparring.scenarios.errors import RunNotFound, SparringError
from sparring.storage.store import Store
from sparring.storage.tables import Runs, Steps

from . import charts, pages, shown
from .guard import LOOPBACK_NAMES, Guard
from .registry import PAGES, Asked, Link, NotThere, Page, address, crumbs, plain

for _module in pkgutil.iter_modules(pages.__path__):  # each registers its pages
    importlib.import_module(f"{pages.__name__}.{_module.name}")

HERE = Path(__file__).parent
WATCHED = 50  # newest runs whose status a page that renews itself asks for
UNCHANGED, NOT_FOUND, BROKEN, UNREADABLE = 304, 404, 500, 503


class Opened:
    """The store behind the pages: opened when first asked for, and anew when another file lies there."""

    def __init__(self, database: str | Path) -> None:
        """``database``: a store URL or a path."""
        self.database = database
        self._store: Store | None = None
        self._file: tuple[int, int] | None = None
        self._alone = threading.Lock()

    def get(self) -> Store:
        """The store. Raises ``StoreError`` where there is none."""
        with self._alone:
            if self._store is not None and self._identity(self._store.path) != self._file:
                self.close()
            if self._store is None:
                self._store = Store(self.database, create=False)
                self._file = self._identity(self._store.path)
            return self._store

    @staticmethod
    def _identity(path: Path | None) -> tuple[int, int] | None:
        if path is None or not path.exists():
            return None
        found = path.stat()
        return found.st_dev, found.st_ino

    def close(self) -> None:
        """Give the connections back."""
        if self._store is not None:
            self._store.close()
            self._store = None


def environment() -> Environment:
    """Templates with every text escaped, and an error for a name that the model lacks."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= shown.FILTERS
    made.globals |= {
        "sparkline": charts.sparkline,
        "lines": charts.lines,
        "bars": charts.bars,
        "told": charts.told,
        "drawn": charts.drawn,
        "link": link,
        "known": known,
    }
    return made


def link(path: str, **query: object) -> str:
    """An address with the parts of ``query`` that are given."""
    rest = urlencode({name: str(value) for name, value in query.items() if value not in (None, "")})
    return f"{path}?{rest}" if rest else path


def known(path: str) -> bool:
    """Whether there is a page of this shape, whatever the words in its braces are called."""
    return re.sub(r"\{\w+\}", "{}", path) in {re.sub(r"\{\w+\}", "{}", one) for one in PAGES}


def state(store: Store) -> str:
    """Changes whenever a run writes a step, begins, ends or dies. A page of a running run asks for it before all else,
    so that one that is left open costs that run next to nothing."""
    with store.read() as session:
        runs = session.execute(select(Runs.id, Runs.status).order_by(Runs.id.desc()).limit(WATCHED)).all()
        written = [row.id for row in runs if row.status == "running"]
        last = select(Steps.run_id, func.max(Steps.number)).where(Steps.run_id.in_(written)).group_by(Steps.run_id)
        newest = sorted(tuple(row) for row in session.execute(last))
    told = [(row.id, row.status, row.status == "running" and store.is_held(f"r{row.id}")) for row in runs]
    return f'"{sha256(repr((newest, told)).encode()).hexdigest()[:24]}"'


class Site:
    """Answers for every page."""

    def __init__(self, opened: Opened, meanings: Mapping[str, str]) -> None:
        """``opened``: where they read; ``meanings``: what health figures say, by name."""
        self.opened = opened
        self.templates = environment()
        self.templates.globals["meanings"] = dict(meanings)

    def html(self, one: Page) -> Callable[[Request], Response]:
        """The endpoint of a page."""

        def answer(request: Request) -> Response:
            words = dict(request.path_params)
            asked = Asked(words, dict(request.query_params))
            store = self.opened.get()
            tag = state(store)
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=UNCHANGED)
            model = plain(one.read(store, asked))
            facts = {
                "title": one.title.format_map(words),
                "path": request.url.path,
                "twin": link(address(one, words) + ".json", **asked.query),
                "crumbs": crumbs(one, words),
                "live": bool(model.get("live")),
                "tag": tag,
                "query": asked.query,
            }
            return self._render(one.template, model | {"page": facts})

        return self._guarded(answer)

    def twin(self, one: Page) -> Callable[[Request], Response]:
        """The endpoint of a page's model as JSON."""

        def answer(request: Request) -> Response:
            asked = Asked(dict(request.path_params), dict(request.query_params))
            return _json(plain(one.read(self.opened.get(), asked)))

        return self._guarded(answer)

    def _guarded(self, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """The border: an error becomes a page; one that nobody meant is printed with where it arose."""

        def whole(request: Request) -> Response:
            try:
                return answer(request)
            except Exception as error:
                if not isinstance(error, SparringError):
                    traceback.print_exception(error)
                return self.failed(request, error)

        return whole

    def _render(self, template: str, model: dict[str, Any], status: int = 200) -> Response:
        text = self.templates.get_template(template).render(model)
        return Response(text.encode("utf-8", "replace"), status, media_type="text/html")  # lone surrogates as ?

    def failed(self, request: Request, error: Exception) -> Response:
        """An error as a page, or as JSON where a twin was asked for."""
        status, title, message = _told(error)
        there = list(error.there) if isinstance(error, NotThere) else []
        if request.url.path.endswith(".json"):
            return _json({"error": message, "status": status, "there": plain(there)}, status)
        facts: dict[str, Any] = {
            "title": title,
            "path": request.url.path,
            "twin": None,
            "crumbs": [Link("Runs", "/runs")],
            "live": False,
            "tag": "",
            "query": {},
        }
        return self._render("error.html", {"page": facts, "message": message, "there": plain(there)}, status)


def _told(error: Exception) -> tuple[int, str, str]:
    """Status, title and words for an error."""
    if isinstance(error, RunNotFound):
        return NOT_FOUND, "Not found", str(error)
    if isinstance(error, SparringError):
        return UNREADABLE, "The database cannot be read", str(error)
    if isinstance(error, HTTPException):
        return error.status_code, "Not found", "there is no page at this address"
    return BROKEN, "This page failed", f"{type(error).__name__}; the terminal that runs 'sparring ui' shows where"


def _json(value: Any, status: int = 200) -> Response:
    text = json.dumps(value, allow_nan=False, indent=1)
    return Response(text.encode(), status, media_type="application/json")


def routes(site: Site) -> list[Route | Mount]:
    """A route for every page and one for its twin, which comes first: ``r1.json`` would be a run's name too."""
    twins = [Route(one.path + ".json", site.twin(one)) for one in PAGES.values()]
    plainly = [Route(one.path, site.html(one)) for one in PAGES.values()]
    static = Mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    return [static, *twins, Route("/", site.html(PAGES["/runs"])), *plainly]


@asynccontextmanager
async def read_ahead(made: Starlette) -> AsyncIterator[None]:
    """Read the steps of the newest runs while nobody waits yet; the first page then comes as fast as the second."""
    opened: Opened = made.state.opened

    def read() -> None:
        with suppress(SparringError):  # every page tells it to its reader
            PAGES["/runs"].read(opened.get(), Asked())

    threading.Thread(target=read, name="reading ahead", daemon=True).start()
    yield


def app(
    database: str | Path = "sqlite:///sparring.db",
    token: str | None = None,
    names: Sequence[str] | None = LOOPBACK_NAMES,
    meanings: Mapping[str, str] | None = None,
) -> Starlette:
    """The pages of a database as an ASGI application.

    ``token``: what a reader must show; ``names``: host names answered to, ``None`` for any (only with a token);
    ``meanings``: what each health figure is, by name, for whoever reads its curve.
    """
    if names is None and not token:
        raise ValueError("an address that others reach needs a token")
    opened = Opened(database)
    site = Site(opened, meanings or {})
    made = Starlette(
        routes=routes(site),
        middleware=[Middleware(Guard, token=token, names=names), Middleware(GZipMiddleware, minimum_size=2048)],
        exception_handlers={HTTPException: site.failed},
        lifespan=read_ahead,
    )
    made.state.opened = opened
    return made
