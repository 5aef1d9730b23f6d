"""A real PostgreSQL server of our own, in a folder that goes with it, and databases on it to test with."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sparring.storage.samples import sample_step
from sparring.storage.store import Store

NAMES = itertools.count()


class Server:
    """Reached through a socket in its folder alone; every connection is trusted. ``fsync`` is on, as it is by default.

    Text is sorted as English readers expect, unlike SQLite does, so that a query that leaves the order to the database
    is noticed.
    """

    def __init__(self) -> None:
        """Make the folder and start. PostgreSQL refuses to run as root: then it runs as ``postgres`` or ``nobody``."""
        self.folder = Path(tempfile.mkdtemp(prefix="sparring-pg-", dir="/tmp"))  # a socket's path must be short
        self._as: list[str] = []
        if os.geteuid() == 0:
            user = "postgres" if _user_exists("postgres") else "nobody"
            shutil.chown(self.folder, user)
            self._as = ["runuser", "-u", user, "--"]
        english = ["--locale-provider=icu", "--icu-locale=en-US"]
        asked = self._call("initdb", "--help")
        locale = english if "--icu-locale" in asked else []
        self._call("initdb", "-D", f"{self.folder}/data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
                   "--locale=C.UTF-8", *locale)  # fmt: skip
        self.start()

    def _call(self, program: str, *words: str) -> str:
        found = subprocess.run(
            [*self._as, _program(program), *words], cwd="/", capture_output=True, text=True, timeout=120
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    def start(self) -> None:
        """Up, and answering."""
        given = f"-k {self.folder} -c listen_addresses='' -c fsync=on -c max_connections=60"
        log = f"{self.folder}/log"
        self._call("pg_ctl", "-D", f"{self.folder}/data", "-w", "-t", "60", "-l", log, "-o", given, "start")

    def stop(self) -> None:
        """Down at once, as when its machine is switched off."""
        self._call("pg_ctl", "-D", f"{self.folder}/data", "-w", "-t", "60", "-m", "immediate", "stop")

    def remove(self) -> None:
        """Down, and nothing left."""
        self.stop()
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """As one writes it in ``SPARRING_DB``, with a password that nothing may ever show."""
        return f"postgresql+psycopg://postgres:geheim@/{database}?host={self.folder}"

    def do(self, statement: str, database: str = "postgres") -> None:
        """One statement, by itself."""
        at = f"host={self.folder} user=postgres dbname={database}"
        with psycopg.connect(at, autocommit=True) as connection:
            connection.execute(statement.encode())

    def empty(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{next(NAMES)}"
        self.do(f"CREATE DATABASE {name}")
        return self.url(name)


def _user_exists(name: str) -> bool:
    return any(line.startswith(f"{name}:") for line in Path("/etc/passwd").read_text().splitlines())


def _program(name: str) -> str:
    """Debian keeps the server's programs off the path."""
    found = shutil.which(name)
    others = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    if found is None and not others:
        pytest.fail(f"no {name} on this machine; tools/postgres_env.sh installs PostgreSQL")
    return found or str(others[-1])


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def url_of_another(server: Server) -> Callable[[], str]:
    """URLs of new databases with the schema in them; copying one is faster than making it."""
    server.do("CREATE DATABASE made")
    Store(server.url("made")).close()

    def copy() -> str:
        name = f"t{next(NAMES)}"
        server.do(f"CREATE DATABASE {name} TEMPLATE made")
        return server.url(name)

    return copy


@pytest.fixture
def url(url_of_another: Callable[[], str]) -> str:
    return url_of_another()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as opened:
        yield opened


@pytest.fixture
def filled(store: Store) -> Store:
    """A store whose run r1 holds steps 0, 1 and 2 with four episodes each."""
    store.start_run("sample", {"name": "sample"}, "digest", 0)
    for number in range(3):
        store.save_step("r1", sample_step(number, episodes=4))
    return store


@pytest.fixture
def memory(store: Store) -> Store:
    """What tests/storage keeps in memory."""
    store.start_run("sample", {}, "digest", 0)
    return store


@pytest.fixture
def other(url_of_another: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Another database, with a run of its own, used in another folder."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    with Store(url_of_another()) as opened:
        opened.start_run("theirs", {"name": "odd"}, "odd", 5)
        opened.save_step("r1", sample_step(0, episodes=3, seed=9))
        yield opened
