"""A live child's side of the channel: runs the program once, then calls its functions and runs cells, one at a time.

A frame is its length (4 bytes, of what follows), the request's 6-byte id, one byte (kind or status), then plain data.
"""

from __future__ import annotations

import ast
import os
import sys
from types import CodeType, ModuleType, TracebackType
from typing import Any

from . import plain, program

HELLO = b"h"
START, CALL, CELL = b"SCR"
OK, RAISED, TOO_MUCH = 0, 1, 2  # statuses beside those of ``program``
ID_BYTES = 6
HEADER_BYTES = 4 + ID_BYTES + 1


def frame(identity: bytes, mark: int, payload: bytes) -> bytes:
    """One message, in either direction."""
    length = ID_BYTES + 1 + len(payload)
    return b"".join((length.to_bytes(4, "big"), identity, bytes((mark,)), payload))


def serve(source: bytes) -> int:
    """Answer until the channel closes; the exit status. An error outside a request is the program's doing too."""
    main = program.fresh_main()
    stdout = sys.stdout
    while True:
        request = _receive()
        if request is None:
            return 0
        identity, kind, payload = request
        try:
            status, value = _perform(main, source, kind, payload)
        except BaseException as error:
            program.report(error, _own(error.__traceback__))
            status, value = program.status_of(error), None
        status, data = _packed(status, value)
        _flush(stdout)
        _send(frame(identity, status, data))


def _receive() -> tuple[bytes, int, bytes] | None:
    """The next request: never more than one is under way. ``None`` when the channel is closed."""
    received = os.read(program.EXTRA, 1 << 16)
    while len(received) < 4 or len(received) < 4 + int.from_bytes(received[:4], "big"):
        more = os.read(program.EXTRA, 1 << 20)
        if not more:
            return None
        received += more
    return received[4 : HEADER_BYTES - 1], received[HEADER_BYTES - 1], received[HEADER_BYTES:]


def _send(message: bytes) -> None:
    view = memoryview(message)
    while view:
        view = view[os.write(program.EXTRA, view) :]


def _perform(main: ModuleType, source: bytes, kind: int, payload: bytes) -> tuple[int, Any]:
    """Status and value; what a function raises comes out as it is."""
    if kind == CALL:
        name, arguments = plain.decode(payload)
        if name not in main.__dict__:
            raise NameError(f"name {name!r} is not defined")
        return OK, main.__dict__[name](*arguments)
    if kind == CELL:
        return _cell(main, plain.decode(payload))
    try:
        code = compile(source, "program.py", "exec", dont_inherit=True)
    except BaseException as error:
        program.report(error, None)
        return program.SYNTAX, None
    status = program.execute(code, main)
    return (status if status in (OK, program.MEMORY, program.MODULE) else RAISED), None


def _own(where: TracebackType | None) -> TracebackType | None:
    """The traceback from the program's first frame on."""
    while where is not None and where.tb_frame.f_code.co_filename == __file__:
        where = where.tb_next
    return where


def _cell(main: ModuleType, text: str) -> tuple[int, str | None]:
    """Run a cell; if its last statement is an expression that is not None, its ``repr``."""
    last: CodeType | None = None
    try:
        tree = ast.parse(text.encode("utf-8", "surrogatepass"), "cell")
        if tree.body and isinstance(shown := tree.body[-1], ast.Expr):
            tree.body.pop()
            last = compile(ast.Expression(shown.value), "cell", "eval", dont_inherit=True)
        code = compile(tree, "cell", "exec", dont_inherit=True)
    except BaseException as error:
        program.report(error, None)
        return program.SYNTAX, None
    exec(code, main.__dict__)
    value = eval(last, main.__dict__) if last is not None else None
    return OK, None if value is None else repr(value)


def _packed(status: int, value: Any) -> tuple[int, bytes]:
    if status != OK:
        return status, b""
    try:
        return OK, plain.encode(value)
    except plain.NotPlain as error:
        program.report(TypeError(f"the result cannot be returned: {error}"), None)
        return (TOO_MUCH if error.too_much else RAISED), b""
    except BaseException as error:
        program.report(error, None)
        return program.status_of(error), b""


def _flush(stdout: Any) -> None:
    for stream in (sys.stdout, stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # a stream of the program's own making; what it holds back is not seen
            continue
