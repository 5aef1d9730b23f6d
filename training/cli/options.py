"""Options that several commands share, and how a word on the command line names a run, a step or an episode."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from sparring.scenarios.errors import RunNotFound

if TYPE_CHECKING:
    from sparring.storage.store import Store

DATABASE = "sqlite:///sparring.db"
VARIABLE = "SPARRING_DB"

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar=VARIABLE,
        metavar="FILE",
        help="The database: a file, sparring.db in this folder by default, or postgresql+psycopg://user@host/name.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Overrides = Annotated[
    list[str] | None, typer.Option("-s", "--set", metavar="KEY=VALUE", help="Replace one value; repeatable.")
]


class Place(NamedTuple):
    """A run, one of its steps, or one of the step's episodes."""

    run: str
    step: int | None = None
    episode: int | None = None


def reading(db: str | None) -> Store:
    """The database to read; an absent one is an error, not a new file."""
    from sparring.storage.store import Store

    return Store(db or DATABASE, create=False)


def place(store: Store, word: str) -> Place:
    """What ``r1``, ``r1/12``, ``r1/12/3``, ``latest``, or ``12`` and ``12/3`` of the newest run name.

    Raises ``RunNotFound`` for words of another shape, and for ``latest`` in an empty database.
    """
    found = re.fullmatch(r"(?:(r\d{1,9}|latest)(?:/|$))?(?:(\d{1,9})(?:/(\d{1,9}))?)?", word)
    if found is None or not word or word.endswith("/"):
        raise RunNotFound(f"{word!r} names nothing; write r1 (a run), r1/12 (a step), r1/12/3 (an episode) or latest")
    run, step, episode = found.groups()
    name = newest(store) if run in (None, "latest") else store.run(run).id
    return Place(name, None if step is None else int(step), None if episode is None else int(episode))


def newest(store: Store) -> str:
    """Id of the run that started last. Raises ``RunNotFound`` when there is none."""
    from sparring.storage.queries import runs

    rows = runs(store)
    if not rows:
        raise RunNotFound(f"no runs in {store.name} yet; `sparring run smoke` makes a small one")
    return rows[-1].id


def typed(store: Store, command: str) -> str:
    """``sparring COMMAND`` as a person must type it to reach this database."""
    usual = (os.environ.get(VARIABLE) or DATABASE).removeprefix("sqlite:///")
    if store.path is None and VARIABLE in os.environ:  # a server, and its password where it belongs
        return f"sparring {command}"
    if store.is_memory or (store.path is not None and store.path.resolve() == Path(usual).resolve()):
        return f"sparring {command}"
    return f"sparring {command} --db {store.name}"
