"""The system-call filter: default deny, an allow list, argument checks. One filter serves every tier.

Numbers are (x86_64, aarch64) from the kernel's unistd headers; ``None`` means the machine has no such call.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from . import kernel

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
Numbers = tuple[int | None, int | None]

# memory, time, waiting, descriptors already open, questions about oneself
ALLOWED: dict[str, Numbers] = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "close": (3, 57), "close_range": (436, 436), "fstat": (5, 80), "lseek": (8, 62),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233),
    "brk": (12, 214), "membarrier": (324, 283),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "pause": (34, None),
    "alarm": (37, None), "getitimer": (36, 102), "setitimer": (38, 103),
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22),
    "pipe": (22, None), "pipe2": (293, 59), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24),
    "sched_yield": (24, 124), "nanosleep": (35, 101), "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None),
    "times": (100, 153), "getcpu": (309, 168), "getrandom": (318, 278),
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getpgrp": (111, None),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158),
    "uname": (63, 160), "sysinfo": (99, 179), "getrlimit": (97, 163), "getrusage": (98, 165),
    "futex": (202, 98), "rseq": (334, 293), "exit": (60, 93), "exit_group": (231, 94),
    "restart_syscall": (219, 128),
}  # fmt: skip

# reading by path; a tier without another file layer leaves these out, and nothing can be named at all
PATHS: dict[str, Numbers] = {
    "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getdents64": (217, 61), "getcwd": (79, 17),
}  # fmt: skip
OPEN: Numbers = (2, None)
OPENAT: Numbers = (257, 56)
FCNTL: Numbers = (72, 25)
IOCTL: Numbers = (16, 29)
PRLIMIT: Numbers = (302, 261)
AFFINITY: Numbers = (204, 123)
CLONE3: Numbers = (435, 435)
OPENAT2: Numbers = (437, 437)

# O_WRONLY O_RDWR O_CREAT O_TRUNC O_PATH __O_TMPFILE: only plain reading is left
_WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o10000000 | 0o20000000
# F_DUPFD F_GETFD F_SETFD F_GETFL F_DUPFD_CLOEXEC; never F_SETOWN, with which a pipe can send SIGKILL to anybody
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030)

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_DENY = _ERRNO | errno.EPERM

Instruction = tuple[int, int, int, int]


def _low(argument: int) -> Instruction:
    return (_LOAD, 0, 0, 16 + 8 * argument)


def _high(argument: int) -> Instruction:
    return (_LOAD, 0, 0, 20 + 8 * argument)


def _end(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


def _flags_without(argument: int, bits: int) -> list[Instruction]:
    return [_low(argument), (_ANY_BIT, 0, 1, bits), _end(_DENY), _end(_ALLOW)]


def _zero(*arguments: int) -> list[Instruction]:
    """Allow only when every named argument is zero in all 64 bits."""
    block: list[Instruction] = []
    for argument in arguments:
        for load in (_low(argument), _high(argument)):
            block += [load, (_EQUAL, 1, 0, 0), _end(_DENY)]
    return [*block, _end(_ALLOW)]


def _one_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    block = [_low(argument)]
    for value in values:
        block += [(_EQUAL, 0, 1, value), _end(_ALLOW)]
    return [*block, _end(_DENY)]


def program(machine: str, paths: bool) -> list[Instruction]:
    """The filter as BPF instructions (code, jump if true, jump if false, constant). ``KeyError``: unknown machine."""
    column, architecture = ARCHITECTURES[machine]
    rules: list[tuple[Numbers, list[Instruction]]] = [(numbers, [_end(_ALLOW)]) for numbers in ALLOWED.values()]
    rules += [
        (FCNTL, _one_of(1, _FCNTL_COMMANDS)),
        (PRLIMIT, _zero(0, 2)),  # read one's own limits, nothing else
        (AFFINITY, _zero(0)),
        (IOCTL, [_end(_ERRNO | errno.ENOTTY)]),  # what a pipe answers; Python then takes its fcntl way
        (CLONE3, [_end(_ERRNO | errno.ENOSYS)]),  # libc then tries clone, which is denied
        (OPENAT2, [_end(_ERRNO | errno.ENOSYS)]),
    ]
    if paths:
        rules += [(numbers, [_end(_ALLOW)]) for numbers in PATHS.values()]
        rules += [(OPEN, _flags_without(1, _WRITING)), (OPENAT, _flags_without(2, _WRITING))]
    code: list[Instruction] = [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), _end(_KILL),
        (_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, 0x40000000), _end(_KILL),  # the x32 calls
    ]  # fmt: skip
    for numbers, block in rules:
        number = numbers[column]
        if number is not None:
            code += [(_EQUAL, 0, len(block), number), *block]
    return [*code, _end(_DENY)]


class Filter:
    """A filter ready to install; built once, installed by every child."""

    def __init__(self, paths: bool) -> None:
        """``paths``: whether files may be opened for reading (another layer then decides which)."""
        if kernel.MACHINE not in ARCHITECTURES:
            raise kernel.failure(f"seccomp: no table for {kernel.MACHINE}", errno.ENOSYS)
        code = program(kernel.MACHINE, paths)
        packed = b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
        self._code = ctypes.create_string_buffer(packed, len(packed))
        pointer = ctypes.cast(self._code, ctypes.c_void_p).value or 0
        self._header = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(code), pointer), 16)

    def install(self) -> None:
        """Bind this thread, the only one, for good. Needs ``no_new_privs``."""
        kernel.prctl("seccomp", kernel.PR_SET_SECCOMP, 2, self._header)
