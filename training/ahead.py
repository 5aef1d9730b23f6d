"""Play beside training: how far it may run ahead, and whose turn it is.

Steps are played one after another. With ``ahead`` 0 a step is played once the one before it is trained, saved and
measured; with more, play goes on while the trainer works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from sparring.scenarios.errors import ScenarioError

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario

T = TypeVar("T")
P = ParamSpec("P")
U = TypeVar("U")


def capacity(ahead: int, version: int, batch: int, begun: int) -> int:
    """How many more episodes may be begun so that none is trained more than ``ahead`` updates late.

    ``version`` updates are done, each took ``batch`` episodes, and ``begun`` episodes were ever begun: what is played
    next is trained after the update ``begun // batch``, on weights of ``version`` or newer. Never below 0.
    Source: the staleness bound of AReaL, arXiv 2505.24298.

    >>> capacity(0, 3, 8, 24), capacity(0, 3, 8, 32), capacity(1, 3, 8, 32)
    (8, 0, 8)
    """
    return max(0, (ahead + version + 1) * batch - begun)


def check_ahead(scenario: Scenario, engine: Any, losses: Mapping[str, Any]) -> None:
    """Raise ``ScenarioError`` where play ahead of training would go wrong without a sign.

    The engine must hold weights of its own, and every policy loss must take into account that older weights sampled.
    """
    ahead = scenario.rollout.ahead
    if not ahead:
        return
    if getattr(engine, "shares", False):
        raise ScenarioError(
            f"rollout.ahead: {ahead} lets the engine speak while the trainer changes the tensors it reads; give it a "
            "copy (engine: {kind: transformers, copy: true}), or set rollout.ahead: 0"
        )
    for name, loss in losses.items():
        if not getattr(loss, "corrects", True):
            raise ScenarioError(
                f"rollout.ahead: {ahead} trains on what older weights sampled, and the loss of {name!r} takes no "
                "account of that; use one with the ratio to the engine (dapo, grpo), or give it a correction "
                "(old: start, correction: [{mode: truncate}]), or set rollout.ahead: 0"
            )


class Ahead(Generic[T]):
    """The steps ``first`` to ``last`` as they are played, at most ``ahead`` of them before their turn.

    ``play`` makes one; use as an async context manager, which ends what is still being played.
    """

    def __init__(self, play: Callable[[int], Awaitable[T]], first: int, last: int, ahead: int) -> None:
        self.play, self.last, self.ahead = play, last, ahead
        self._next = first
        self._begun: dict[int, asyncio.Task[T]] = {}
        self._table = asyncio.Lock()

    async def __aenter__(self) -> Ahead[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._begun.values():
            task.cancel()
        await asyncio.gather(*self._begun.values(), return_exceptions=True)

    async def take(self, step: int) -> T:
        """What was played for ``step``, once all steps before it are trained."""
        while self._next <= self.last and capacity(self.ahead, step - 1, 1, self._next - 1):
            self._begun[self._next] = asyncio.ensure_future(self._one(self._next))
            self._next += 1
        return await self._begun.pop(step)

    async def beside(self, work: Callable[P, U], *args: P.args, **kwargs: P.kwargs) -> U:
        """Do the trainer's ``work``: in a thread where play goes on meanwhile."""
        return await asyncio.to_thread(work, *args, **kwargs) if self.ahead else work(*args, **kwargs)

    async def alone(self, work: Awaitable[U]) -> U:
        """Await what needs the environments and the engine for itself, between two steps of play."""
        async with self._table:
            return await work

    async def _one(self, step: int) -> T:
        async with self._table:  # asyncio's locks are fair: steps are played in order
            return await self.play(step)
