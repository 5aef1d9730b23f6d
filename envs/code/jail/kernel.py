"""Thin ``ctypes`` kernel calls the standard library does not offer. Failures are ``OSError`` with a stage."""

from __future__ import annotations

import ctypes
import os
import platform

MACHINE = platform.machine()
_libc = ctypes.CDLL(None, use_errno=True)

NOBODY = 65534
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
_CAPSET = {"x86_64": 126, "aarch64": 91}
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def failure(stage: str, code: int) -> OSError:
    """An error that names the layer and step that failed."""
    return OSError(code, f"{stage}: {os.strerror(code)}")


def check(stage: str, result: int) -> int:
    """``result``, or ``OSError`` from the thread's errno when it is negative."""
    if result < 0:
        raise failure(stage, ctypes.get_errno())
    return result


def syscall(stage: str, number: int, *arguments: object) -> int:
    """A raw system call."""
    return check(stage, int(_libc.syscall(ctypes.c_long(number), *arguments)))


def prctl(stage: str, option: int, *values: object) -> int:
    """``prctl`` with up to four arguments."""
    padded = [*values, *[ctypes.c_ulong(0)] * (4 - len(values))]
    wide = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in padded]
    return check(stage, int(_libc.prctl(ctypes.c_int(option), *wide)))


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags``."""
    check("unshare", int(_libc.unshare(ctypes.c_int(flags))))


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """``mount(2)``."""
    arguments = (
        source.encode(),
        target.encode(),
        kind and kind.encode(),
        ctypes.c_ulong(flags),
        data and data.encode(),
    )
    check(f"mount {target}", int(_libc.mount(*arguments)))


def pivot_into(new_root: str) -> None:
    """Make ``new_root`` the root directory and detach the old one."""
    os.chdir(new_root)
    syscall("pivot_root", _PIVOT_ROOT[MACHINE], b".", b".")
    check("umount of the old root", int(_libc.umount2(b".", ctypes.c_int(2))))
    os.chdir("/")


def drop_bounding() -> None:
    """Empty the bounding set, as far as the caller may: what is held is emptied by ``drop_capabilities``."""
    for capability in range(64):
        _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)


def drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    syscall("capset", _CAPSET[MACHINE], header, nothing)


def become_nobody() -> None:
    """Change root to an ordinary user. Root without the capability keeps its number: it has no power left either."""
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except PermissionError:
        return


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent dies; must follow every change of user, which clears it."""
    prctl("parent-death signal", PR_SET_PDEATHSIG, 9)


def stay_private() -> None:
    """No new privileges, and nobody of the same user may attach or read this memory."""
    prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1)
    prctl("dumpable", PR_SET_DUMPABLE, 0)
