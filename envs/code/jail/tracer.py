"""Notes what a program's own lines assign, while it runs. The result leaves the jail as hostile data."""

from __future__ import annotations

import dis
import sys
from types import CodeType, FrameType
from typing import Any

MOST_ENTRIES = 200
LONGEST_TEXT = 40
WIDEST_INT = 256  # bits


class Tracer:
    """Follows one module-level code object. ``entries`` holds ``name=value`` per executed store of an int, bool or str."""

    def __init__(self, code: CodeType) -> None:
        self.entries: list[str] = []
        self._code = code
        self._pending: str | None = None
        self._stores = {
            step.offset: step.argval for step in dis.get_instructions(code) if step.opname in ("STORE_NAME", "STORE_GLOBAL")
        }

    def start(self) -> None:
        """Begin; only the program's own frame is followed, functions it calls run at full speed."""
        sys.settrace(self._call)

    def stop(self) -> None:
        """End; the program may have ended it before."""
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code is not self._code:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._local

    def _local(self, frame: FrameType, event: str, argument: Any) -> Any:
        if self._pending is not None:
            self._note(self._pending, frame.f_globals.get(self._pending))
            self._pending = None
        if event == "opcode" and len(self.entries) < MOST_ENTRIES:
            self._pending = self._stores.get(frame.f_lasti)
        return self._local

    def _note(self, name: str, value: object) -> None:
        kind = type(value)  # exact types: a subclass would run its own code here
        if kind is bool or (kind is int and value.bit_length() <= WIDEST_INT):  # type: ignore[attr-defined]
            self.entries.append(f"{name}={value}")
        elif kind is str and len(value) <= LONGEST_TEXT:  # type: ignore[arg-type]
            self.entries.append(f"{name}={value!r}")
