"""The zygote: a small interpreter with its modules imported, that forks one locked-in child per program.

Two processes: a keeper, which watches the process that started it, and the zygote proper, which serves. The zygote
never reads a program: source and streams are descriptors it hands on.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from . import kernel, landlock, namespaces
from .child import MOST_FILES, Layers, Order, become
from .lives import Lives, report
from .seccomp import Filter

# available to every program on every tier, because they are here before the door closes
PRELOAD = """
abc array ast base64 binascii bisect calendar cmath codecs collections collections.abc contextlib copy csv ctypes
dataclasses datetime decimal difflib dis enum errno fractions functools gc graphlib hashlib heapq html inspect io
itertools json keyword locale math numbers operator os os.path pprint queue random re reprlib resource secrets select
signal socket statistics string struct sys textwrap threading time timeit tokenize traceback types typing
unicodedata warnings weakref zlib encodings.ascii encodings.latin_1 encodings.utf_8 encodings.utf_16 encodings.idna
encodings.cp437 _strptime stringprep zipfile platform uuid hmac shlex fnmatch getpass sched symtable colorsys mmap
argparse contextvars glob ipaddress logging pathlib pickle tempfile urllib.parse
""".split()  # noqa: SIM905 - a literal would fill a page
_CONTROL = 3
_NEVER_S = 1e6  # without the layer called clock: tests only
_PATIENCE_S = 1.0  # how often the keeper asks whether its starter still lives


def main(settings_text: str, descriptor: int) -> NoReturn:
    """Set up the layers, say so on the control socket ``descriptor``, serve until it closes."""
    if descriptor != _CONTROL:  # a low number, so that closing "all others" in a child closes this one for sure
        os.dup2(descriptor, _CONTROL, inheritable=False)
        os.close(descriptor)
    control = socket.socket(fileno=_CONTROL)
    settings: dict[str, Any] = json.loads(settings_text)
    starter = os.getppid()
    try:
        _limit_files()
        _preload()
        folders, hidden = _readable()
        if "namespaces" in settings["layers"]:
            namespaces.enter(folders, hidden)
        inner = os.fork()
        if inner:
            control.close()
            _keep(inner, starter)
        kernel.die_with_parent()
        layers = _lock_zygote(settings["layers"], folders)
    except BaseException as error:
        control.send(json.dumps({"failed": str(error)[:400], "errno": getattr(error, "errno", None) or 0}).encode())
        os._exit(1)
    control.send(json.dumps({"ready": os.getpid()}).encode())
    _serve(control, layers, "clock" in settings["layers"])


def _limit_files() -> None:
    hardest = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = MOST_FILES if hardest == resource.RLIM_INFINITY else min(MOST_FILES, hardest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _preload() -> None:
    for name in PRELOAD:
        try:
            importlib.import_module(name)
        except ImportError:  # a trimmed interpreter: programs get the same error
            continue
    for name in [name for name in sys.modules if name == "jail" or name.startswith("jail.")]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()


def _readable() -> tuple[list[str], list[str]]:
    """Folders a program may read (standard library, shared libraries in use) and those inside them it may not."""
    folders = [os.path.realpath(path) for path in sys.path if os.path.isdir(path)]
    with open("/proc/self/maps") as maps:
        mapped = {line.split(None, 5)[5].strip() for line in maps if ".so" in line}
    folders += [os.path.dirname(os.path.realpath(path)) for path in mapped if path.startswith("/")]
    unique = sorted(set(folders), key=len)
    outer = [path for path in unique if not any(path.startswith(other + "/") for other in unique)]
    hidden = [f"{path}/{name}" for path in outer for name in ("site-packages", "dist-packages")]
    return outer, [path for path in hidden if os.path.isdir(path)]


def _lock_zygote(names: list[str], folders: list[str]) -> Layers:
    handle = None
    if "landlock" in names:
        handle = landlock.ruleset(_entries(folders))
    if "user" in names:
        kernel.drop_bounding()
        kernel.become_nobody()
        kernel.drop_capabilities()
        kernel.stay_private()
        kernel.die_with_parent()
    os.chdir("/")
    seccomp = Filter(paths="paths" in names) if "seccomp" in names else None
    return Layers(handle, seccomp, "private" in names, "descriptors" in names, "limits" in names)


def _entries(folders: list[str]) -> list[str]:
    """Everything directly inside the folders but installed packages: Landlock can allow, not subtract."""
    found = []
    for folder in folders:
        names = os.listdir(folder)
        packages = {"site-packages", "dist-packages"} & set(names)
        found += [f"{folder}/{name}" for name in names if name not in packages] if packages else [folder]
    return found


def _keep(inner: int, starter: int) -> NoReturn:
    """Wait for the zygote; take it down when the starter is gone. The starter may be a thread, so no death signal."""
    ended = select.poll()
    with contextlib.suppress(OSError):  # without pidfds the keeper only notices later
        ended.register(os.pidfd_open(inner), select.POLLIN)
    while True:
        ended.poll(_PATIENCE_S * 1000)
        pid, _ = os.waitpid(inner, os.WNOHANG)
        if pid:
            os._exit(0)
        if os.getppid() != starter:
            os.kill(inner, signal.SIGKILL)


def _serve(control: socket.socket, layers: Layers, clock: bool) -> NoReturn:
    poller = select.poll()
    poller.register(control, select.POLLIN)
    lives = Lives(poller)
    while True:
        for descriptor, _ in poller.poll(lives.patience_ms):
            if descriptor != _CONTROL:
                lives.attend(descriptor)
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 4096, 8)
            if not message:
                os._exit(0)
            if descriptors:  # a late "kill" for a program that has ended carries none
                request = json.loads(message)
                if not clock and request["wall_s"] is not None:
                    request["wall_s"] = _NEVER_S
                _begin(request, descriptors, control, layers, lives)
        lives.look()


def _begin(
    request: dict[str, Any], descriptors: list[int], control: socket.socket, layers: Layers, lives: Lives
) -> None:
    order = Order(
        request["memory_bytes"], request["cpu_s"], request["seed"], request["trace"], request["wall_s"] is None
    )
    status_reader, status_writer = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        become(order, layers, descriptors[:5], status_writer)
    for descriptor in [*descriptors[:5], status_writer]:
        os.close(descriptor)
    if order.live:
        lives.add(pid, descriptors[5], status_reader, started)
    else:
        reason = _wait(pid, control, started + request["wall_s"])
        control.send(report(pid, reason, status_reader, started))


def _wait(pid: int, control: socket.socket, deadline: float) -> str:
    """Until the child ends by itself (""), the wall clock runs out ("timeout") or the reader has enough ("told")."""
    try:
        handle: int | None = os.pidfd_open(pid)
    except OSError:  # some kernels and emulations lack it
        handle = None
    poller = select.poll()
    poller.register(control, select.POLLIN)
    if handle is not None:
        poller.register(handle, select.POLLIN)
    try:
        return _watch(pid, handle, poller, control, deadline)
    finally:
        if handle is not None:
            os.close(handle)


def _watch(pid: int, handle: int | None, poller: select.poll, control: socket.socket, deadline: float) -> str:
    while True:
        left_ms = (deadline - time.monotonic()) * 1000
        if left_ms <= 0:
            os.kill(pid, signal.SIGKILL)
            return "timeout"
        events = poller.poll(left_ms if handle is not None else min(left_ms, 2))
        if any(descriptor == control.fileno() for descriptor, _ in events):
            os.kill(pid, signal.SIGKILL)
            if not control.recv(64):
                os._exit(0)
            return "told"
        ended = bool(events) if handle is not None else os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended:
            return ""
