"""Landlock: the child may read the standard library and shared libraries, and nothing else in the file system."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterable

from . import kernel

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same on every architecture
_OUT_OF_THE_WAY = 40  # above the numbers a child rearranges, below a limit of 64 open files
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3


def version() -> int:
    """The kernel's Landlock ABI; raises ``OSError`` when there is none."""
    abi = kernel.syscall("landlock version", _CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        raise kernel.failure("landlock version", errno.ENOSYS)
    return abi


def attributes(abi: int) -> bytes:
    """Everything this ABI can deny, as ``landlock_ruleset_attr``: files, TCP, signals, abstract sockets."""
    files = (1 << 13) - 1
    files |= (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0) | (1 << 15 if abi >= 5 else 0)
    fields = [files]
    if abi >= 4:
        fields.append(0b11)
    if abi >= 6:
        fields.append(0b11)
    return struct.pack(f"<{len(fields)}Q", *fields)


def ruleset(folders: Iterable[str]) -> int:
    """A ruleset descriptor that leaves ``folders`` readable. Built once; a child only applies it."""
    attribute = attributes(version())
    handle = kernel.syscall("landlock ruleset", _CREATE, attribute, ctypes.c_size_t(len(attribute)), ctypes.c_uint32(0))
    for path in folders:
        _allow(handle, path)
    high = fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
    os.close(handle)
    return high


def _allow(handle: int, path: str) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not there or not ours to see: then it is not readable either
    rights = EXECUTE | READ_FILE | (READ_DIR if os.path.isdir(path) else 0)
    rule = struct.pack("<Qi", rights, opened)
    try:
        kernel.syscall(
            f"landlock rule {path}", _ADD_RULE, ctypes.c_int(handle), ctypes.c_int(1), rule, ctypes.c_uint32(0)
        )
    finally:
        os.close(opened)


def restrict(handle: int) -> None:
    """Bind this process to the ruleset for good. Needs ``no_new_privs``."""
    kernel.syscall("landlock restrict", _RESTRICT, ctypes.c_int(handle), ctypes.c_uint32(0))
