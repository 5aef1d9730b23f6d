"""The embedded engine as requests join it in mid-decode: no barrier between calls.

One thread draws tokens while anybody waits for some, and ends when nobody does. Callers are coroutines of any loop.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sparring.agents.engine import Completion, Request, Weights
from sparring.scenarios.errors import EngineError

if TYPE_CHECKING:
    from .embedded import TransformersEngine
    from .slots import Answer, Batch

Told = Callable[[int, int], None]


@dataclass(eq=False)
class _Call:
    """One ``generate``: its completions by place, and the places of the tickets that are still awaited."""

    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[list[Completion]]
    found: list[Completion | None]
    awaited: dict[int, int]

    def tell(self, told: Told, place: int, token: int) -> None:
        """Let the caller know of a token, from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(told, place, token)

    def settle(self, error: BaseException | None = None) -> None:
        """Tell the caller, from any thread."""
        with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            self.loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: BaseException | None) -> None:
        if self.answer.done():
            return  # cancelled meanwhile
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result([done for done in self.found if done is not None])


class Stream:
    """What ``TransformersEngine.stream`` gives. A request draws what it would draw in any other company.

    Requests of different adapters are decoded in batches of their own, a token of each in turn.
    """

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine
        self._tickets = itertools.count()
        self._news = threading.Condition()  # guards all below, and rings whenever any of it changes
        self._calls: dict[int, _Call] = {}  # by ticket
        self._joining: list[tuple[int, Answer]] = []
        self._leaving: set[int] = set()
        self._batches: dict[str, Batch] = {}
        self._thread: threading.Thread | None = None
        self._drawing = False
        self._held = 0
        self.steps = 0  # rounds of one token for everybody, so far
        self.paused = False
        self.closed = False

    @property
    def name(self) -> str:
        """The engine's."""
        return self.engine.name

    @property
    def policy_version(self) -> int:
        """The engine's."""
        return self.engine.policy_version

    @property
    def live(self) -> int:
        """Requests that are being decoded or wait to be."""
        return len(self._calls)

    async def generate(self, requests: Sequence[Request], told: Told | None = None) -> list[Completion]:
        """One completion per request, in order. Cancelling it frees its slots.

        ``told`` is called in the caller's loop for every token as it is drawn, with the request's place and the token.
        Raises ``EngineError`` for what cannot be served, and whatever kept a token from being drawn.
        """
        turned_away = self.engine.turned_away(requests)
        asked = {next(self._tickets): place for place in range(len(requests)) if place not in turned_away}
        if not asked:
            return list(turned_away.values())
        loop = asyncio.get_running_loop()
        call = _Call(loop, loop.create_future(), [turned_away.get(place) for place in range(len(requests))], asked)
        with self._news:
            if self.closed:
                raise self._shut()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="decoding")
                thread.start()  # it waits for the lock
                self._thread = thread
            for ticket, place in asked.items():
                hears = None if told is None else partial(call.tell, told, place)
                self._joining.append((ticket, self.engine.answer(requests[place], hears)))
            self._calls |= dict.fromkeys(asked, call)
            self._news.notify_all()
        try:
            return await call.answer
        except asyncio.CancelledError:
            self._forget(call)
            raise

    async def load(self, version: int, weights: Weights) -> None:
        """As ``TransformersEngine.load``; what is being decoded goes on with the new weights and carries spans."""
        await self.engine.load(version, weights)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """No token is drawn inside; what is being decoded keeps its cache and goes on after."""
        with self._news:
            self._held += 1
        try:
            if self._drawing:
                await asyncio.to_thread(self._settled)
            yield
        finally:
            self._release()

    @contextmanager
    def still(self) -> Iterator[None]:
        """``hold`` for callers that do not await."""
        with self._news:
            self._held += 1
        try:
            self._settled()
            yield
        finally:
            self._release()

    async def pause(self) -> None:
        """Draw no more until ``resume``; requests still join and wait. Returns once nothing is being drawn."""
        with self._news:
            self._held += not self.paused
            self.paused = True
        await asyncio.to_thread(self._settled)

    def resume(self) -> None:
        """Go on after ``pause``."""
        with self._news:
            paused, self.paused = self.paused, False
        if paused:
            self._release()

    def renew(self, version: int) -> None:
        """The weights have changed; only inside ``hold``, or while nothing is decoded."""
        with self._news:
            for batch in self._batches.values():
                batch.renew(version)
            for _, answer in self._joining:
                answer.renew(version)

    def close(self) -> None:
        """End the thread; who still waits gets an error, and so does who asks later."""
        with self._news:
            self.closed = True
            thread = self._thread
            self._news.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Draw tokens until nobody waits for any."""
        while self._go_on():
            error, done = None, []
            try:
                done = self._draw()
            except BaseException as raised:  # the border: whatever it was, who waits must hear of it
                error = raised
            with self._news:
                self._drawing = False
                self.steps += 1
                if error is not None:
                    self._fail(error)
                self._hand_out(done)
                self._news.notify_all()

    def _go_on(self) -> bool:
        """Wait while held; whether there is anything to draw. If not, the thread is given up."""
        with self._news:
            while self._calls and not self.closed and self._held:
                self._news.wait(1.0)
                self.closed = self.closed or not threading.main_thread().is_alive()  # or it could never be joined
            if self.closed:
                self._fail(self._shut())
            if not self._calls:
                self._batches, self._joining, self._thread = {}, [], None
                self._leaving.clear()
            self._drawing = bool(self._calls)
            return self._drawing

    def _draw(self) -> list[tuple[int, Completion]]:
        """A token for everybody; who has ended."""
        import torch

        with self._news:
            joining, self._joining = self._joining, []
            leaving, self._leaving = self._leaving, set()
        done: list[tuple[int, Completion]] = []
        with torch.inference_mode():
            for ticket, answer in joining:
                adapter = answer.request.adapter
                if adapter not in self._batches:
                    self._batches[adapter] = self.engine.batch(adapter)
                self._batches[adapter].put(ticket, answer)
            for adapter, batch in self._batches.items():
                if leaving:
                    batch.drop(leaving)
                if batch.busy:
                    self.engine.speak_with(adapter)
                    done += [(ticket, self.engine.complete(answer)) for ticket, answer in batch.advance()]
        return done

    def _hand_out(self, done: Sequence[tuple[int, Completion]]) -> None:
        for ticket, completion in done:
            call = self._calls.pop(ticket, None)
            if call is not None:
                call.found[call.awaited.pop(ticket)] = completion
                if not call.awaited:
                    call.settle()

    def _forget(self, call: _Call) -> None:
        """Nobody waits for the rest of this call any more."""
        with self._news:
            for ticket in call.awaited:
                self._calls.pop(ticket, None)
                self._leaving.add(ticket)
            self._news.notify_all()

    def _fail(self, error: BaseException) -> None:
        """Tell everybody who waits; what is being decoded is given up, and later requests start afresh."""
        for call in dict.fromkeys(self._calls.values()):
            call.settle(error)
        self._calls, self._batches, self._joining = {}, {}, []
        self.engine.forget()

    def _settled(self) -> None:
        with self._news:
            self._news.wait_for(lambda: not self._drawing)

    def _release(self) -> None:
        with self._news:
            self._held -= 1
            self._news.notify_all()

    def _shut(self) -> EngineError:
        return EngineError("the embedded engine was closed; what it was asked for was not decoded to the end")
