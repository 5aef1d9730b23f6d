"""The 76 isolation attacks by name. Each runs after ``PRELUDE``; how success is seen stands beside it.

``secret``: the scene's token, which no source contains, came out. ``proof``: a system call that must be refused
succeeded. ``host``: something on the machine changed (see ``scene.Scene.harm``). ``late``: the run did not end in time.
``flood``: more was kept than the cap. ``died``: the zygote did.
"""

from __future__ import annotations

from dataclasses import dataclass

PRELUDE = """
import ctypes, errno, fcntl, os, re, resource, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == 'x86_64'
def check(result):
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def call(x86, arm, *values):
    wide = [ctypes.c_long(v) if isinstance(v, int) else v for v in values]
    return check(libc.syscall(ctypes.c_long(x86 if X86 else arm), *wide))
def proof(_=None): os.write(1, PROOF.encode() + b'\\n')
def show(data): os.write(1, data if isinstance(data, bytes) else str(data).encode())
os.write(1, b'begun\\n')
"""


@dataclass(frozen=True)
class Attack:
    """``source`` runs after ``PRELUDE`` and the scene's names; ``seen`` says how its success shows."""

    name: str
    group: str
    seen: str
    source: str


def _group(group: str, attacks: dict[str, tuple[str, str]]) -> list[Attack]:
    return [Attack(name, group, seen, source.strip("\n")) for name, (seen, source) in attacks.items()]


READ = {
    "read_etc_passwd": ("secret", "show(open('/etc/passwd').read())"),
    "read_ssh_key": ("secret", "show(open(HOME + '/.ssh/id_rsa').read())"),
    "read_trajectory_db": ("secret", "show(open(DB, 'rb').read())"),
    "read_own_environ": (
        "secret",
        "show(repr(dict(os.environ)))\n"
        "environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')\nn = 0\n"
        "while environ and environ[n]: show(environ[n]); n += 1\n"
        "show(open('/proc/self/environ', 'rb').read())",
    ),
    "read_parent_environ": (
        "secret",
        "for pid in (os.getppid(), TRAINER):\n  try: show(open(f'/proc/{pid}/environ', 'rb').read())\n"
        "  except OSError: pass",
    ),
    "read_victim_environ": ("secret", "show(open(f'/proc/{VICTIM}/environ', 'rb').read())"),
    "read_victim_mem": (
        "secret",
        "f = open(f'/proc/{VICTIM}/mem', 'rb', 0); f.seek(ADDRESS); show(f.read(64))",
    ),
    "read_inherited_fds": (
        "secret",
        "for n in range(3, 1024):\n  try: show(os.pread(n, 100, 0))\n  except OSError: pass",
    ),
    "ctypes_open_passwd": (
        "secret",
        "n = check(libc.open(b'/etc/passwd', 0)); b = ctypes.create_string_buffer(4096); libc.read(n, b, 4096)\n"
        "show(b.value)",
    ),
    "symlink_read": ("secret", "os.symlink(SECRET, SCRATCH + '/link'); show(open(SCRATCH + '/link').read())"),
    "openat_dotdot": (
        "secret",
        "d = os.open(os.path.dirname(os.__file__), os.O_RDONLY)\n"
        "show(os.read(os.open('../' * 40 + SECRET.lstrip('/'), os.O_RDONLY, dir_fd=d), 100))",
    ),
    "proc_self_root": (
        "secret",
        "for way in ('self/root', 'self/cwd', 'thread-self/root', '1/root'):\n"
        "  try: show(open(f'/proc/{way}{SECRET}').read())\n  except OSError: pass",
    ),
    "list_proc_cmdlines": (
        "secret",
        "for pid in os.listdir('/proc'):\n  if pid.isdigit():\n"
        "    try: show(open(f'/proc/{pid}/cmdline', 'rb').read())\n    except OSError: pass",
    ),
    "ptrace_attach": (
        "proof",
        "check(libc.ptrace(0x4206, VICTIM, None, None)); proof(); libc.ptrace(17, VICTIM, None, None)",
    ),
    "process_vm_readv": (
        "secret",
        "class IO(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]\n"
        "b = ctypes.create_string_buffer(64)\nours = IO(ctypes.cast(b, ctypes.c_void_p), 64)\n"
        "theirs = IO(ADDRESS, 64)\n"
        "check(libc.process_vm_readv(VICTIM, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)); show(b.raw)",
    ),
    "pidfd_getfd": (
        "secret",
        "show(os.pread(call(438, 438, os.pidfd_open(VICTIM), HELD, 0), 100, 0))",
    ),
    "keyctl_session": ("proof", "call(250, 219, 0, -3, 1); proof()"),
    "stat_secret_metadata": ("proof", "os.stat(SECRET); proof()"),
}

