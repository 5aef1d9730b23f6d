"""The far end of ``verifiers.py``: a rollout of the library, turn by turn, with a model's words from outside."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from .globals import Globals, need

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_HELD_OUT_EVERY = 5  # rows, where an environment has no evaluation set of its own
_COUNTER = itertools.count(1)
_LOOP = asyncio.new_event_loop()  # clients and locks of the library belong to one loop
FAILURES: list[str] = []  # of the rubric's functions while a rollout is scored
_ROLLOUTS: dict[int, _Rollout] = {}


@dataclass
class _Rollout:
    world: Any
    generators: Globals
    state: Any = None
    prompt: Any = None


def prepare() -> None:
    """Import the library."""
    _library()


def open_world(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A place for rollouts of an environment: its number, how many rows there are, its tools."""
    world = _world(name, json.dumps(arguments, sort_keys=True))
    number = next(_COUNTER)
    _ROLLOUTS[number] = _Rollout(world, Globals(name))
    tools = [
        f"{tool.name}: {(tool.description or '').strip().splitlines()[0] if tool.description else ''}".strip(": ")
        for tool in world.tool_defs or ()
    ]
    return {"number": number, "tools": tools, "rows": [len(rows) for rows in _splits(world)]}


def row(name: str, arguments: dict[str, Any], held_out: bool, index: int) -> dict[str, Any]:
    """The words of a row's prompt and its answer."""
    found = _row(_world(name, json.dumps(arguments, sort_keys=True)), held_out, index)
    return {"question": _words(found["prompt"]), "answer": str(found.get("answer") or "")}


def start(number: int, held_out: bool, index: int) -> dict[str, Any]:
    """Begin a rollout on a row; what the model reads first."""
    rollout = _ROLLOUTS[number]
    rollout.generators.seed(held_out, index)
    with rollout.generators.lend():
        _wait(_begin(rollout, _row(rollout.world, held_out, index)))
    return {"said": _words(rollout.state["prompt"])}


def play(number: int, action: str) -> dict[str, Any]:
    """One message of the model. ``done`` with reward and metrics, or what it reads next."""
    rollout = _ROLLOUTS[number]
    with rollout.generators.lend():
        told: dict[str, Any] = _wait(_turn(rollout, action))
    return told


def forget(number: int) -> None:
    """Drop the place."""
    _ROLLOUTS.pop(number, None)


async def _begin(rollout: _Rollout, row: dict[str, Any]) -> None:
    world = rollout.world
    silent = type("Silent", (_library().Client,), dict.fromkeys(_library().Client.__abstractmethods__))
    rollout.state = await world.init_state(dict(row), silent(None), "sparring", {})  # nobody asks that client anything
    changed = await world.setup_state(rollout.state)
    rollout.state = rollout.state if changed is None else changed
    rollout.prompt = await world.get_prompt_messages(rollout.state)


async def _turn(rollout: _Rollout, action: str) -> dict[str, Any]:
    world, state = rollout.world, rollout.state
    await world.add_model_response(state, rollout.prompt, _response(action, bool(state["tool_defs"])))
    if not await world.is_completed(state):
        before = len(rollout.prompt) + 1
        rollout.prompt = await world.get_prompt_messages(state)
        if state.get("final_env_response") is None and not await world.has_error(state):
            return {"said": _words(rollout.prompt[before:]), "done": False}
        await world.is_completed(state)
    await world.cleanup(state)
    if state.get("error") is not None:
        raise RuntimeError(f"the environment failed: {state['error']!r}")
    FAILURES.clear()
    await world.rubric.score_rollout(state)
    if FAILURES:
        raise RuntimeError(f"the rubric's {FAILURES[0]}")
    metrics = {name: float(value) for name, value in (state["metrics"] or {}).items()}
    return {"said": "over", "done": True, "reward": float(state["reward"]), "metrics": metrics}


def _response(text: str, tools: bool) -> Any:
    """``text`` as the library's own response, with the tool calls written in it."""
    types = importlib.import_module("verifiers.types")
    calls, problems = [], []
    for place, found in enumerate(_CALL.findall(text) if tools else ()):
        try:
            read = json.loads(found)
            calls.append(
                types.ToolCall(
                    id=f"call{place}", name=str(read["name"]), arguments=json.dumps(read.get("arguments", {}))
                )
            )
        except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
            problems.append(str(error))
            # the library answers a call it cannot read, and counts it
            calls.append(types.ToolCall(id=f"call{place}", name="", arguments=found))
    content = _CALL.sub("", text).strip() if calls else text
    message = types.ResponseMessage(
        content=content, tool_calls=calls or None, finish_reason="tool_calls" if calls else "stop", is_truncated=False
    )
    return types.Response(id="turn", created=0, model="sparring", message=message)


def _words(messages: Any) -> str:
    """The texts of messages, a blank line between them."""
    if isinstance(messages, str):
        return messages
    return "\n\n".join(text for text in map(_word, messages) if text)


def _word(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else getattr(message, "content", None)
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else getattr(part, "__dict__", {}) for part in content]
        return "\n".join(str(part["text"]) for part in parts if part.get("text"))
    return str(content or "")


def _wait(question: Any) -> Any:
    return _LOOP.run_until_complete(question)


def _library() -> Any:
    return need("verifiers", "verifiers")


@cache
def _world(name: str, arguments: str) -> Any:
    given = json.loads(arguments)
    module, _, function = name.rpartition(":")
    if module:
        world = getattr(importlib.import_module(module), function)(**given)
    else:
        world = _library().load_environment(name, **given)
    _watch(world.rubric)
    return world


def _watch(rubric: Any) -> None:
    """Note what its functions raise: the library itself turns that into 0."""
    for inner in getattr(rubric, "rubrics", ()):
        _watch(inner)
    rubric.funcs[:] = [_watched(function) for function in rubric.funcs]


def _watched(function: Any) -> Any:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asked(*arguments: Any, **named: Any) -> Any:
            with _noting(function):
                return await function(*arguments, **named)

        return asked

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        with _noting(function):
            return function(*arguments, **named)

    return called


@contextmanager
def _noting(function: Any) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        FAILURES.append(f"{getattr(function, '__name__', 'function')} raised {type(error).__name__}: {error}")
        raise


def _splits(world: Any) -> tuple[list[int], list[int]]:
    """Rows of training and of evaluation: the environment's own sets, else every fifth row is held out."""
    rows = range(len(world.get_dataset()))
    if getattr(world, "eval_dataset", None) is not None or getattr(world, "eval_dataset_source", None) is not None:
        return list(rows), list(range(len(world.get_eval_dataset())))
    held = [index for index in rows if index % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1]
    return [index for index in rows if index % _HELD_OUT_EVERY != _HELD_OUT_EVERY - 1], held or list(rows)


def _row(world: Any, held_out: bool, index: int) -> dict[str, Any]:
    own = getattr(world, "eval_dataset", None) is not None or getattr(world, "eval_dataset_source", None) is not None
    rows = world.get_eval_dataset() if held_out and own else world.get_dataset()
    found: dict[str, Any] = rows[_splits(world)[held_out][index]]
    return found
