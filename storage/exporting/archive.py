"""``archive``: a run in a folder or a .tar.gz of its own, which another machine takes into its database.

Holds ``ARCHIVE.json`` (what it is, with a hash of every file), ``run.db`` (a database with only this run and those it
learnt from), ``scenario.json`` and ``checkpoints/STEP/``. Rows are copied as they stand, none is decoded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from sparring.scenarios.errors import StoreError

from ..codec import escape, unescape
from ..database import Database
from ..queries import damaged, run_hash
from ..rows import now, table
from ..schema import HEAD
from ..store import Store, run_number
from ..tables import Checkpoints, Runs, Scenarios, Steps
from .copying import RunCopy, lenders
from .target import beside

NOTE, ROWS, SCENARIO, CHECKPOINTS = "ARCHIVE.json", "run.db", "scenario.json", "checkpoints"
FORMAT = 1
PACKED = (".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True)
class Archive:
    """What ``ARCHIVE.json`` says. ``runs`` are hashes by run, those ``run`` learnt from included.

    ``checkpoints`` names the folders that came along by step; ``files`` has a SHA-256 for each.
    """

    format: int
    run: str
    name: str
    schema: str
    made_at: str
    runs: dict[str, str]
    checkpoints: dict[str, str]
    files: dict[str, str]


def pack(store: Store, run: str, out: Path, checkpoints: Mapping[int, Path]) -> Archive:
    """Write ``run`` to the folder ``out``, or to one file where its name ends in .tar.gz or .tgz.

    ``checkpoints`` are the folders to take along, by step. Raises ``RunNotFound``, and ``StoreError`` on rows that no
    longer match their hash.
    """
    name = store.run(run).name
    with beside(out) as draft:
        folder = draft.with_name(draft.name + ".d") if out.name.endswith(PACKED) else draft
        try:
            folder.mkdir()
            archive = _fill(store, run, name, folder, checkpoints)
            if folder is not draft:
                with tarfile.open(draft, "w:gz", compresslevel=6) as packed:
                    packed.add(folder, arcname=out.name[: -len(_ending(out))])
        finally:
            if folder is not draft:
                shutil.rmtree(folder, ignore_errors=True)
    return archive


def _ending(path: Path) -> str:
    return next(ending for ending in PACKED if path.name.endswith(ending))


def _fill(store: Store, run: str, name: str, folder: Path, checkpoints: Mapping[int, Path]) -> Archive:
    rows = folder / ROWS
    with store.read() as session:
        numbers = [*lenders(session, run_number(run)), run_number(run)]
        scenario = session.scalars(select(Scenarios).join(Runs).where(Runs.id == numbers[-1])).one()
        (folder / SCENARIO).write_text(json.dumps(scenario.resolved, indent=1), encoding="ascii")
        with closing(Database(rows)) as database, database.write() as connection:
            RunCopy(session, connection, numbers).keep_ids().copy()
    with Store(rows) as copy:
        hashes = _whole(copy, [f"r{number}" for number in numbers])
    for step, source in checkpoints.items():
        shutil.copytree(source, folder / CHECKPOINTS / str(step))
    archive = Archive(
        format=FORMAT,
        run=run,
        name=name,
        schema=HEAD,
        made_at=now(),
        runs=hashes,
        checkpoints={str(step): source.name for step, source in checkpoints.items()},
        files={str(file.relative_to(folder)): _digest(file) for file in _files(folder)},
    )
    (folder / NOTE).write_text(json.dumps(asdict(archive), indent=1), encoding="ascii")
    return archive


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NOTE)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _whole(store: Store, runs: Sequence[str]) -> dict[str, str]:
    """The hash of each run. Raises ``StoreError`` when an episode no longer matches its own."""
    for run in runs:
        if broken := damaged(store, run):
            raise StoreError(
                f"run {run}: {len(broken)} episodes do not match the hash they were saved with "
                f"({', '.join(broken[:3])}); nothing was kept: take the run from a whole copy"
            )
    return {run: run_hash(store, run) for run in runs}


def unpack(store: Store, path: Path) -> dict[str, str]:
    """Take an archive into ``store``; its checkpoints go to where that database's lie, in a folder for each run.

    Returns the new id of each run in it by its old one, those that the archived run learnt from first.

    Files and rows are checked before anything is stored, and the new rows again after; a run that was being written
    becomes a stopped one. Raises ``StoreError`` (``SchemaMismatch`` for an archive of a newer schema); the database
    then holds what it held.
    """
    if store.is_memory:
        raise StoreError("an archive needs a database file to go into; give --db")
    folder = store.checkpoints
    with _opened(path, folder) as inside:
        archive = _checked(inside, path)
        with Store(inside / ROWS, create=False) as rows:
            _compare(_whole(rows, list(archive.runs)), archive.runs, path)
            with rows.read() as session:
                new = _take(session, store, archive, inside, folder)
    names = {f"r{old}": f"r{number}" for old, number in new.items()}
    try:
        found = _whole(store, list(names.values()))
        _compare({old: found[run] for old, run in names.items()}, archive.runs, path)
    except StoreError:
        _discard(store, list(new.values()), folder)
        raise
    return names


def _take(session: Session, target: Store, archive: Archive, inside: Path, folder: Path) -> dict[int, int]:
    """Copy the rows in one transaction; checkpoints are moved into place just before its end."""
    numbers = [run_number(run) for run in archive.runs]
    with target.write(queued=True) as connection:
        copy = RunCopy(session, connection, numbers)
        places = {f"r{number}": folder / f"r{number}" for number in copy.runs.values()}
        taken = next((place for place in places.values() if place.exists()), None)
        if taken is not None:
            raise StoreError(f"{taken} is there already, though no run has that number; nothing was stored: move it")
        mine = places[f"r{copy.runs[run_number(archive.run)]}"]
        copy.copy(_Settle(folder))
        if archive.checkpoints:
            mine.mkdir(parents=True)
            for step, checkpoint in archive.checkpoints.items():
                (inside / CHECKPOINTS / step).rename(mine / checkpoint)
    return copy.runs


def _compare(found: Mapping[str, str], told: Mapping[str, str], path: Path) -> None:
    for run, expected in told.items():
        if found[run] != expected:
            raise StoreError(f"{path}: the rows of run {run} do not give the hash the archive names; copy it once more")


class _Settle:
    """What changes in rows on their way in: nobody writes these runs, and their checkpoints lie elsewhere now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_of: dict[int, int] = {}

    def __call__(self, name: str, row: dict[str, Any]) -> None:
        if name == "runs" and row["status"] == "running":
            row["status"] = "stopped"
        elif name == "steps":
            self.run_of[row["id"]] = row["run_id"]
        elif name == "checkpoints":
            folder = self.folder / f"r{self.run_of[row['step_id']]}"
            row["path"] = escape(str(folder / Path(unescape(row["path"])).name))


