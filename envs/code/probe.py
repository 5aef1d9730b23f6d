"""The self-test of a sandbox tier: a positive control and live attacks, run before the first program is.

A tier whose control fails proves nothing, and one whose attacks succeed is not used: both are named in the findings.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from .worker import Job, Report, Zygote

# Each body runs inside the jail and raises when the attack is refused; "no error" means it worked.
ATTACKS: dict[str, str] = {
    "found_descriptor": "assert any(usable(number) for number in range(4, 4096))",
    "read_passwd": "open('/etc/passwd').read(1)",
    "read_through_proc": "open('/proc/self/root/etc/passwd').read(1)",
    "read_trainer_environment": "open('/proc/%d/environ' % TRAINER).read(1)",
    "open_by_libc": "check(libc.open(b'/etc/passwd', 0))",
    "list_processes": "assert any(name.isdigit() for name in os.listdir('/proc'))",
    "write_file": "os.unlink(open('/tmp/sparring-probe-' + NONCE, 'w').name)",
    "make_link": "os.symlink('/etc', '/tmp/sparring-probe-' + NONCE); os.unlink('/tmp/sparring-probe-' + NONCE)",
    "change_times": "os.utime(os.__file__, (1, 1))",
    "open_socket": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "open_datagram_socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "open_local_socket": "socket.socketpair()",
    "fork": "os.fork() or os._exit(0)",
    "start_thread": "_thread.start_new_thread(int, ())",
    "execute": "refused(libc.execve(b'/', None, None))",
    "signal_parent": "os.kill(os.getppid(), 0)",
    "signal_trainer": "os.kill(TRAINER, 0)",
    "signal_by_pipe": "fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())",
    "limits_of_parent": "resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
    "priority_of_parent": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "become_root": "os.setuid(0); os.setgroups([])",
    "new_namespace": "check(libc.unshare(0x10000000))",
    "io_uring": "refused(libc.syscall(425, 1, None))",
    "keyring": "refused(libc.syscall(KEYCTL, 0, -3, 0))",
    "ptrace": "check(libc.ptrace(0, 0, 0, 0))",  # last: a traced process stops at its next signal
}

_PRELUDE = """
import ctypes, errno, fcntl, os, resource, socket, _thread
NONCE, TRAINER, KEYCTL = {nonce!r}, {trainer}, {keyctl}
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0: raise OSError(ctypes.get_errno(), '')
def refused(result):
    if result < 0 and ctypes.get_errno() == errno.EPERM: raise PermissionError
def usable(number):
    try: os.fstat(number)
    except OSError: return False
    return True
print('begin', NONCE, sum(i * i for i in range(10)))
"""
_ATTEMPT = """
try:
    {body}
    print('worked', {name!r}, flush=True)
except Exception: pass
"""
_KEYCTL = {"x86_64": 250, "aarch64": 219}


def program(nonce: str, names: list[str] | None = None) -> str:
    """Source that tries the named attacks (default all) and prints ``worked NAME`` for each that succeeds."""
    keyctl = _KEYCTL.get(os.uname().machine, 250)
    parts = [_PRELUDE.format(nonce=nonce, trainer=os.getpid(), keyctl=keyctl)]
    parts += [_ATTEMPT.format(body=ATTACKS[name], name=name) for name in names or ATTACKS]
    return "".join([*parts, "\nprint('end', NONCE, flush=True)\n"])


def findings(zygote: Zygote) -> list[str]:
    """What is wrong with this zygote's isolation; empty when the control ran and every attack failed."""
    nonce = secrets.token_hex(8)
    report = zygote.run(_job(program(nonce)))
    said = report.stdout.decode("utf-8", "replace").splitlines()
    found = control_problem(report, nonce)
    found += [f"attack {line.removeprefix('worked ')} succeeded" for line in said if line.startswith("worked ")]
    return found or _resource_findings(zygote)


def control_problem(report: Report, nonce: str) -> list[str]:
    """Why the probe proves nothing, if it does not: it must have begun, computed, and reached its end."""
    said = report.stdout.decode("utf-8", "replace").splitlines()
    if said[:1] == [f"begin {nonce} 285"] and said[-1:] == [f"end {nonce}"] and report.status == 0:
        return []
    reason = report.said if report.said != "ready" else report.stderr.decode("utf-8", "replace")[-200:]
    return [f"the positive control did not run to its end (status {report.status}): {reason.strip()}"]


BOUNDS: dict[str, Callable[[Zygote], bool]] = {
    "sleep_forever": lambda zygote: zygote.run(_job("import time\ntime.sleep(5)", wall_s=0.03)).stopped != "timeout",
    "flood_output": lambda zygote: not zygote.run(_job("while True: print('x' * 4096)")).overflowed,
    "take_memory": lambda zygote: zygote.run(_job("b = bytearray(1 << 30)")).status == 0,
}


def _resource_findings(zygote: Zygote) -> list[str]:
    return [f"attack {name} succeeded" for name, worked in BOUNDS.items() if worked(zygote)]


def _job(source: str, wall_s: float = 5.0) -> Job:
    return Job(source.encode(), b"", wall_s, 5, 256 << 20, 1 << 14, 0, False)
