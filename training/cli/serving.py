"""``serve``: a policy behind HTTP, for trainers, chat clients and role graphs written elsewhere."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from sparring.scenarios.errors import ScenarioError

from .options import Db, Overrides, reading
from .running import hush

if TYPE_CHECKING:
    from sparring.storage.store import Store
    from sparring.training.serve.recording import Recorder
    from sparring.training.serve.served import Served

LOOPBACK = "127.0.0.1"


def serve(
    what: Annotated[
        str, typer.Argument(help="A run (r1, latest), a scenario file or name, builtin:tiny or a model folder.")
    ],
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = LOOPBACK,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    step: Annotated[int | None, typer.Option("--step", help="Of a run: the checkpoint of this step.")] = None,
    follow: Annotated[
        bool | None,
        typer.Option("--follow/--no-follow", help="Of a run: take up newer checkpoints; yes, unless --step is given."),
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Record episodes that clients play.")] = False,
    key_variable: Annotated[
        str | None,
        typer.Option("--api-key-env", metavar="NAME", help="The environment variable that holds the key to ask for."),
    ] = None,
    overrides: Overrides = None,
    db: Db = None,
) -> None:
    """Serve a policy: the token wire of a vLLM server and OpenAI's routes, on this machine alone by default."""
    from sparring.training.serve.listen import bind, is_loopback, need_extra, run, url_of

    need_extra()
    key = _key(key_variable)
    if not is_loopback(host) and not key:
        raise ScenarioError(
            f"--host {host} lets other machines in: give a key too, with --api-key-env NAME, where NAME is an "
            "environment variable that holds it"
        )
    hush()
    with ExitStack() as held:
        bound = held.enter_context(bind(host, port))
        served, store = _served(what, step, follow, record, overrides or [], db, held)
        from sparring.training.serve.app import Door, build
        from sparring.training.serve.recording import Recorder

        recorder = Recorder(served, store, shlex.join(["sparring", *sys.argv[1:]])) if record and store else None
        if recorder is not None:  # a second Ctrl-C does not let the server end in its own way
            held.callback(_end, recorder)
        app = build(served, Door(key, is_loopback(host)), recorder, store, typer.echo)
        for line in _banner(served, url_of(bound), record, bool(key)):
            typer.echo(line)
        run(app, bound)
        typer.echo("stopped")


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("serve")(serve)


def _end(recorder: Recorder) -> None:
    for line in recorder.close():
        typer.echo(line)


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "")
    if not key:
        raise ScenarioError(f"--api-key-env {variable}: this environment variable is not set, so there is no key")
    return key


def _served(
    what: str,
    step: int | None,
    follow: bool | None,
    record: bool,
    overrides: list[str],
    db: str | None,
    held: ExitStack,
) -> tuple[Served, Store | None]:
    """What is served, and the database that is needed for it: a run's, or the one that is recorded into."""
    from sparring.storage.store import Store
    from sparring.training.serve import source

    store: Store | None = None
    if source.is_run(what):
        store = held.enter_context(reading(db))
        served = source.of_run(store, what, step, overrides, follow if follow is not None else step is None)
    elif step is not None or follow:
        raise ScenarioError(f"{what!r} is no run, so it has no steps to choose from or to follow; runs look like r1")
    elif source.is_scenario(what):
        served = source.of_scenario(what, overrides)
    else:
        served = source.of_model(what, overrides)
    held.callback(served.close)
    if record:
        store = store or held.enter_context(Store(db or served.scenario.store.url))
        served.seed = source.seed_for(store, served)
    return served, store


def _banner(served: Served, url: str, record: bool, locked: bool) -> list[str]:
    """Where it is and how to try it, one line each."""
    key = "$KEY" if locked else "any"
    ask = '{"messages": [{"role": "user", "content": "Hello"}]}'
    lines = [
        f"serving {served.about} at {url}/v1 as model policy (Ctrl-C ends it)",
        f"  try it    curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}' -d '{ask}'",
    ]
    if note := getattr(served.engine, "note", ""):
        lines.append(f"  engine    {note}")
    if served.following:
        lines.append(f"  follows   run {served.following}: newer checkpoints are taken up as they come")
    if record:
        lines.append(
            f"  records   curl -X POST {url}/episodes gives the key of an episode; docs/serve.md tells the rest"
        )
    return lines
