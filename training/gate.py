"""The gate between episodes and the two things that take time: the engine and environment work.

Episodes await independently. In deterministic mode the gate lets results out in the order they were asked for, and only
when nothing else can move, so batches, and with them every last bit, are the same in every run of the same seed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from sparring.agents.engine import Completion, Engine, Request

T = TypeVar("T")
SETTLE = 32  # turns of the event loop after which parallel nodes of one episode have all asked
PATIENCE = 1000  # turns after which waiting for an episode that is busy elsewhere is no longer a spin
_episode: ContextVar[int | None] = ContextVar("episode", default=None)  # which episode of the play a call is made in


class _Asked(NamedTuple):
    engine: Engine
    requests: Sequence[Request]
    answer: asyncio.Future[Any]
    episode: int | None


class _Working(NamedTuple):
    inner: asyncio.Future[Any]
    outer: asyncio.Future[Any]
    episode: int | None


Call = TypeVar("Call", _Asked, _Working)


@dataclass
class Gate:
    """Hands requests to engines and work to threads. ``run`` must be awaited beside the episodes."""

    workers: int = 2
    deterministic: bool = True
    _asked: list[_Asked] = field(default_factory=list)
    _working: list[_Working] = field(default_factory=list)
    _live: list[asyncio.Future[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="environment")
        self._rung = asyncio.Event()

    async def play(self, episodes: Sequence[Callable[[], Any]]) -> list[Any]:
        """Await all episodes (coroutine functions), in order of the list."""
        self._asked, self._working, self._rung = [], [], asyncio.Event()
        tasks = [asyncio.ensure_future(_numbered(number, episode)) for number, episode in enumerate(episodes)]
        self._live = list(tasks)
        keeper = asyncio.ensure_future(self._keep())
        try:
            together: asyncio.Future[list[Any]] = asyncio.gather(*tasks)
            both: list[asyncio.Future[Any]] = [together, keeper]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not together.done():
                keeper.result()  # the gate itself failed: say so instead of waiting for it forever
            return list(await together)
        finally:
            keeper.cancel()
            for task in tasks:
                task.cancel()

    async def work(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run blocking environment work in a thread."""
        loop = asyncio.get_running_loop()
        inner: asyncio.Future[T] = loop.run_in_executor(self._threads, call, *arguments)
        if not self.deterministic:
            return await inner
        outer: asyncio.Future[T] = loop.create_future()
        self._working.append(_Working(inner, outer, _episode.get()))
        self._rung.set()
        return await outer

    def engine(self, engine: Engine) -> Engine:
        """``engine`` behind the gate: requests of all waiting episodes are decoded together.

        Where order is free, an engine that takes requests while others run (``stream``) is asked directly.
        """
        stream = None if self.deterministic else getattr(engine, "stream", None)
        return _Gated(self, engine) if stream is None else stream()

    def close(self) -> None:
        """End the worker threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, engine: Engine, requests: Sequence[Request]) -> list[Completion]:
        answer: asyncio.Future[list[Completion]] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(engine, requests, answer, _episode.get()))
        self._rung.set()
        return await answer

    async def _keep(self) -> None:
        """Wait until all is still; let finished work out, else decode what was asked for; again."""
        while True:
            await self._still()
            if self._working and (self.deterministic or not self._asked):
                await self._release_work()
            elif self._asked:
                await self._release_answers()

    async def _still(self) -> None:
        if not (self._asked or self._working):
            self._rung.clear()
            await self._rung.wait()
        quiet, seen, turns = 0, (0, 0), 0
        while quiet < SETTLE:
            await asyncio.sleep(0 if turns < PATIENCE else 0.001)
            turns += 1
            now = (len(self._asked), len(self._working))
            quiet, seen = (quiet + 1, seen) if now == seen and not self._moving() else (0, now)

    def _moving(self) -> bool:
        """Whether an episode is between calls: the graph may be on its way through a thread, however long that takes.

        Only who waits here is known to be still. Counting turns of the loop alone would make batches depend on how
        busy the machine is.
        """
        if not self.deterministic:
            return False
        here = {call.episode for call in self._asked} | {call.episode for call in self._working}
        return any(not task.done() and number not in here for number, task in enumerate(self._live))

    def _sorted(self, calls: list[Call]) -> list[Call]:
        """By episode: which of two threads was faster must not decide the order in a batch."""
        if not self.deterministic:
            return calls
        return sorted(calls, key=lambda call: -1 if call.episode is None else call.episode)

    async def _release_work(self) -> None:
        jobs, self._working = self._sorted(self._working), []
        await asyncio.wait([job.inner for job in jobs])
        for job in jobs:
            error = job.inner.exception()
            _answer(job.outer, None if error else job.inner.result(), error)

    async def _release_answers(self) -> None:
        asked, self._asked = self._sorted(self._asked), []
        for engine in dict.fromkeys(call.engine for call in asked):
            mine = [(call.requests, call.answer) for call in asked if call.engine is engine]
            try:
                done = await engine.generate([request for requests, _ in mine for request in requests])
            except Exception as error:  # the border: every waiting episode records it and ends as broken
                for _, answer in mine:
                    _answer(answer, None, error)
                continue
            for requests, answer in mine:
                _answer(answer, done[: len(requests)])
                done = done[len(requests) :]


async def _numbered(number: int, episode: Callable[[], Any]) -> Any:
    _episode.set(number)
    return await episode()


def _answer(waiting: asyncio.Future[Any], value: Any, error: BaseException | None = None) -> None:
    if waiting.done():
        return  # cancelled: nobody waits any more
    if error is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(value)


class _Gated:
    def __init__(self, gate: Gate, engine: Engine) -> None:
        self.gate, self.inner = gate, engine

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return await self.gate._ask(self.inner, requests)
