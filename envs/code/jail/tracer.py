"""Notes what a program's own lines assign, while it runs. The result leaves the jail as hostile data."""

from __future__ import annotations

import dis
import sys
from types import CodeType, FrameType
from typing import Any

MOST_ENTRIES = 200
LONGEST_TEXT = 40
WIDEST_INT = 256  # bits
_STORES = ("STORE_NAME", "STORE_GLOBAL")


class Tracer:
    """Follows one module-level code object. ``entries``: ``name=value`` per executed store of an int, bool or str."""

    def __init__(self, code: CodeType, namespace: dict[str, Any]) -> None:
        self.entries: list[str] = []
        self._code = code
        self._namespace = namespace
        self._pending: str | None = None
        self._stores = {step.offset: step.argval for step in dis.get_instructions(code) if step.opname in _STORES}

    def start(self) -> None:
        """Begin; only the program's own frame is followed, functions it calls run at full speed."""
        if sys.version_info < (3, 12):
            sys.settrace(self._call)
            return
        watch = sys.monitoring  # from 3.12 on settrace no longer reports every opcode reliably
        watch.use_tool_id(watch.DEBUGGER_ID, "trace")
        watch.register_callback(watch.DEBUGGER_ID, watch.events.INSTRUCTION, self._instruction)
        watch.set_local_events(watch.DEBUGGER_ID, self._code, watch.events.INSTRUCTION)

    def stop(self) -> None:
        """End; the program may have ended it before."""
        sys.settrace(None)
        if sys.version_info >= (3, 12) and sys.monitoring.get_tool(sys.monitoring.DEBUGGER_ID):
            sys.monitoring.set_local_events(sys.monitoring.DEBUGGER_ID, self._code, 0)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code is not self._code:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._local

    def _local(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._instruction(self._code, frame.f_lasti if event == "opcode" else -1)
        return self._local

    def _instruction(self, code: CodeType, offset: int) -> None:
        """Called before each instruction: what the previous one stored is there now."""
        if self._pending is not None:
            self._note(self._pending, self._namespace.get(self._pending))
        self._pending = self._stores.get(offset) if len(self.entries) < MOST_ENTRIES else None

    def _note(self, name: str, value: object) -> None:
        kind = type(value)  # exact types: a subclass would run its own code here
        if kind is bool or (kind is int and value.bit_length() <= WIDEST_INT):  # type: ignore[attr-defined]
            self.entries.append(f"{name}={value}")
        elif kind is str and len(value) <= LONGEST_TEXT:  # type: ignore[arg-type]
            self.entries.append(f"{name}={value!r}")
