"""Nodes that change what a branch is about: ``draw`` sets tasks like the one in force, ``recall`` goes back to it.

Who teaches can so be judged by what others make of it on tasks nobody has answered yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from sparring.envs.base import Environment
from sparring.envs.types import SIMILAR, Task, Turn
from sparring.scenarios.errors import ContractBroken
from sparring.scenarios.schema import NodeSpec
from sparring.scenarios.seeds import derive

from .book import ENVIRONMENT
from .stage import MAX_TURNS, Runtime, picked, stand
from .world import Acted, Pool, Standing, named, set_task

TRIES = 32  # draws per task that is wanted, before an environment counts as having no more


async def draw(runtime: Runtime, name: str, node: NodeSpec, waiting: Sequence[int | None]) -> list[Turn]:
    """One visit of a ``draw`` node: under every picked turn ``node.samples`` tasks like the one in force.

    All turns of an episode that are about one task get the same ones, so what comes of them can be compared.
    """
    book = runtime.book
    parents = [book.turn(index) for index in picked(book, waiting, node, runtime.derived(name)) if index is not None]
    parents = parents[: max(0, (MAX_TURNS - len(book.turns)) // node.samples)]
    first = book.reserve(len(parents) * node.samples)
    drawn: dict[str, list[Acted]] = {}
    before = frozenset(book.tasks)  # a task has one origin: one that is there already cannot be drawn like another too
    for parent in parents:
        task = book.task(parent.index)
        if task is None:
            raise ContractBroken(f"node {name!r}: no task was set before it, so there is none to draw others like")
        if task.key not in drawn:
            seed = runtime.derived(name, task.key)
            other = {one.standing.task.key for made in drawn.values() for one in made} | before
            taken = runtime.reserved | {key for key in other if not _like_it(book.tasks.get(key), task)}
            asked = partial(draw_like, runtime.environments, task, node.samples, seed, taken)
            drawn[task.key] = await runtime.work(asked)
    places = [(parent, at) for parent in parents for at in range(node.samples)]
    turns = []
    for index, (parent, at) in enumerate(places, first):
        acted = drawn[str(parent.task)][at]
        draft = Turn(index, parent.index, name, ENVIRONMENT, "", at, seed=acted.standing.seed)
        turns.append(stand(runtime, draft, acted))
    return turns


async def recall(runtime: Runtime, name: str, node: NodeSpec, waiting: Sequence[int | None]) -> list[Turn]:
    """One visit of a ``recall`` node: under every picked turn the task that the drawn one was like is in force again.

    The environment says what it said when it set that task, and stands where it stood before the draw.
    """
    book = runtime.book
    parents = [index for index in picked(book, waiting, node, runtime.derived(name)) if index is not None]
    first = book.reserve(len(parents))
    turns = []
    for index, parent in enumerate(parents, first):
        task = book.task(parent)
        before = [] if task is None else [turn for turn in book.path(parent) if turn.task == task.parent]
        live = (book.states.get(turn.index) for turn in before if turn.index not in book.over)
        standing = next((one for one in live if isinstance(one, Standing)), None)
        if standing is None:
            raise ContractBroken(f"node {name!r}: the task in force was not drawn; put a do: draw node before it")
        said = next(turn.said for turn in reversed(before) if turn.author == ENVIRONMENT)
        draft = Turn(index, parent, name, ENVIRONMENT, "", seed=standing.seed)
        turns.append(stand(runtime, draft, Acted(said, standing)))
    return turns


def _like_it(one: Task | None, task: Task) -> bool:
    return one is not None and one.operator == SIMILAR and one.parent == task.key


def draw_like(pool: Pool, task: Task, count: int, seed: int, reserved: frozenset[str] = frozenset()) -> list[Acted]:
    """``count`` different tasks like ``task``, set; none is that task or one of ``reserved``. Blocking.

    Raises ``ContractBroken`` when the environment has too few.
    """
    return pool.ask("similar", partial(_like, task, count, seed, reserved))


def _like(task: Task, count: int, seed: int, reserved: frozenset[str], environment: Environment) -> list[Acted]:
    rng = np.random.default_rng(seed)
    found: dict[str, Task] = {}
    for _ in range(TRIES * count):
        if len(found) == count:
            break
        fresh = environment.similar(task, rng)
        if not isinstance(fresh, Task):
            raise ContractBroken(f"{named(environment)}: similar gave a {type(fresh).__name__}; it returns a Task")
        if fresh.key != task.key and fresh.key not in reserved:
            origin = fresh.origin or type(environment).__name__
            found.setdefault(fresh.key, replace(fresh, parent=task.key, operator=SIMILAR, origin=origin))
    if len(found) < count:
        raise ContractBroken(
            f"{named(environment)}: {count} tasks like {task.key} were wanted and {len(found)} found in "
            f"{TRIES * count} draws; lower the node's samples, or give the environment a similar() of its own"
        )
    return [set_task(environment, one, derive(seed, at)) for at, one in enumerate(found.values())]
