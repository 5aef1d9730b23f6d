"""The filter, run by a small interpreter of BPF: what it decides on both machines, without installing it."""

from __future__ import annotations

import errno

import pytest

from sparring.envs.code.jail import seccomp

ALLOW, KILL, DENY = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM


def _decide(machine: str, paths: bool, number: int, *arguments: int, architecture: int | None = None) -> int:
    code = seccomp.program(machine, paths)
    words = {0: number, 4: architecture or seccomp.ARCHITECTURES[machine][1]}
    for index, value in enumerate([*arguments, *[0] * (6 - len(arguments))]):
        words[16 + 8 * index], words[20 + 8 * index] = value & 0xFFFFFFFF, value >> 32
    at, held = 0, 0
    while True:
        operation, yes, no, constant = code[at]
        at += 1
        if operation == 0x06:
            return constant
        if operation == 0x20:
            held = words[constant]
        else:
            true = {0x15: held == constant, 0x35: held >= constant, 0x45: bool(held & constant)}[operation]
            at += yes if true else no


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
@pytest.mark.parametrize("paths", [True, False])
def test_listed_calls_pass_and_all_others_do_not(machine: str, paths: bool) -> None:
    column = seccomp.ARCHITECTURES[machine][0]
    listed = {numbers[column] for numbers in seccomp.ALLOWED.values()}
    named = {numbers[column] for numbers in (seccomp.PATHS if paths else {}).values()}
    checked = {seccomp.IOCTL, seccomp.FCNTL, seccomp.PRLIMIT, seccomp.AFFINITY, seccomp.CLONE3, seccomp.OPENAT2}
    special = {numbers[column] for numbers in checked | {seccomp.OPEN, seccomp.OPENAT}}
    for number in range(600):
        if number not in special:
            assert (_decide(machine, paths, number) == ALLOW) == (number in listed | named)


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_arguments_are_checked(machine: str) -> None:
    column = seccomp.ARCHITECTURES[machine][0]
    openat, fcntl = seccomp.OPENAT[column] or 0, seccomp.FCNTL[column] or 0
    limits, affinity = seccomp.PRLIMIT[column] or 0, seccomp.AFFINITY[column] or 0
    assert _decide(machine, True, openat, 0, 0, 0o2000000) == ALLOW
    assert all(_decide(machine, True, openat, 0, 0, flag) == DENY for flag in (1, 2, 0o100, 0o1000, 0o20000000))
    assert _decide(machine, False, openat, 0, 0, 0) == DENY
    assert (_decide(machine, True, fcntl, 0, 1), _decide(machine, True, fcntl, 0, 8)) == (ALLOW, DENY)
    assert (_decide(machine, True, limits, 0, 7, 0), _decide(machine, True, limits, 9, 7, 0)) == (ALLOW, DENY)
    assert _decide(machine, True, limits, 0, 7, 1 << 40) == DENY
    assert (_decide(machine, True, affinity, 0), _decide(machine, True, affinity, 9)) == (ALLOW, DENY)


def test_foreign_architectures_and_x32_calls_kill() -> None:
    assert _decide("x86_64", True, 0, architecture=0x40000003) == KILL
    assert _decide("x86_64", True, 0x40000000) == KILL
    assert _decide("aarch64", True, 63, architecture=0xC000003E) == KILL