WRITE = {
    "write_home": ("host", "open(HOME + '/' + TAG, 'w').write('x')"),
    "write_tmp": ("host", "open('/tmp/' + TAG, 'w').write('x')"),
    "rename_out": ("host", "os.rename(SECRET, SCRATCH + '/' + TAG)"),
    "write_py_startup": (
        "host",
        "for d in (HOME + '/.local/lib/site-packages', SCRATCH):\n"
        "  os.makedirs(d, exist_ok=True); open(d + '/usercustomize.py', 'w').write('x = ' + repr(TAG))",
    ),
    "delete_db": ("host", "os.unlink(DB)"),
    "truncate_db": ("host", "os.truncate(DB, 0)"),
    "chmod_secret": ("host", "os.chmod(SECRET, 0o777)"),
    "utime_db": ("host", "os.utime(DB, (1, 1))"),
    "setxattr": ("host", "os.setxattr(SECRET, 'user.sparring', b'x')"),
    "hardlink_in": ("secret", "os.link(SECRET, SCRATCH + '/hard'); show(open(SCRATCH + '/hard').read())"),
    "mknod_device": ("proof", "os.mknod(SCRATCH + '/device', 0o020666, os.makedev(1, 7)); proof()"),
    "mount_tmpfs": (
        "proof",
        "check(libc.mount(b'none', SCRATCH.encode(), b'tmpfs', 0, None)); proof(); libc.umount2(SCRATCH.encode(), 2)",
    ),
}

