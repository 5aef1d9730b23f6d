"""Power loss, simulated under the store's own connections: what a disk holds of writes that nobody synced.

``Disk.lend`` puts itself between SQLite's unix file system and every file it opens in this process, through SQLite's
own table of file methods. It keeps, for each file, the bytes as of the last sync and the writes since.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Pointer, Int, Long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
OPEN = ctypes.CFUNCTYPE(Int, Pointer, Pointer, Pointer, Int, Pointer)
WRITE = ctypes.CFUNCTYPE(Int, Pointer, Pointer, Int, Long)
TRUNCATE = ctypes.CFUNCTYPE(Int, Pointer, Long)
SYNC = ctypes.CFUNCTYPE(Int, Pointer, Int)
METHODS = 20  # words of sqlite3_io_methods, version 3: the version, then functions
AT_WRITE, AT_TRUNCATE, AT_SYNC = 3, 4, 5  # their places in it: after xClose and xRead
XOPEN = 40  # bytes into sqlite3_vfs: three ints, padding, pNext, zName, pAppData come before
SECTOR = 512


@dataclass
class File:
    """One file: ``safe`` is what a power loss leaves for certain, ``since`` what was written after the last sync."""

    safe: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, bytes | None]] = field(default_factory=list)  # (place, bytes); None: cut at place

    def sync(self) -> None:
        """Everything written is safe."""
        for place, data in self.since:
            put(self.safe, place, data)
        self.since.clear()

    def after_loss(self, survives: float, rng: random.Random) -> bytes:
        """The file after a power loss: each sector written since the last sync survives with this chance."""
        left = bytearray(self.safe)
        for place, data in self.since:
            for start in range(0, len(data or b"x"), SECTOR):
                if rng.random() < survives:
                    put(left, place + start if data else place, data and data[start : start + SECTOR])
        return bytes(left)


def put(held: bytearray, place: int, data: bytes | None) -> None:
    """Write ``data`` at ``place``, or cut there."""
    if data is None:
        del held[place:]
        return
    if len(held) < place:
        held.extend(bytes(place - len(held)))
    held[place : place + len(data)] = data


class Disk:
    """Files as a power loss would leave them. ``moment`` is called before each write, cut and sync."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.changes = 0
        self._paths: dict[int, str] = {}
        self._kept: list[object] = []  # what SQLite holds pointers to

    def moment(self) -> None:
        """Something is about to change; replaced by whoever wants to look."""

    def lose_power(self, to: Path, survives: float, rng: random.Random) -> None:
        """Write what the disk would hold into the folder ``to``."""
        for path, file in self.files.items():
            if Path(path).exists():  # SQLite syncs the folder when it deletes a journal
                (to / Path(path).name).write_bytes(file.after_loss(survives, rng))

    @contextmanager
    def lend(self) -> Iterator[None]:
        """While the block runs, every file SQLite opens is one of this disk's."""
        name = ctypes.util.find_library("sqlite3")
        if name is None:  # then this Python carries its own, and nothing comes through here
            yield
            return
        library = ctypes.CDLL(name)
        library.sqlite3_vfs_find.restype = Pointer
        library.sqlite3_vfs_find.argtypes = [Pointer]
        vfs = library.sqlite3_vfs_find(None)
        place = ctypes.cast(vfs + XOPEN, ctypes.POINTER(Pointer))
        theirs = place[0]
        assert theirs is not None
        inner = OPEN(theirs)

        def opened(vfs: int, path: int | None, file: int, flags: int, out: int | None) -> int:
            code = int(inner(vfs, path, file, flags, out))
            if code == 0 and path:
                self._take(ctypes.string_at(path).decode(), file)
            return code

        mine = OPEN(opened)
        self._kept.append(mine)
        place[0] = ctypes.cast(mine, Pointer).value
        try:
            yield
        finally:
            place[0] = theirs

    def _take(self, path: str, file: int) -> None:
        """Put our own write, cut and sync into the table of methods of a file that SQLite has just opened."""
        table = ctypes.cast(file, ctypes.POINTER(Pointer))
        words = (Pointer * METHODS).from_buffer_copy(ctypes.string_at(table[0] or 0, METHODS * 8))
        self._paths[file] = path
        there = Path(path)
        if path not in self.files or there.stat().st_size == 0:  # the log is deleted and made anew now and then
            self.files[path] = File(bytearray(there.read_bytes()))
        write, cut, sync = WRITE(words[AT_WRITE] or 0), TRUNCATE(words[AT_TRUNCATE] or 0), SYNC(words[AT_SYNC] or 0)

        def written(file: int, data: int, count: int, place: int) -> int:
            self._change(file).since.append((place, ctypes.string_at(data, count)))
            return int(write(file, data, count, place))

        def truncated(file: int, place: int) -> int:
            self._change(file).since.append((place, None))
            return int(cut(file, place))

        def synced(file: int, flags: int) -> int:
            code = int(sync(file, flags))
            self._change(file).sync()
            return code

        ours = (WRITE(written), TRUNCATE(truncated), SYNC(synced))
        for at, function in zip((AT_WRITE, AT_TRUNCATE, AT_SYNC), ours, strict=True):
            words[at] = ctypes.cast(function, Pointer).value
        self._kept += [words, ours]
        table[0] = ctypes.addressof(words)

    def _change(self, file: int) -> File:
        self.changes += 1
        self.moment()
        return self.files[self._paths[file]]
