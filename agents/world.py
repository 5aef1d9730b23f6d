"""What an environment does for an episode: set a task, judge a proposal, take an action. Blocking; no graph, no roles.

Where it stands after each turn is a ``Standing``, so that branches of one episode can share environments.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sparring.envs.base import Environment
from sparring.envs.guard import Ended, Hung, TooManyHang, bounded, cause, short, unusable
from sparring.envs.types import Criterion, Refusal, Score, Task, Validity
from sparring.scenarios.errors import ContractBroken, SparringError

from .book import ENVIRONMENT
from .collusion import collusion
from .conditions import VERIFIER

T = TypeVar("T")
FAILED = "The environment failed."
SAME = "same"  # why a proposal about a task is refused that changes nothing of it
PROPOSED = "proposed"  # what was done to a task, where the environment does not name it


class Pool:
    """Environments of one kind, made on demand, each lent to one thread at a time."""

    def __init__(self, factory: Callable[[], Environment]) -> None:
        self._factory = factory
        self._idle: deque[Environment] = deque()

    @contextmanager
    def lend(self) -> Iterator[Environment]:
        """An environment nobody else is using."""
        environment = self._taken()
        try:
            yield environment
        finally:
            self._idle.append(environment)

    def _taken(self) -> Environment:
        try:
            return self._idle.pop()
        except IndexError:
            return self._factory()

    def ask(self, doing: str, call: Callable[[Environment], T]) -> T:
        """What ``call`` makes of an environment nobody else is using.

        Raises ``ContractBroken`` naming the environment, what it was ``doing`` and the cause, where it raises or does
        not come back within its ``limit_s``; one that did not come back is not used again.
        """
        environment = self._taken()
        what = f"{named(environment)}: {doing}"
        try:
            found = bounded(lambda: call(environment), environment.limit_s, what)
        except Hung as error:
            raise ContractBroken(
                f"{error}; where it needs longer, give its class a larger limit_s (seconds per call)"
            ) from None
        except SparringError:
            self._idle.append(environment)
            raise
        except Ended as error:
            self._idle.append(environment)
            raise ContractBroken(str(error)) from error
        except Exception as error:  # the environment is a plug-in: whatever it raises is told under its name
            self._idle.append(environment)
            raise ContractBroken(f"{what} raised {cause(error)}") from error
        self._idle.append(environment)
        return found

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
    newest turn of whoever holds that seat. ``failure``: why the environment could not act; its branch is over then.
    ``rubric``: criteria that the task brings along, when it was set."""

    said: str
    standing: Standing
    scores: tuple[Score, ...] = ()
    over: bool = False
    addressee: str | None = None
    stamp: str = ""
    seats: tuple[str, ...] = ()
    seat_scores: Mapping[str, tuple[Score, ...]] = field(default_factory=dict)
    failure: str = ""
    rubric: tuple[Criterion, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed task's text with what the environment needs to judge it, and what it is turned away for besides.

    ``about`` is where the environment stands when the proposal is about a task that is set already.
    """

    text: str
    parameters: Mapping[str, Any]
    author: str
    seed: int
    refuse: tuple[str, ...] = ()
    about: Standing | None = None


def reset_one(pool: Pool, task: Task, seed: int) -> Acted:
    """Set ``task`` in an environment of the pool; blocking."""
    return pool.ask("reset", lambda environment: set_task(environment, task, seed))


def named(environment: Environment) -> str:
    """The environment's class and its file, as messages name it."""
    kind = type(environment)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return f"environment {kind.__name__}" + (f" ({Path(file).name})" if file else "")


def set_task(environment: Environment, task: Task, seed: int) -> Acted:
    """Start an episode on ``task`` in this environment; what it says and where it stands."""
    found = environment.reset(seed=seed, options={"task": task})
    if not (isinstance(found, tuple) and len(found) == 2):
        raise _broken(environment, "reset", found, "return observation and info")
    said = _text(environment, "reset", found[0])
    standing = Standing(task, seed, environment.snapshot() if environment.can_snapshot else None)
    return replace(_acted(environment, said, standing), rubric=tuple(environment.rubric(task)))


def _acted(environment: Environment, said: str, standing: Standing, scores: Any = (), over: bool = False) -> Acted:
    by_seat = scores if isinstance(scores, Mapping) else {}
    return Acted(
        said,
        standing,
        () if by_seat else tuple(map(_score, scores)),
        over,
        environment.addressee,
        environment.stamp,
        tuple(environment.seats),
        {seat: tuple(map(_score, given)) for seat, given in by_seat.items()},
    )


def _score(found: object) -> Score:
    """A score as the environment gave it; an invalid one where it is none, or holds no number to learn from."""
    if not isinstance(found, Score):
        return Score.invalid(VERIFIER, ENVIRONMENT, f"{short(found)} is no score: give Score.valued(name, number, by)")
    problem = unusable(found.value) if found.validity is Validity.VALUED else ""
    return Score.invalid(found.name, found.by, problem) if problem else found


def _text(environment: Environment, doing: str, said: object) -> str:
    if not isinstance(said, str):
        raise _broken(environment, doing, said, "an observation is text")
    return said


def _broken(environment: Environment, doing: str, found: object, instead: str) -> ContractBroken:
    return ContractBroken(f"{named(environment)}: {doing} gave {short(found)} ({type(found).__name__}); {instead}")


def admit_all(pool: Pool, proposals: Sequence[Proposal]) -> list[Refusal | Acted]:
    """Judge proposals one after another, and set each task that came of them; blocking."""
    return [pool.ask("admit", partial(_admit, proposal)) for proposal in proposals]


def _admit(proposal: Proposal, environment: Environment) -> Refusal | Acted:
    given = None
    if proposal.about is None:
        environment.task = None  # whatever it was lent for before
    else:
        given = _returned(environment, proposal.about).task
    found = environment.admit(proposal.text, proposal.parameters, np.random.default_rng(proposal.seed))
    if isinstance(found, Refusal):
        return found
    if not isinstance(found, Task):
        raise _broken(environment, "admit", found, "a proposal becomes a Task or a Refusal")
    parameters = found.parameters or dict(proposal.parameters)
    task = replace(found, origin=found.origin or proposal.author, parameters=parameters)
    if given is not None:
        if task.key == given.key:
            return Refusal(SAME, "it is the task that it should be made from")
        task = replace(task, parent=task.parent or given.key, operator=task.operator or PROPOSED)
    set_up = set_task(environment, task, proposal.seed)

    def tried(answer: str) -> Iterator[Score]:
        acted = _step(environment, set_up.standing, answer)
        return chain(acted.scores, *acted.seat_scores.values())

    refused = collusion(proposal.text, task, environment, set_up.said, tried, proposal.refuse)
    return refused or set_up


def step_all(pool: Pool, jobs: Sequence[tuple[Standing, str]]) -> list[Acted]:
    """Take actions one after another, each from where its branch stands; blocking.

    An action at which the environment fails gets an invalid score that says why, and its branch is over.
    """
    return [_tried(pool, standing, action) for standing, action in jobs]


def _tried(pool: Pool, standing: Standing, action: str) -> Acted:
    try:
        return pool.ask("step", lambda environment: _step(environment, standing, action))
    except TooManyHang:
        raise
    except ContractBroken as error:
        scores = (Score.invalid(VERIFIER, ENVIRONMENT, str(error)),)
        return Acted(FAILED, standing, scores, over=True, failure=str(error))


def demonstrate_all(pool: Pool, contract: str, places: Sequence[tuple[Standing, str]]) -> list[str | None]:
    """What the environment itself would say next on each branch in place of a role with this ``contract``.

    A place is where the branch stands, and the last words of a role on it. ``None`` where it does not know; blocking.
    """
    return [pool.ask("demonstration", partial(_shown, contract, *place)) for place in places]


def _shown(contract: str, standing: Standing, said: str, environment: Environment) -> str | None:
    told = _returned(environment, standing).demonstration(contract, said)
    return told if told is None else _text(environment, "demonstration", told)


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
    found = _returned(environment, standing).step(action)
    if not (isinstance(found, tuple) and len(found) == 5 and isinstance(found[4], Mapping)):
        raise _broken(environment, "step", found, "return observation, reward, terminated, truncated and an info dict")
    said, reward, terminated, truncated, info = found
    for flag in (terminated, truncated):
        if flag not in (True, False):
            raise _broken(environment, "step", flag, "terminated and truncated are true or false")
    scores: Any = info.get("scores")
    if scores is None:  # a plain Gymnasium environment: its reward is the verdict
        problem = unusable(reward)
        verdict = Score.invalid(VERIFIER, ENVIRONMENT, f"the reward: {problem}") if problem else None
        scores = [verdict or Score.valued(VERIFIER, float(reward), ENVIRONMENT)]
    if not isinstance(scores, Iterable):
        raise _broken(environment, "step", scores, 'info["scores"] is a list of scores, or maps seats to such lists')
    over = bool(terminated or truncated)
    snapshot = environment.snapshot() if not over and environment.can_snapshot else None  # nothing goes on from an end
    after = replace(standing, snapshot=snapshot, actions=(*standing.actions, action))
    return _acted(environment, _text(environment, "step", said), after, scores, over)