NET = {
    "tcp_connect": (
        "host",
        "s = socket.socket(); s.settimeout(1); s.connect(('127.0.0.1', TCP)); s.sendall(TAG.encode()); s.close()",
    ),
    "udp_send": ("host", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(TAG.encode(), ('127.0.0.1', UDP))"),
    "unix_path": ("host", "s = socket.socket(socket.AF_UNIX); s.connect(UNIX); s.sendall(TAG.encode())"),
    "unix_abstract": (
        "host",
        "s = socket.socket(socket.AF_UNIX); s.connect('\\0' + ABSTRACT); s.sendall(TAG.encode())",
    ),
    "bind_listen": ("proof", "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); proof()"),
    "raw_socket": ("proof", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); proof()"),
    "netlink_socket": ("proof", "socket.socket(16, socket.SOCK_RAW, 0).bind((0, 0)); proof()"),
    "io_uring_setup": (
        "proof",
        "try: call(425, 425, 1, ctypes.create_string_buffer(120)); proof()\n"
        "except OSError as e:\n  if e.errno not in (errno.EPERM, errno.ENOSYS): proof()",
    ),
}

_FLOOD = "while True: os.write({}, b'x' * 65536)"
_PLACES = "for place in (SCRATCH, '/dev/shm', '/tmp', '/', '.'):\n  try:\n    "
RESOURCE = {
    "fork_bomb": (
        "proof",
        "for n in range(100):\n  if os.fork() == 0: time.sleep(1); os._exit(0)\nproof()",
    ),
    "daemon_survives": (
        "host",
        "if os.fork() == 0:\n  os.setsid()\n  os.execv('/bin/sleep', [TAG, '6'])\ntime.sleep(0.2)",
    ),
    "hold_pipe_open": (
        "host",
        "if os.fork() == 0:\n  os.setsid()\n  os.set_inheritable(1, True)\n  os.execv('/bin/sleep', [TAG, '6'])\n"
        "time.sleep(0.2)",
    ),
    "thread_bomb": (
        "proof",
        "import _thread, threading\nthreading.stack_size(32768)\n"
        "for n in range(1000): _thread.start_new_thread(time.sleep, (0.5,))\nproof()",
    ),
    "mem_bomb": ("proof", "b = bytearray(320 << 20)\nb[::4096] = b'x' * len(b[::4096])\nproof()"),
    "mem_bomb_forks": (
        "proof",
        "r, w = os.pipe()\nfor n in range(4):\n  if os.fork() == 0:\n    b = bytearray(120 << 20); os.write(w, b'x')\n"
        "    time.sleep(0.2); os._exit(0)\ngot = b''\nwhile len(got) < 4: got += os.read(r, 4)\nproof()",
    ),
    "memfd_bomb": (
        "proof",
        "n = os.memfd_create('x')\nfor _ in range(400): os.write(n, bytes(1 << 20))\nproof()",
    ),
    "shm_files": (
        "proof",
        "f = open('/dev/shm/' + TAG, 'wb', 0)\nfor _ in range(400): assert f.write(bytes(1 << 20)) == 1 << 20\nproof()",
    ),
    "inode_bomb": (
        "proof",
        _PLACES + "os.mkdir(place + '/' + TAG)\n    for n in range(5000): os.close(os.open(f'{place}/{TAG}/{n}', 65))\n"
        "    proof(); break\n  except OSError: pass",
    ),
    "disk_fill": (
        "proof",
        _PLACES + "f = open(place + '/' + TAG, 'wb', 0)\n"
        "    for _ in range(100): assert f.write(bytes(1 << 20)) == 1 << 20\n"
        "    proof(); break\n  except (OSError, AssertionError): pass",
    ),
    "output_flood": ("flood", _FLOOD.format(1)),
    "stderr_flood": ("flood", _FLOOD.format(2)),
    "infinite_loop": ("late", "while True: pass"),
    "infinite_sleep": ("late", "while True: time.sleep(100)"),
    "ignore_sigterm": (
        "late",
        "for n in range(1, 65):\n  try: signal.signal(n, signal.SIG_IGN)\n  except (OSError, ValueError): pass\n"
        "while True:\n  try: time.sleep(9)\n  except BaseException: pass",
    ),
    "self_sigstop": ("late", "os.kill(os.getpid(), signal.SIGSTOP)"),
    "huge_int_c_loop": ("late", "x = 3 ** (10 ** 8)"),
    "regex_redos": ("late", "re.match('(a|a?)+$', 'a' * 50 + 'b')"),
    "recursion_segv": (
        "died",
        "sys.setrecursionlimit(10 ** 9)\nclass A:\n  def __repr__(self): return repr(self)\nrepr(A())",
    ),
    "core_dump": (
        "host",
        "try: resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))\nexcept (OSError, ValueError): pass\n"
        "try: os.chdir(SCRATCH)\nexcept OSError: pass\nctypes.string_at(0)",
    ),
}

OTHERS = {
    "kill_parent": ("died", "os.kill(os.getppid(), signal.SIGKILL); time.sleep(0.1)"),
    "kill_victim": ("host", "os.kill(VICTIM, signal.SIGKILL)"),
    "kill_all": ("host", "os.kill(-1, signal.SIGURG)"),
    "killpg_parent": ("died", "os.killpg(os.getpgid(os.getppid()), signal.SIGKILL); time.sleep(0.1)"),
    "sigqueue_victim": (
        "host",
        "info = struct.pack('3i4xii', signal.SIGUSR1, 0, -1, os.getpid(), os.getuid())\n"
        "call(129, 138, VICTIM, int(signal.SIGUSR1), ctypes.create_string_buffer(info, 128))",
    ),
    "pidfd_signal": ("host", "signal.pidfd_send_signal(os.pidfd_open(VICTIM), signal.SIGUSR1)"),
    "fsetown_sigkill": (
        "host",
        "r, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, VICTIM)\nfcntl.fcntl(r, 10, signal.SIGKILL)\n"
        "fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | os.O_ASYNC)\nos.write(w, b'x'); time.sleep(0.1)",
    ),
    "prlimit_victim": ("host", "resource.prlimit(VICTIM, resource.RLIMIT_NOFILE, (7, 7))"),
    "affinity_victim": ("proof", "os.sched_setaffinity(VICTIM, {0}); proof()"),
    "renice_victim": ("host", "os.setpriority(os.PRIO_PROCESS, VICTIM, 19)"),
    "tiocsti": (
        "host",
        "import termios\nn = os.open(PTY, os.O_RDWR | os.O_NOCTTY)\n"
        "for c in TAG + '\\n': fcntl.ioctl(n, termios.TIOCSTI, c.encode())",
    ),
}

KERNEL = {
    "userns_create": ("proof", "check(libc.unshare(0x10000000)); proof()"),
    "bpf": (
        "proof",
        "call(321, 280, 0, ctypes.create_string_buffer(struct.pack('5I', 2, 4, 4, 1, 0), 128), 128); proof()",
    ),
    "perf_event_open": (
        "proof",
        "attribute = struct.pack('IIQQQQQ', 1, 112, 0, 0, 0, 0, 0b1100001)\n"
        "call(298, 241, ctypes.create_string_buffer(attribute, 112), 0, -1, -1, 0); proof()",
    ),
    "userfaultfd": ("proof", "call(323, 282, 1); proof()"),
    "setuid_gain": (
        "proof",
        "if libc.prctl(39, 0, 0, 0, 0) == 0: proof()\nos.setresuid(0, 0, 0); os.setgroups([0]); proof()",
    ),
    "exec_shell": (
        "proof",
        "os.set_inheritable(1, True)\nos.execv('/bin/sh', ['sh', '-c', 'echo ' + PROOF])",
    ),
    "chroot_escape": (
        "proof",
        "try: check(libc.unshare(0x10000000))\nexcept OSError: pass\nos.chroot('/'); proof()",
    ),
}

ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for group, attacks in {
        "read": READ,
        "write": WRITE,
        "net": NET,
        "resource": RESOURCE,
        "others": OTHERS,
        "kernel": KERNEL,
    }.items()
    for attack in _group(group, attacks)
}
