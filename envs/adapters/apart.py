"""A foreign library in a process of its own: ended when it hangs, locked in where the kernel can, seeded each call.

Both ends are here. The far end imports one module of ours, which imports the library, and serves its functions by name.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from typing import Any, BinaryIO, Literal

import numpy as np

from sparring.scenarios.errors import SparringError

from .globals import Globals

_START_S = 240.0  # importing a library on a loaded machine; 2 s is usual
_LONGEST = 1 << 24  # bytes of one answer
_MEMORY = 4 << 30
_PASSED = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/share/zoneinfo", "/proc/self")  # what a late import may read
_DATA = ("~/nltk_data", "/usr/share/nltk_data", "/usr/local/share/nltk_data")  # word lists somebody installed
# string hashes are fixed, so that what hangs on the order of a set is the same every time
_SETTINGS = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}


class ForeignError(SparringError, RuntimeError):
    """``how`` the call failed: the function raised, hung past its time (and was killed), or its process died."""

    def __init__(self, how: Literal["raised", "hung", "died"], text: str) -> None:
        super().__init__(text)
        self.how = how


class Apart:
    """The near end. Safe to call from several threads; calls wait for each other."""

    def __init__(self, module: str, locked: bool = True) -> None:
        """``module``: its functions take and give JSON; ``prepare`` imports what they need, before the doors close.

        ``locked``: whether it gives up writing, sockets and programs. The process starts with the first call.
        """
        self._module = module
        self._locked = locked
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.lock_in = ""
        self._ended = 0

    def call(self, function: str, *arguments: Any, timeout_s: float = 30.0) -> Any:
        """What ``function`` returns, in JSON types; raises ``ForeignError``. A process that failed is replaced."""
        request = json.dumps([function, arguments, timeout_s]).encode() + b"\n"
        with self._lock:
            process = self._running()
            answer = self._exchange(process, request, timeout_s)
        if "raised" in answer:
            raise ForeignError("raised", str(answer["raised"]))
        return answer["gave"]

    @property
    def life(self) -> int:
        """Which process serves: what a call left behind is gone when this has changed."""
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._end()
            return self._ended

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", __name__, self._module, "locked" if self._locked else ""],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**passed, **_SETTINGS},
            )
            self.lock_in = str(self._read(self._process, _START_S).get("gave", ""))
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], request: bytes, timeout_s: float) -> dict[str, Any]:
        assert process.stdin is not None, "made with a pipe"
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except OSError:
            self._end()
            raise ForeignError("died", "the process was gone before the call") from None
        return self._read(process, timeout_s)

    def _read(self, process: subprocess.Popen[bytes], timeout_s: float) -> dict[str, Any]:
        assert process.stdout is not None, "made with a pipe"
        descriptor, deadline, said = process.stdout.fileno(), time.monotonic() + timeout_s, b""
        while not said.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._end()
                raise ForeignError("hung", f"no answer within {timeout_s:g} s; the process was ended")
            block = os.read(descriptor, 1 << 16)
            if not block or len(said) > _LONGEST:
                self._end()
                raise ForeignError("died", f"its process ended with status {process.returncode}")
            said += block
        try:
            answer = json.loads(said)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not answer.keys() & {"gave", "raised"}:
            self._end()
            raise ForeignError("died", "its process answered with something that is no answer")
        return answer

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._ended += 1
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # a pipe with words nobody will read
                    pipe.close()


def apart(module: str, locked: bool = True) -> Apart:
    """The one process of this Python that serves ``module``; it ends when Python does."""
    return _only(module, locked)


@cache
def _only(module: str, locked: bool) -> Apart:
    made = Apart(module, locked)
    atexit.register(made.close)
    return made


# -- the far end -------------------------------------------------------------------------------------------------------


def serve(module: str, locked: bool) -> None:
    """Answer requests on standard input until it closes. The library's prints go nowhere."""
    out = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        functions = importlib.import_module(module)
        functions.prepare()
        said = {"gave": lock_in() if locked else "open"}
    except Exception as error:  # told to the near end, which raises it
        _tell(out, {"raised": f"{type(error).__name__}: {error}"})
        return
    _tell(out, said)
    for line in sys.stdin.buffer:
        name, arguments, timeout_s = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, timeout_s + 1.0)  # even when the near end is gone
        try:
            with Globals(name, line).lend():
                said = {"gave": _plain(getattr(functions, name)(*arguments))}
        except (Exception, SystemExit) as error:  # foreign code: its failure is the answer
            said = {"raised": f"{type(error).__name__}: {error}"[:2000]}
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        _tell(out, said)


def lock_in() -> str:
    """Give up files to write, sockets and programs for good; the layers this kernel had, in words."""
    from sparring.envs.code.jail import kernel, landlock
    from sparring.envs.code.jail.seccomp import Filter

    done = ["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    readable = [
        os.path.realpath(path)
        for path in (*sys.path, sys.base_prefix, *_SYSTEM, *(os.path.expanduser(path) for path in _DATA))
        if path
    ]
    kernel.stay_private()
    try:
        landlock.restrict(landlock.ruleset(readable))
        done.append("landlock")
    except OSError:  # an older kernel: the filter below still leaves nothing to write with
        pass
    try:
        Filter(paths=True).install()
        done.append("seccomp")
    except OSError:
        pass
    return "+".join(done)


def _tell(out: BinaryIO, answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer).encode() + b"\n")
    out.flush()


def _plain(value: Any) -> Any:
    """``value`` in JSON types."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2] == "locked")
