"""``ui``: the database as pages in a browser, on this machine alone unless it is asked for elsewhere."""

from __future__ import annotations

import secrets
import webbrowser
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Annotated

import typer

from sparring.scenarios.errors import MissingExtra

from .options import DATABASE, Db, reading
from .running import hush

LOOPBACK = "127.0.0.1"
PORT = 8020


def ui(
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; elsewhere than loopback a token is needed.")
    ] = LOOPBACK,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = PORT,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="SPARRING_UI_TOKEN",
            metavar="TEXT",
            help="What a reader must show; made up where --host lets other machines in.",
        ),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    db: Db = None,
) -> None:
    """Show runs, curves, steps and episodes in a browser: read-only, live while a run writes."""
    need_extra()
    from sparring.storage.inspector.app import app
    from sparring.storage.inspector.guard import LOOPBACK_NAMES
    from sparring.training.health.meanings import MEANINGS
    from sparring.training.serve.listen import bind, is_loopback, run

    with reading(db) as store:  # a database that cannot be read is told here, not on every page
        shown = store.name
    near = is_loopback(host)
    token = token or (None if near else secrets.token_urlsafe(24))
    names = (*LOOPBACK_NAMES, f"[{host}]" if ":" in host else host.lower()) if near else None
    hush()
    with bind(host, port) as bound:
        address = _address(host, bound.getsockname()[1])
        typer.echo(f"pages of {shown} at {address}{'/?token=' + token if token else '/'} (Ctrl-C ends it)")
        if not near:
            typer.echo("  other machines reach it with this token; it reads the database and changes nothing")
        if open_it:
            webbrowser.open(address + (f"/?token={token}" if token else "/"))
        made = app(db or DATABASE, token, names, {name: one.says for name, one in MEANINGS.items()})
        run(made, bound)
        made.state.opened.close()
        typer.echo("stopped")


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("ui")(ui)


def need_extra() -> None:
    """Raises ``MissingExtra`` where a package of the pages is absent."""
    absent = [name for name in ("starlette", "uvicorn", "pygal") if find_spec(name) is None]
    if absent:
        raise MissingExtra(f"sparring ui needs {' and '.join(absent)}: pip install 'sparring[ui]'")


def _address(host: str, port: int) -> str:
    """Where a browser on this machine finds it."""
    try:
        shown = LOOPBACK if ip_address(host).is_unspecified else host
    except ValueError:
        shown = host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
