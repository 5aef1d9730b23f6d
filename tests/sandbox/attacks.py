"""Named attacks on the sandbox, each with how to tell, from outside, whether it worked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sparring.envs.code.sandbox import Outcome, Ran


@dataclass(frozen=True)
class Attack:
    """``source`` may use {secret}, {folder}, {port}, {victim}; ``worked`` reads the run. Prints WORKED on success."""

    name: str
    source: str
    worked: Callable[[Ran], bool] = field(default=lambda ran: "WORKED" in ran.stdout)


def _ended_otherwise(*expected: Outcome) -> Callable[[Ran], bool]:
    return lambda ran: ran.outcome not in expected


_LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"

ATTACKS = [
    Attack("read_etc_passwd", "if 'root:' in open('/etc/passwd').read(): print('WORKED')"),
    Attack("read_secret_file", "if 'SECRET' in open('{folder}/secret').read(): print('WORKED')"),
    Attack("parent_environment", "if b'PYTHON' in open('/proc/{victim}/environ','rb').read(): print('WORKED')"),
    Attack("trajectory_write", "open('{folder}/runs.db', 'w').write('gone'); print('WORKED')"),
    Attack(
        "network_connect",
        "import socket\ns = socket.socket(); s.settimeout(1); s.connect(('127.0.0.1', {port})); print('WORKED')",
    ),
    Attack(
        "fork_bomb",
        "import os\nn = 0\nfor _ in range(50):\n  pid = os.fork()\n  if pid == 0:\n    os._exit(0)\n  n += 1\n"
        "if n == 50: print('WORKED')",
    ),
    Attack("kill_victim", "import os\nos.kill({victim}, 0); print('WORKED')"),
    Attack("memory_bomb", "b = bytearray(400 << 20); print('WORKED')"),
    Attack(
        "output_flood",
        "import os\nwhile True: os.write(1, b'x' * 65536)",
        lambda ran: ran.outcome is not Outcome.OUTPUT_LIMIT or len(ran.stdout) > 1 << 16,
    ),
    Attack(
        "stderr_flood",
        "import os\nwhile True: os.write(2, b'x' * 65536)",
        lambda ran: ran.outcome is not Outcome.OUTPUT_LIMIT or len(ran.stderr_tail) > 4096,
    ),
    Attack("infinite_loop", "while True: pass", _ended_otherwise(Outcome.TIMEOUT)),
    Attack("infinite_sleep", "import time\nwhile True: time.sleep(100)", _ended_otherwise(Outcome.TIMEOUT)),
    Attack(
        "ignore_signals",
        "import signal\nfor n in range(1, 64):\n  try: signal.signal(n, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\n"
        "while True: pass",
        _ended_otherwise(Outcome.TIMEOUT),
    ),
    Attack(
        "recursion_segfault",
        "import ctypes\nctypes.string_at(0)",
        _ended_otherwise(Outcome.CRASHED),
    ),
    Attack("ctypes_open", _LIBC + "if libc.open(b'/etc/passwd', 0) >= 0: print('WORKED')"),
    Attack(
        "symlink_read",
        "import os\nos.symlink('/etc/passwd', '{folder}/link'); print('WORKED')",
    ),
    Attack("proc_self_root", "if open('/proc/self/root/etc/passwd').read(1): print('WORKED')"),
    Attack(
        "setsid_daemon",
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  os.execv('/bin/sleep', ['{secret}', '30'])\n"
        "time.sleep(0.2); print('WORKED')",
    ),
    Attack(
        "prlimit_victim",
        "import resource\nresource.prlimit({victim}, resource.RLIMIT_CPU); print('WORKED')",
    ),
    Attack("ptrace", _LIBC + "if libc.ptrace(0, 0, 0, 0) == 0: print('WORKED')"),
    Attack(
        "fsetown_sigkill",
        "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, {victim}); print('WORKED')",
    ),
    Attack("exec_shell", "import os\nos.set_inheritable(1, True)\nos.execv('/bin/sh', ['sh', '-c', 'echo WORKED'])"),
    Attack("new_namespace", _LIBC + "if libc.unshare(0x10000000) == 0: print('WORKED')"),
    Attack("raise_own_limits", "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1)); print('WORKED')"),
    Attack("change_times", "import os\nos.utime('{folder}/secret', (1, 1)); print('WORKED')"),
    Attack("chmod_secret", "import os\nos.chmod('{folder}/secret', 0o777); print('WORKED')"),
]
