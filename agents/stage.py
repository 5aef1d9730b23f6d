"""What a node does when it is visited: roles speak, the environment admits a proposal or takes an action.

Everything here is independent of LangGraph; ``graph.py`` only decides who is visited next.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from sparring.envs.base import Environment
from sparring.envs.types import Refusal, Score, Segment, Task, Turn
from sparring.scenarios.errors import ContractBroken
from sparring.scenarios.schema import NodeSpec
from sparring.scenarios.seeds import derive

from .book import ENVIRONMENT, Book
from .conditions import VERIFIER, outcome
from .engine import Completion, Engine, Renderer, Request
from .role import Role
from .templates import Prompt

POLICY = "policy"
MAX_TURNS = 4096  # an episode that would grow beyond this stops growing


class Work(Protocol):
    """Runs a blocking call off the event loop."""

    def __call__(self, fn: Callable[..., Any], /, *args: Any) -> Awaitable[Any]: ...


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


@dataclass(frozen=True)
class Runtime:
    """What an episode is played with. ``engines`` is by role name; the one called ``policy`` serves all other roles.

    ``seed`` holds the parts every turn's seed is derived from (run seed, step). ``admit_filter`` may refuse a task the
    environment accepted (seen before, held out). ``book`` is the episode's own: ``play`` puts a new one in.
    """

    roles: Mapping[str, Role]
    engines: Mapping[str, Engine]
    renderer: Renderer
    environments: Pool
    seed: tuple[object, ...] = (0,)
    work: Work = asyncio.to_thread
    admit_filter: Callable[[Task], Refusal | None] = lambda task: None
    policy_version: Callable[[], int] = lambda: 0
    book: Book = field(default_factory=Book)

    def derived(self, *parts: object) -> int:
        """A seed of this episode's own."""
        return derive(*self.seed, self.book.index, *parts)


# -- roles -------------------------------------------------------------------------------------------------------------


