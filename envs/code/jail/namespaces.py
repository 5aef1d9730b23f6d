"""Namespaces: own users, mounts, network, processes, and a root directory that holds the libraries read-only."""

from __future__ import annotations

import os
from collections.abc import Callable

from . import kernel

_NEW_ALL = 0x10000000 | 0x00020000 | 0x40000000 | 0x20000000 | 0x08000000 | 0x04000000  # user mnt net pid ipc uts
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
# flags a bind mount inherits and an unprivileged remount may not drop: statvfs bit -> mount bit
_LOCKED = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}


def enter(folders: list[str], hidden: list[str]) -> None:
    """Leave the machine's namespaces and file system. Children forked from here on live in the new process space.

    ``folders`` stay readable at their own paths, ``hidden`` ones inside them look empty. Raises ``OSError``.
    """
    user, group = os.geteuid(), os.getegid()
    outside = _mapper() if user == 0 else None
    kernel.unshare(_NEW_ALL)
    if outside is None or not outside():
        _map_ids(user, group)
    kernel.mount("none", "/", None, _REC | _PRIVATE)
    # opened before anything is mounted over them, and after unshare: an older mount space cannot be bound from
    opened = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in folders}
    base = next(path for path in ("/tmp", "/run", "/mnt", "/dev/shm", "/var") if os.path.isdir(path))
    kernel.mount("tmpfs", base, "tmpfs", _NOSUID | _NODEV, "size=1m,nr_inodes=4k,mode=755")
    for path, handle in opened.items():
        _bind(handle, base + path)
        os.close(handle)
    for path in hidden:
        if os.path.isdir(base + path):
            kernel.mount("tmpfs", base + path, "tmpfs", _RDONLY | _NOSUID | _NODEV, "size=4k,mode=755")
    kernel.pivot_into(base)
    _read_only("/")


def _mapper() -> Callable[[], bool]:
    """A process left outside that gives us two users, root and nobody, so that the zygote can become the latter.

    With the one user that we may map ourselves, a program of root's would still be root to the kernel.
    """
    ready_reader, ready_writer = os.pipe()
    ours = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ready_writer)
            os.read(ready_reader, 1)
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{ours}/{name}", "w") as file:
                    file.write(f"0 0 1\n{kernel.NOBODY} {kernel.NOBODY} 1\n")
            os._exit(0)
        except BaseException:  # a root without the right to: the caller then maps one user
            os._exit(1)
    os.close(ready_reader)

    def finish() -> bool:
        os.close(ready_writer)
        return os.waitpid(pid, 0)[1] == 0

    return finish


def _map_ids(user: int, group: int) -> None:
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{kernel.NOBODY} {user} 1"),
        ("gid_map", f"{kernel.NOBODY} {group} 1"),
    ):
        try:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        except OSError as error:
            raise kernel.failure(f"user namespace {name}", error.errno or 0) from error


def _bind(handle: int, target: str) -> None:
    os.makedirs(target, exist_ok=True)
    kernel.mount(f"/proc/self/fd/{handle}", target, None, _BIND | _REC)
    _read_only(target)


def _read_only(target: str) -> None:
    held = os.statvfs(target).f_flag
    kept = sum(mount_bit for bit, mount_bit in _LOCKED.items() if held & bit)
    kernel.mount("none", target, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | kept)
