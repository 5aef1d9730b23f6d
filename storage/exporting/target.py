"""Where an export goes: written beside under another name, renamed when whole, never over something that is there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparring.scenarios.errors import StorageFull, StoreError


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A path to write a file or a folder at; it becomes ``target`` at the end of the block, or goes on any error.

    Raises ``StoreError`` where ``target`` is there already or cannot be written, ``StorageFull`` on a full disk.
    """
    if target.exists() or target.is_symlink():
        raise StoreError(f"{target} is there already; nothing was written: give another --out, or remove it first")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.rename(target)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"cannot write {target}: {error.strerror}; nothing is left of it: free some space, then export again"
            ) from error
        raise StoreError(f"cannot write {target}: {error.strerror or error}; give another --out") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        draft.unlink(missing_ok=True)


def size(target: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)