async def speak(runtime: Runtime, name: str, node: NodeSpec, waiting: Sequence[int | None]) -> list[Turn]:
    """One visit of a role node: ``node.samples`` children for every picked turn, in one call of the engine."""
    book = runtime.book
    role = _role(runtime, name, node)
    parents = picked(book, waiting, node, runtime.derived(name, "pick", len(book.turns)))
    parents = parents[: max(0, (MAX_TURNS - len(book.turns)) // node.samples)]
    if not parents:
        return []
    first = book.reserve(len(parents) * node.samples)
    prompt = role.prompt_at(node.prompt)
    drafts: list[Turn] = []
    requests: list[Request] = []
    for parent in parents:
        context, follows = _context(runtime, role, prompt, parent, node.fresh)
        prompt_ids = book.prompt_ids(follows) + context.token_ids
        task = book.task(parent)
        for sample in range(node.samples):
            seed = runtime.derived(name, parent, sample)
            key = task.key if task else None
            place = first + len(drafts)
            drafts.append(Turn(place, parent, name, role.name, "", sample, follows, context, task=key, seed=seed))
            requests.append(Request(prompt_ids, role.spec.sampling, seed, role.name, role.spec.adapter))
    engine = runtime.engines.get(role.name) or runtime.engines[POLICY]
    completions = await engine.generate(requests)
    if len(completions) != len(requests):
        raise ContractBroken(f"engine {engine!r}: {len(requests)} requests, {len(completions)} completions")
    return [_said(runtime, role, draft, done) for draft, done in zip(drafts, completions, strict=True)]


def _role(runtime: Runtime, name: str, node: NodeSpec) -> Role:
    role = runtime.roles.get(node.role or "")
    if role is None:
        raise ContractBroken(f"node {name!r} needs role {node.role!r}; the roles are {', '.join(runtime.roles)}")
    return role


def _context(
    runtime: Runtime, role: Role, prompt: Prompt, parent: int | None, fresh: bool
) -> tuple[Segment, int | None]:
    book = runtime.book
    before = None if fresh else next((turn for turn in book.path(parent) if turn.author == role.name), None)
    messages = role.observe(book.view(role.name, parent, role.sees), prompt)
    if before is None:
        return runtime.renderer.open(messages), None
    return runtime.renderer.extend(before.finish, messages), before.index


def _said(runtime: Runtime, role: Role, draft: Turn, done: Completion) -> Turn:
    said = clean(runtime.renderer.decode(done.token_ids))
    turn = draft.amended(
        said=said,
        token_ids=tuple(done.token_ids),
        logprobs=tuple(done.logprobs),
        finish=done.finish,
        policy_version=done.policy_version,
        engine=done.engine,
        parsed=role.parse(said),
    )
    runtime.book.write(turn)
    return turn


def clean(text: str) -> str:
    """``text`` without lone surrogates, which neither UTF-8 nor a database takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def picked(book: Book, waiting: Sequence[int | None], node: NodeSpec, seed: int) -> list[int | None]:
    """Which waiting turns a role acts on: ``node.pick``, at most ``node.at_most`` among attempts of one parent."""
    if node.pick == "all" and node.at_most is None:
        return list(waiting)
    groups: dict[int | None, list[int]] = {}
    for index in waiting:
        if index is not None:
            groups.setdefault(book.spoken(book.turn(index)).parent, []).append(index)
    rng = random.Random(seed)
    chosen = [index for group in groups.values() for index in _pick(book, group, node, rng)]
    return [*sorted(chosen), *(index for index in waiting if index is None)]


def _pick(book: Book, group: list[int], node: NodeSpec, rng: random.Random) -> list[int]:
    limit = len(group) if node.at_most is None else node.at_most
    if node.pick == "first":
        return sorted(group)[: node.at_most or 1]
    known = {index: outcome(book.score(book.turn(index), VERIFIER)) for index in group}
    shuffled = rng.sample(group, len(group))
    sides = {side: [index for index in shuffled if known[index] is side] for side in (True, False, None)}
    if node.pick == "right":
        return sides[True][:limit]
    if node.pick == "wrong":
        return sides[False][:limit]
    if node.pick == "all":
        return shuffled[:limit]
    even = min(len(sides[True]), len(sides[False]), (limit + 1) // 2)
    balanced = [index for pair in zip(sides[True][:even], sides[False][:even], strict=True) for index in pair][:limit]
    # one side alone: a single turn, or the easy groups would teach that everything is right
    return balanced or (sides[True] + sides[False] + sides[None])[:1]


# -- the environment ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an environment stands on a branch: its snapshot or, when it takes none, how to get there again."""

    task: Task
    seed: int
    snapshot: object | None
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acted:
    """What came of one action (or of a reset: no scores)."""

    said: str
    standing: Standing
    scores: tuple[Score, ...] = ()
    over: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed task's text with what the environment needs to judge it."""

    text: str
    parameters: Mapping[str, Any]
    author: str
    seed: int


async def admit(runtime: Runtime, name: str, node: NodeSpec, waiting: Sequence[int | None]) -> list[Turn]:
    """One visit of an ``admit`` node: every proposal becomes a task or a refusal, off the loop."""
    book = runtime.book
    parents = [book.turn(index) for index in picked(book, waiting, node, runtime.derived(name)) if index is not None]
    first = book.reserve(len(parents))
    proposals = [
        Proposal(_proposed(turn), book.parameters, turn.author, runtime.derived(name, turn.index, "admit"))
        for turn in parents
    ]
    results: list[Refusal | Acted] = await runtime.work(admit_all, runtime.environments, proposals)
    turns = []
    for index, (parent, proposal, result) in enumerate(zip(parents, proposals, results, strict=True), first):
        if isinstance(result, Acted):
            result = runtime.admit_filter(result.standing.task) or result
        draft = Turn(index, parent.index, name, ENVIRONMENT, "", task=parent.task, seed=proposal.seed)
        turns.append(_refuse(runtime, draft, result) if isinstance(result, Refusal) else stand(runtime, draft, result))
    return turns


def _proposed(turn: Turn) -> str:
    value = turn.parsed.value if turn.parsed is not None and turn.parsed.ok else None
    return value if isinstance(value, str) else turn.said


def _refuse(runtime: Runtime, draft: Turn, refusal: Refusal) -> Turn:
    if draft.parent is not None:
        runtime.book.refusals[draft.parent] = refusal
    words = f"refused: {refusal.reason}" + (f" ({refusal.detail})" if refusal.detail else "")
    return runtime.book.write(draft.amended(said=clean(words), policy_version=runtime.policy_version()))


def stand(runtime: Runtime, draft: Turn, acted: Acted) -> Turn:
    """Write an environment turn and remember where the environment stands after it."""
    book = runtime.book
    task = acted.standing.task
    book.tasks.setdefault(task.key, task)
    book.states[draft.index] = acted.standing
    if acted.over:
        book.over.add(draft.index)
    said = clean(acted.said)
    return book.write(draft.amended(said=said, task=task.key, policy_version=runtime.policy_version()))


async def step(runtime: Runtime, name: str, node: NodeSpec, waiting: Sequence[int | None]) -> list[Turn]:
    """One visit of a ``step`` node: every waiting turn is an action; its scores are the acting turn's scores."""
    book = runtime.book
    actions = [book.turn(index) for index in picked(book, waiting, node, runtime.derived(name)) if index is not None]
    first = book.reserve(len(actions))
    jobs = [(_standing(book, name, turn), turn.said) for turn in actions]
    results: list[Acted] = await runtime.work(step_all, runtime.environments, jobs)
    turns = []
    for index, (action, acted) in enumerate(zip(actions, results, strict=True), first):
        book.scores[action.index] = (*book.scores.get(action.index, ()), *acted.scores)
        draft = Turn(index, action.index, name, ENVIRONMENT, "", seed=acted.standing.seed)
        turns.append(stand(runtime, draft, acted))
    return turns


def _standing(book: Book, name: str, action: Turn) -> Standing:
    # A branch that is over goes on from before its last action: a revision replaces the answer it revises.
    for turn in book.path(action.parent):
        standing = book.states.get(turn.index)
        if isinstance(standing, Standing) and turn.index not in book.over:
            return standing
    raise ContractBroken(f"node {name!r}: no task was set before turn {action.index}; put a do: admit node before it")


def reset_one(pool: Pool, task: Task, seed: int) -> Acted:
    """Set ``task`` in an environment of the pool; blocking."""
    with pool.lend() as environment:
        return _reset(environment, task, seed)


def _reset(environment: Environment, task: Task, seed: int) -> Acted:
    said, _ = environment.reset(seed=seed, options={"task": task})
    return Acted(said, Standing(task, seed, environment.snapshot() if environment.can_snapshot else None))


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


def _step(environment: Environment, standing: Standing, action: str) -> Acted:
    if standing.snapshot is not None:
        environment.restore(standing.snapshot)
    else:
        environment.reset(seed=standing.seed, options={"task": standing.task})
        for taken in standing.actions:
            environment.step(taken)
    said, reward, terminated, truncated, info = environment.step(action)
    scores = info.get("scores")
    if scores is None:  # a plain Gymnasium environment: its reward is the verdict
        scores = [Score.valued(VERIFIER, float(reward), ENVIRONMENT)]
    over = bool(terminated or truncated)
    snapshot = environment.snapshot() if not over and environment.can_snapshot else None  # nothing goes on from an end
    after = replace(standing, snapshot=snapshot, actions=(*standing.actions, action))
    return Acted(said, after, tuple(scores), over)
