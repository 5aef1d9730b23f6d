"""Multi-turn tool use: read a call from model text, run the tool, show the result, until an answer or the last call.

A tool environment says which tools there are and judges the answer; everything between is here.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from .base import Environment
from .tools import Tool, ToolRefused
from .types import Score

ANSWER = "answer"
CALL = "tool_call"
LONGEST_CALL = 1 << 16  # characters; what a model says beyond this is no call
_NAME = re.compile(r"<([A-Za-z_][\w-]{0,63})>")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool by name with its arguments; ``answer`` with ``text`` when the model has finished."""

    name: str
    arguments: Mapping[str, Any]
    text: str = ""


def read_call(text: str, tools: Sequence[Tool]) -> Call | ToolRefused | None:
    """The last thing ``text`` does: a call, an answer, or ``None``; ``ToolRefused`` for a call that cannot be read.

    Two forms are understood: ``<tool_call>{"name": "search", "arguments": {"query": "x"}}</tool_call>``, as Hermes and
    Qwen models write it, and ``<search>x</search>``, where x is the tool's first argument as text. Never raises.

    >>> read_call("<answer>1</answer>", ()).text
    '1'
    """
    known = {tool.name: tool for tool in tools}
    for found in reversed(list(_NAME.finditer(text[-LONGEST_CALL:]))):
        name, inside, closed = found[1], *_within(text[-LONGEST_CALL:], found)
        if name not in (ANSWER, CALL, *known):
            continue
        if not closed:
            return ToolRefused(f"<{name}> is not closed; write <{name}>...</{name}>")
        if name == ANSWER:
            return Call(ANSWER, {}, inside.strip())
        return _json_call(inside, known) if name == CALL else _short_call(inside, known[name])
    return None


def _within(text: str, opened: re.Match[str]) -> tuple[str, bool]:
    inside, closed, _ = text[opened.end() :].partition(f"</{opened[1]}>")
    return inside, bool(closed)


def _short_call(inside: str, tool: Tool) -> Call | ToolRefused:
    names = list(tool.schema.get("properties", {}))
    if not names:
        return Call(tool.name, {})
    kind = tool.schema["properties"][names[0]].get("type")
    said = inside.strip()
    if kind in ("integer", "number"):
        try:
            return Call(tool.name, {names[0]: int(said) if kind == "integer" else float(said)})
        except ValueError:
            return ToolRefused(f"{tool.name}: {names[0]} must be a number, got {said[:60]!r}")
    return Call(tool.name, {names[0]: said})


def _json_call(inside: str, known: Mapping[str, Tool]) -> Call | ToolRefused:
    try:
        read = json.loads(inside)
    except (ValueError, RecursionError) as error:
        return ToolRefused(f"the tool call is not JSON: {error}"[:200])
    if not isinstance(read, dict) or not isinstance(read.get("name"), str):
        return ToolRefused('a tool call is {"name": ..., "arguments": {...}}')
    name, arguments = read["name"], read.get("arguments", {})
    if name not in known:
        return ToolRefused(f"no tool {name[:60]!r}; there are: {', '.join(known) or 'none'}")
    if not isinstance(arguments, dict):
        return ToolRefused(f"{name}: arguments must be an object, got {type(arguments).__name__}")
    return Call(name, arguments)


class ToolOptions(BaseModel):
    """``max_calls``: tool calls per episode. ``max_result``: characters of a result that are shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    max_calls: int = Field(4, ge=0)
    max_result: int = Field(2000, ge=1)


class ToolEnvironment(Environment):
    """A task that is answered with ``<answer>``, after as many tool calls as it takes.

    A subclass gives ``judge`` and, in ``toolbox`` or ``tools``, the tools. A call that cannot be read or does not fit
    is answered with the reason and counts as one. Failures of a tool itself are told to the model too; ``failed``
    counts them, so that ``judge`` may call a score invalid that an outage would make 0.
    """

    Config: ClassVar[type[BaseModel]] = ToolOptions

    def __init__(self, config: BaseModel | Mapping[str, Any] | None = None) -> None:
        """``config`` is a ``ToolOptions``, or a mapping it validates."""
        super().__init__(config)
        self.calls = 0
        self.failed = 0
        self.results: list[str] = []

    def judge(self, answer: str) -> Sequence[Score]:
        """Scores of the final answer, one of them named ``verifier``."""
        raise NotImplementedError(f"{type(self).__name__} must define judge(answer)")

    def unanswered(self, why: str) -> Sequence[Score]:
        """Scores of an episode that ends without an answer."""
        return (Score.valued("verifier", 0.0, by=type(self).__name__, note=why),)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """As every environment's; no call is made yet."""
        self.calls, self.failed, self.results = 0, 0, []
        return super().reset(seed=seed, options=options)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """A call gives its result and goes on; an answer, neither, or a call too many ends the episode."""
        assert self.task is not None, "reset first"
        found = read_call(action, self.toolbox())
        if isinstance(found, Call) and found.name == ANSWER:
            return self._end(self.judge(found.text))
        if found is None:
            return self._end(self.unanswered("neither a tool call nor an answer"))
        if self.calls >= self.config.max_calls:
            return self._end(self.unanswered(f"no answer after {self.calls} tool calls"))
        self.calls += 1
        said = str(found) if isinstance(found, ToolRefused) else self.use(found)
        self.results.append(said)
        return said, 0.0, False, False, {"scores": []}

    def use(self, call: Call) -> str:
        """The text a tool's result is shown as, cut to ``max_result`` characters. Never raises."""
        tool = next(tool for tool in self.toolbox() if tool.name == call.name)
        try:
            result = tool.call(call.arguments)
            shown = str(asyncio.run(result)) if inspect.iscoroutine(result) else str(result)
        except ToolRefused as refused:
            shown = str(refused)
        except Exception as error:  # the border: whatever a tool raises is an observation, and counted
            self.failed += 1
            shown = f"{tool.name} failed: {type(error).__name__}: {error}"
        return shown[: self.config.max_result]

    def _end(self, scores: Sequence[Score]) -> tuple[str, float, bool, bool, dict[str, Any]]:
        main = next((score for score in scores if score.name == "verifier"), None)
        reward = (main.value or 0.0) if main is not None else 0.0
        said = (main.note or str(main.value)) if main is not None else "done"
        return said, reward, True, False, {"scores": list(scores)}

    def state(self) -> object:
        """Calls made, failures, results."""
        return self.calls, self.failed, list(self.results)

    def set_state(self, state: Any) -> None:
        """Back to those."""
        self.calls, self.failed, results = state
        self.results = list(results)
