"""The loop that listens: a socket bound before anything is said, uvicorn behind it, an end on Ctrl-C."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import EngineError, MissingExtra

if TYPE_CHECKING:
    import uvicorn

PATIENCE_S = 5  # how long requests may go on after Ctrl-C
KEPT_S = 75  # idle connections: longer than clients keep them, or they would meet closed ones
START_S = 30.0
BACKLOG = 2048  # connections that wait to be accepted


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def need_extra() -> None:
    """Raises ``MissingExtra`` where the server's packages are absent."""
    try:
        import starlette  # noqa: F401  # asked for, not used by name
        import uvicorn  # noqa: F401  # asked for, not used by name
    except ImportError as error:
        raise MissingExtra("sparring serve needs starlette and uvicorn: pip install 'sparring[serve]'") from error


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ``EngineError`` where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's waiting off; without it every answer comes 40 ms late.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(BACKLOG)  # from here on clients wait instead of being turned away
    except OSError as error:
        made.close()
        reason = error.strerror or error
        raise EngineError(f"cannot listen on {host}:{port}: {reason}; --port 0 takes a free one") from error
    return made


def url_of(bound: socket.socket) -> str:
    """Where clients find it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server(app: Any) -> uvicorn.Server:
    """A server that logs errors alone: keys of episodes are in the paths of requests."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=PATIENCE_S,
        timeout_keep_alive=KEPT_S,
        ws="none",
        server_header=False,
    )
    return uvicorn.Server(config)


def run(app: Any, bound: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    with contextlib.suppress(KeyboardInterrupt), bound:  # uvicorn raises the signal again once it has ended
        server(app).run(sockets=[bound])


@contextmanager
def background(app: Any, port: int = 0) -> Iterator[str]:
    """Serve this machine from a thread for the length of the block; the URL. For tests and notebooks."""
    bound = bind("127.0.0.1", port)
    behind = server(app)
    thread = threading.Thread(target=behind.run, kwargs={"sockets": [bound]}, name="serving", daemon=True)
    thread.start()
    until = time.monotonic() + START_S
    while not behind.started:
        if not thread.is_alive() or time.monotonic() > until:
            raise EngineError("the server did not start")
        time.sleep(0.01)
    try:
        yield url_of(bound)
    finally:
        behind.should_exit = True
        thread.join()
        bound.close()
