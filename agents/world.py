"""What an environment does for an episode: set a task, judge a proposal, take an action. Blocking; no graph, no roles.

Where it stands after each turn is a ``Standing``, so that branches of one episode can share environments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sparring.envs.base import Environment
from sparring.envs.types import Refusal, Score, Task

from .book import ENVIRONMENT
from .conditions import VERIFIER


class Pool:
    """Environments of one kind, made on demand, each lent to one thread at a time."""

    def __init__(self, factory: Callable[[], Environment]) -> None:
        self._factory = factory
        self._idle: deque[Environment] = deque()

    @contextmanager
    def lend(self) -> Iterator[Environment]:
        """An environment nobody else is using."""
        try:
            environment = self._idle.pop()
        except IndexError:
            environment = self._factory()
        try:
            yield environment
        finally:
            self._idle.append(environment)

    def close(self) -> None:
        """Close every idle environment."""
        while self._idle:
            self._idle.pop().close()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an environment stands on a branch: its snapshot or, when it takes none, how to get there again."""

    task: Task
    seed: int
    snapshot: object | None
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acted:
    """What came of one action (or of a reset: no scores): ``scores`` are the acting turn's, ``seat_scores`` are for the
    newest turn of whoever holds that seat."""

    said: str
    standing: Standing
    scores: tuple[Score, ...] = ()
    over: bool = False
    addressee: str | None = None
    stamp: str = ""
    seats: tuple[str, ...] = ()
    seat_scores: Mapping[str, tuple[Score, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed task's text with what the environment needs to judge it."""

    text: str
    parameters: Mapping[str, Any]
    author: str
    seed: int


def reset_one(pool: Pool, task: Task, seed: int) -> Acted:
    """Set ``task`` in an environment of the pool; blocking."""
    with pool.lend() as environment:
        return _reset(environment, task, seed)


def _reset(environment: Environment, task: Task, seed: int) -> Acted:
    said, _ = environment.reset(seed=seed, options={"task": task})
    standing = Standing(task, seed, environment.snapshot() if environment.can_snapshot else None)
    return _acted(environment, said, standing)


def _acted(environment: Environment, said: str, standing: Standing, info: Any = None, over: bool = False) -> Acted:
    scores = (info or {}).get("scores", ())
    by_seat = scores if isinstance(scores, Mapping) else {}
    return Acted(
        said,
        standing,
        () if by_seat else tuple(scores),
        over,
        environment.addressee,
        environment.stamp,
        tuple(environment.seats),
        {seat: tuple(given) for seat, given in by_seat.items()},
    )


def admit_all(pool: Pool, proposals: Sequence[Proposal]) -> list[Refusal | Acted]:
    """Judge proposals one after another in one environment, and set each task that came of them; blocking."""
    results: list[Refusal | Acted] = []
    with pool.lend() as environment:
        for proposal in proposals:
            rng = np.random.default_rng(proposal.seed)
            found = environment.admit(proposal.text, proposal.parameters, rng)
            if isinstance(found, Refusal):
                results.append(found)
                continue
            parameters = found.parameters or dict(proposal.parameters)
            task = replace(found, origin=found.origin or proposal.author, parameters=parameters)
            results.append(_reset(environment, task, proposal.seed))
    return results


def step_all(pool: Pool, jobs: Sequence[tuple[Standing, str]]) -> list[Acted]:
    """Take actions one after another in one environment, each from where its branch stands; blocking."""
    with pool.lend() as environment:
        return [_step(environment, standing, action) for standing, action in jobs]


def demonstrate_all(pool: Pool, standings: Sequence[Standing]) -> list[str | None]:
    """What the environment itself would do next on each branch; ``None`` where it does not know; blocking."""
    with pool.lend() as environment:
        return [_returned(environment, standing).oracle() for standing in standings]


def _returned(environment: Environment, standing: Standing) -> Environment:
    """The environment where this branch stands."""
    if standing.snapshot is not None:
        environment.restore(standing.snapshot)
        return environment
    environment.reset(seed=standing.seed, options={"task": standing.task})
    for taken in standing.actions:
        environment.step(taken)
    return environment


def _step(environment: Environment, standing: Standing, action: str) -> Acted:
    said, reward, terminated, truncated, info = _returned(environment, standing).step(action)
    if info.get("scores") is None:  # a plain Gymnasium environment: its reward is the verdict
        info = {"scores": [Score.valued(VERIFIER, float(reward), ENVIRONMENT)]}
    over = bool(terminated or truncated)
    snapshot = environment.snapshot() if not over and environment.can_snapshot else None  # nothing goes on from an end
    after = replace(standing, snapshot=snapshot, actions=(*standing.actions, action))
    return _acted(environment, said, after, info, over)
