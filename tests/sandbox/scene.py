"""What the attacks are aimed at: secrets, a database, listeners, a terminal, and a victim process of the same user."""

from __future__ import annotations

import contextlib
import os
import pty
import secrets
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path

_VICTIM = """
import ctypes, os, signal, sys
secret = ctypes.create_string_buffer(os.environ['SECRET'].encode())
held = os.open(sys.argv[2], os.O_RDONLY)
def hit(number, frame):
    open(sys.argv[3], 'w').close()
for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGURG, signal.SIGIO, signal.SIGHUP):
    signal.signal(number, hit)
print(ctypes.addressof(secret), held, flush=True)
while True:
    signal.pause()
"""


class Scene:
    """Made afresh once per corpus; ``harm`` tells what an attack did to it and mends it for the next."""

    def __init__(self, token: str) -> None:
        """``token``: what must not come out; it is also in this process's environment, where the attacks look."""
        self.token = token
        self.proof, self.tag = secrets.token_hex(8), "tag" + secrets.token_hex(8)
        self.folder = Path(tempfile.mkdtemp(prefix="scene-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.home, self.scratch = self.folder / "home", self.folder / "scratch"
        self.secret, self.db, self.hit = self.folder / "secret", self.folder / "rows.db", self.folder / "hit"
        self._listeners()
        (self.folder / "keys").write_text(token)
        self.held = os.open(self.folder / "keys", os.O_RDONLY)  # a secret among our own descriptors
        os.set_inheritable(self.held, True)
        self.terminal, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.terminal_path = os.ttyname(self._slave)
        self.nice = os.getpriority(os.PRIO_PROCESS, 0)
        self.victim: subprocess.Popen[str] | None = None
        self.mend()

    def _listeners(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.path, self.abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self.path.bind(str(self.folder / "listener"))
        os.chmod(self.folder / "listener", 0o777)
        self.abstract.bind("\0" + self.tag)
        self.path.listen()
        self.abstract.listen()

    def mend(self) -> None:
        """Everything in its place, the victim alive."""
        for folder in (self.home, self.scratch):
            wipe(folder)
            folder.mkdir()
        self.scratch.chmod(0o777)
        (self.home / ".ssh").mkdir()
        (self.home / ".ssh" / "id_rsa").write_text(self.token)
        self.secret.unlink(missing_ok=True)
        self.secret.write_text(self.token)
        self.secret.chmod(0o644)
        self.db.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(self.db)) as rows, rows:
            rows.execute("create table rows (said text)")
            rows.execute("insert into rows values (?)", [self.token])
        self._db_before = self.db.read_bytes(), self.db.stat().st_mtime_ns
        self.hit.unlink(missing_ok=True)
        if self.victim is None or self.victim.poll() is not None or self._reniced(self.victim.pid):
            self._revive()

    def _reniced(self, pid: int) -> bool:
        return os.getpriority(os.PRIO_PROCESS, pid) != self.nice

    def _revive(self) -> None:
        if self.victim is not None:
            self._end_victim()
        self.victim = subprocess.Popen(
            [sys.executable, "-S", "-c", _VICTIM, self.token, str(self.secret), str(self.hit)],
            stdout=subprocess.PIPE,
            env={"SECRET": self.token},
            text=True,
        )
        assert self.victim.stdout is not None
        address, held = self.victim.stdout.readline().split()
        self.address, self.victim_held = int(address), int(held)

    def _end_victim(self) -> None:
        assert self.victim is not None
        self.victim.kill()
        self.victim.communicate()

    def names(self) -> str:
        """Assignments that a source begins with: everything an attacker could have found out, but not the token."""
        assert self.victim is not None
        known = {
            "HOME": str(self.home), "SCRATCH": str(self.scratch), "SECRET": str(self.secret), "DB": str(self.db),
            "VICTIM": self.victim.pid, "ADDRESS": self.address, "HELD": self.victim_held, "TRAINER": os.getpid(),
            "TCP": self.tcp.getsockname()[1], "UDP": self.udp.getsockname()[1], "UNIX": str(self.folder / "listener"),
            "ABSTRACT": self.tag, "PTY": self.terminal_path, "PROOF": self.proof, "TAG": self.tag,
        }  # fmt: skip
        return "".join(f"{name} = {value!r}\n" for name, value in known.items())

    def harm(self) -> list[str]:
        """What changed on the machine; mended before this returns."""
        found = [*self._files_changed(), *self._heard(), *self._victim_hurt()]
        daemons = tagged(self.tag)
        for pid in daemons:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        found += ["a daemon survived"] * bool(daemons)
        for stray in (Path("/tmp") / self.tag, Path("/dev/shm") / self.tag):
            if stray.exists():
                found.append(f"{stray.parent} was written")
                wipe(stray)
        if found or any(self.scratch.iterdir()):
            found += [f"left {path.name}" for path in self.scratch.iterdir()]
            self.mend()
        return found

    def _files_changed(self) -> list[str]:
        found = []
        if not self.secret.exists() or self.secret.stat().st_mode & 0o777 != 0o644:
            found.append("the secret was moved or its mode changed")
        elif os.listxattr(self.secret):
            found.append("the secret got an attribute")
        if not self.db.exists() or (self.db.read_bytes(), self.db.stat().st_mtime_ns) != self._db_before:
            found.append("the database changed")
        if sorted(path.name for path in self.home.iterdir()) != [".ssh"]:
            found.append("the home was written")
        return found

    def _heard(self) -> list[str]:
        """Which listener received the tag."""
        found = []
        for name in ("tcp", "path", "abstract"):
            listener: socket.socket = getattr(self, name)
            while select.select([listener], [], [], 0)[0]:
                with listener.accept()[0] as peer:
                    peer.settimeout(0.5)
                    with contextlib.suppress(TimeoutError):
                        found += [f"{name} heard"] * bool(peer.recv(64))
        while select.select([self.udp], [], [], 0)[0]:
            found += ["udp heard"] * bool(self.udp.recv(64))
        if select.select([self._slave], [], [], 0)[0]:
            os.read(self._slave, 100)
            found.append("the terminal was typed into")
        return found

    def _victim_hurt(self) -> list[str]:
        assert self.victim is not None
        if self.victim.poll() is not None:
            return ["the victim died"]
        found = ["the victim was signalled"] * self.hit.exists()
        found += ["the victim's priority changed"] * self._reniced(self.victim.pid)
        limits = Path(f"/proc/{self.victim.pid}/limits").read_text().splitlines()
        if next(line for line in limits if line.startswith("Max open files")).split()[3] == "7":
            found.append("the victim's limits changed")
            self._revive()
        return found

    def close(self) -> None:
        """Remove it all."""
        self._end_victim()
        for listener in (self.tcp, self.udp, self.path, self.abstract):
            listener.close()
        for descriptor in (self.held, self.terminal, self._slave):
            os.close(descriptor)
        wipe(self.folder)


def wipe(path: Path) -> None:
    """Remove whatever is there, however deep or forbidden."""
    if path.is_dir():
        subprocess.run(["chmod", "-R", "u+rwx", str(path)], check=True)
    subprocess.run(["rm", "-rf", str(path)], check=True)


def tagged(tag: str) -> list[int]:
    """Processes whose first argument is ``tag``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if tag.encode() in (folder / "cmdline").read_bytes().split(b"\0")[:1]:
                found.append(int(folder.name))
    return found


def settle(seconds: float) -> None:
    """Give a signal or a datagram time to arrive."""
    time.sleep(seconds)