def _discard(target: Store, numbers: Sequence[int], folder: Path) -> None:
    runs = table(Runs)
    with target.write() as connection:
        connection.execute(delete(runs).where(runs.c.id.in_(numbers)))
    for number in numbers:
        shutil.rmtree(folder / f"r{number}", ignore_errors=True)


@contextmanager
def _opened(path: Path, folder: Path) -> Iterator[Path]:
    """A copy of what an archive holds, on the disk where its checkpoints will lie; gone at the end of the block."""
    if not path.exists():
        raise StoreError(f"no archive at {path}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _copied(path, folder) as inside:
            yield inside
    finally:
        if not any(folder.iterdir()):  # nothing came to lie there
            folder.rmdir()


@contextmanager
def _copied(path: Path, folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as made:
        inside = Path(made) / "archive"
        try:
            if path.is_dir():
                shutil.copytree(path, inside)
            else:
                with tarfile.open(path, "r:gz") as packed:
                    packed.extractall(inside, filter="data")  # no link, device or path out of the folder
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise StoreError(f"{path} cannot be read as an archive: {error}; copy it once more") from error
        yield next((note.parent for note in sorted(inside.glob(f"*/{NOTE}"))), inside)


def _checked(inside: Path, path: Path) -> Archive:
    """What an archive says it is, once its files are those it names. Raises ``StoreError``."""
    archive = _note(inside, path)
    found = {str(file.relative_to(inside)): file for file in _files(inside)}
    for name in sorted(found.keys() ^ archive.files.keys()):
        raise StoreError(f"{path}: {name} is {'not of this archive' if name in found else 'gone'}; copy it once more")
    for name, file in found.items():
        if _digest(file) != archive.files[name]:
            raise StoreError(f"{path}: {name} is damaged (its hash differs from {NOTE}); copy it once more")
    return archive


def _note(inside: Path, path: Path) -> Archive:
    try:
        plain = json.loads((inside / NOTE).read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            raise StoreError(f"{path}: archive format {plain['format']!r}, this Sparring reads {FORMAT}; upgrade it")
        archive = Archive(**{item.name: plain[item.name] for item in fields(Archive)})
        for step, name in archive.checkpoints.items():
            if not step.isdecimal() or name in ("", ".", "..") or Path(name).name != name:
                raise ValueError(f"checkpoint {step!r}: {name!r} is no folder's name")
        if archive.run not in archive.runs or ROWS not in archive.files:
            raise ValueError("it does not name its own run")
        for run in archive.runs:
            run_number(run)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is no archive of a run ({NOTE}: {error}); `sparring export` makes one") from error
    return archive


def checkpoints_of(store: Store, run: str) -> dict[int, tuple[Path, str]]:
    """Folder and manifest hash of the checkpoints of ``run`` by step, the newest first."""
    wanted = select(Steps.number, Checkpoints.path, Checkpoints.sha).join(Checkpoints, Checkpoints.step_id == Steps.id)
    with store.read() as session:
        rows = session.execute(wanted.where(Steps.run_id == run_number(run)).order_by(Steps.number.desc()))
        return {row.number: (Path(row.path), row.sha) for row in rows}
