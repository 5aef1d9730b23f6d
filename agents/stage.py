"""What a node does when it is visited: roles speak, the environment admits a proposal or takes an action.

Everything here is independent of LangGraph; ``graph.py`` only decides who is visited next. What the environment does
meanwhile is ``world.py``.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sparring.envs.types import Finish, Parsed, Refusal, Score, Segment, Task, Turn, Validity
from sparring.scenarios.errors import ContractBroken
from sparring.scenarios.schema import NodeSpec
from sparring.scenarios.seeds import derive

from .book import ENVIRONMENT, Book
from .conditions import VERIFIER, outcome, outcome_before
from .engine import DEMONSTRATION, Completion, Engine, Message, Renderer, Request, spoken, tokens_of
from .hollow import hollow
from .rewards import Reward
from .role import OUTCOME, Role, View
from .rubric import given_rubric
from .scaffold import drawn, items_of
from .seal import NONCE, sealed, word
from .templates import Prompt
from .world import Acted, Pool, Proposal, Standing, admit_all, demonstrate_all, step_all

POLICY = "policy"
EMPTY = "empty_answer"  # a score without a value: a judge's turn about an answer without content; its note says why
RULE = "rule"  # what such a turn names as its engine
Read = tuple[tuple[int, ...], tuple[Message, ...]]  # all that a role has read when it speaks: tokens, and messages
MAX_TURNS = 4096  # an episode that would grow beyond this stops growing


class Work(Protocol):
    """Runs a blocking call off the event loop."""

    def __call__(self, fn: Callable[..., Any], /, *args: Any) -> Awaitable[Any]: ...


@dataclass(frozen=True)
class Runtime:
    """What an episode is played with. ``engines`` is by role name; the one called ``policy`` serves all other roles.

    ``seed`` holds the parts every turn's seed is derived from (run seed, step). ``admit_filter`` may refuse a task the
    environment accepted (seen before, held out). ``reserved`` are the keys of tasks that are not drawn. ``tools`` is a
    line for each tool, for prompts. ``rewards`` are the scenario's own by name, ``memories`` what roles read of their
    own past, by role. ``book`` is the episode's own: ``play`` puts a new one in.
    """

    roles: Mapping[str, Role]
    engines: Mapping[str, Engine]
    renderer: Renderer
    environments: Pool
    tools: tuple[str, ...] = ()
    seed: tuple[object, ...] = (0,)
    work: Work = asyncio.to_thread
    admit_filter: Callable[[Task], Refusal | None] = lambda task: None
    reserved: frozenset[str] = frozenset()
    policy_version: Callable[[], int] = lambda: 0
    rewards: Mapping[str, Reward] = field(default_factory=dict)
    memories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    book: Book = field(default_factory=Book)

    def derived(self, *parts: object) -> int:
        """A seed of this episode's own."""
        return derive(*self.seed, self.book.index, *parts)


# -- roles -------------------------------------------------------------------------------------------------------------


async def speak(runtime: Runtime, name: str, node: NodeSpec, waiting: Sequence[int | None]) -> list[Turn]:
    """One visit of a role node: ``node.samples`` children for every picked turn, in one call of the engine.

    Turns that the engine could not make are written, and end their branches: they are not returned.
    """
    book = runtime.book
    role = _role(runtime, name, node)
    parents = picked(book, waiting, node, runtime.derived(name, "pick", len(book.turns)))
    parents = parents[: max(0, (MAX_TURNS - len(book.turns)) // node.samples)]
    if not parents:
        return []
    first = book.reserve(len(parents) * node.samples)
    prompt = role.prompt_at(node.prompt)
    drafts: list[Turn] = []
    read: list[Read] = []
    for parent in parents:
        view = _view(runtime, role, name, parent)
        context, follows, news = _context(runtime, role, prompt, parent, view, node.fresh)
        before = book.prompt_ids(follows) + context.token_ids, book.messages(follows) + news
        trained = _trained_under(book, role, node, parent, before[0])
        task = book.task(parent)
        for sample in range(node.samples):
            seed = runtime.derived(name, parent, sample)
            key = task.key if task else None
            place = first + len(drafts)
            draft = Turn(place, parent, name, role.name, "", sample, follows, context, trained, task=key, seed=seed)
            helped = _helped(runtime, role, prompt, draft, view, node.samples)
            drafts.append(draft if helped is None else helped[0])
            read.append(before if helped is None else helped[1])
            book.heard[place] = news if helped is None else helped[1][1]
    shown = await _demonstrations(runtime, role, name, drafts) | _turned_down(runtime, role, prompt, drafts)
    asked = [place for place in range(len(drafts)) if place not in shown]
    own = runtime.derived(role.name)
    requests = [
        Request(ids, role.spec.sampling, drafts[place].seed, role.name, role.spec.adapter, own, messages)
        for place in asked
        for ids, messages in [read[place]]
    ]
    done = shown | dict(zip(asked, await _sampled(runtime, role, requests), strict=True))
    made = [_said(runtime, role, prompt, draft, done[place]) for place, draft in enumerate(drafts)]
    return [turn for turn in made if turn.finish is not Finish.ABORT]


async def _sampled(runtime: Runtime, role: Role, requests: Sequence[Request]) -> list[Completion]:
    if not requests:
        return []
    engine = runtime.engines.get(role.name) or runtime.engines[POLICY]
    completions = await engine.generate(requests)
    if len(completions) != len(requests):
        raise ContractBroken(f"engine {engine!r}: {len(requests)} requests, {len(completions)} completions")
    return completions


async def _demonstrations(runtime: Runtime, role: Role, name: str, drafts: Sequence[Turn]) -> dict[int, Completion]:
    """By place: turns that the environment speaks in the role's stead, a share of ``demonstrated``, where it can."""
    share = role.spec.demonstrated
    if not share:
        return {}
    drawn = (random.Random(derive(draft.seed, DEMONSTRATION)).random() for draft in drafts)
    chosen = [at for at, one in enumerate(drawn) if one < share and drafts[at].task is not None]
    book = runtime.book
    places = [
        (_standing(book, name, parent), book.last_words(parent)) for at in chosen for parent in [drafts[at].parent]
    ]
    told: list[str | None] = await runtime.work(demonstrate_all, runtime.environments, role.contract, places)
    found = {}
    for place, text in zip(chosen, told, strict=True):
        if text is not None:
            ids = spoken(text, runtime.renderer)
            unknown = (math.nan,) * len(ids)
            found[place] = Completion(ids, unknown, Finish.STOP, runtime.policy_version(), DEMONSTRATION)
    return found


def _role(runtime: Runtime, name: str, node: NodeSpec) -> Role:
    role = runtime.roles.get(node.role or "")
    if role is None:
        raise ContractBroken(f"node {name!r} needs role {node.role!r}; the roles are {', '.join(runtime.roles)}")
    return role


def _view(runtime: Runtime, role: Role, name: str, parent: int | None) -> View:
    """What lies before the role at node ``name``, with the word of this call."""
    view = runtime.book.view(role.name, parent, role.sees)
    word = outcome_before(runtime.book, parent) if OUTCOME in role.sees else ""
    memory = runtime.memories.get(role.name, ())
    return replace(view, tools=runtime.tools, nonce=_nonce(runtime, name, parent), outcome=word, memory=memory)


def _nonce(runtime: Runtime, name: str, parent: int | None) -> str:
    return word(runtime.derived(name, parent, NONCE))


def _context(
    runtime: Runtime, role: Role, prompt: Prompt, parent: int | None, view: View, fresh: bool
) -> tuple[Segment, int | None, tuple[Message, ...]]:
    """What the role newly reads, rendered and as messages, and the turn of its own that it goes on from."""
    before = None if fresh else next((turn for turn in runtime.book.path(parent) if turn.author == role.name), None)
    messages = role.observe(view, prompt)
    if before is None:
        return runtime.renderer.open(messages), None, tuple(messages)
    return runtime.renderer.extend(before.finish, messages), before.index, tuple(messages)


def _trained_under(book: Book, role: Role, node: NodeSpec, parent: int | None, read: tuple[int, ...]) -> Segment | None:
    """The prompt of the role's newest turn at ``node.train_as``; ``None``: what was read, there is no other."""
    if node.train_as is None:
        return None
    stand_in = (turn for turn in book.path(parent) if turn.node == node.train_as and turn.author == role.name)
    before = next(stand_in, None)
    prompt = None if before is None else book.trained_prompt(before.index)
    return None if prompt is None or prompt.token_ids == read else prompt


def _helped(
    runtime: Runtime, role: Role, prompt: Prompt, draft: Turn, view: View, siblings: int
) -> tuple[Turn, Read] | None:
    """The draft as it opens a conversation with help, which its update does not read; ``None`` where it reads none."""
    spec, book = role.spec.scaffold, runtime.book
    helping = None if spec is None else role.helping(prompt)
    if spec is None or helping is None or draft.follows is not None:
        return None
    items = items_of(spec.shows, book.rubrics_before(view.task, draft.parent), view.task)
    if not items:
        return None
    help = drawn(spec, items, draft.sample, siblings, draft.seed)
    book.give(draft.index, [help.score()])
    if not help.places:
        return None
    messages = role.observe(replace(view, scaffold=help.variables), helping)
    context = runtime.renderer.open(messages)
    stripped = None if help.kept else draft.train_context or draft.context
    return draft.amended(context=context, train_context=stripped), (context.token_ids, tuple(messages))


def _turned_down(runtime: Runtime, role: Role, prompt: Prompt, drafts: Sequence[Turn]) -> dict[int, Completion]:
    """By place: what a judge says of answers without content, for which it is not asked."""
    found: dict[int, Completion] = {}
    for at, draft in enumerate(drafts if role.refuses_empty else ()):
        why = _empty(runtime.book, draft.parent)
        view = _view(runtime, role, draft.node, draft.parent)
        said = role.turn_down(view.criteria) if why else None
        if said is not None:
            text = sealed(said, view.nonce) if NONCE in prompt.variables else said
            ids = tokens_of(text, runtime.renderer)
            unknown, version = (math.nan,) * len(ids), runtime.policy_version()
            found[at] = Completion(ids, unknown, Finish.STOP, version, RULE, text=text, error=why)
    return found


def _empty(book: Book, parent: int | None) -> str:
    """Why the answer that is judged after this turn has no content; empty where it has."""
    judged = None if parent is None else book.spoken(book.turn(parent))
    if judged is None or judged.author == ENVIRONMENT:
        return ""
    asked = [message.content for message in book.heard.get(judged.index, ())]
    asked += [] if judged.parent is None else [book.turn(judged.parent).said]
    return next((why for one in ("", *asked) if (why := hollow(judged.said, one))), "")


def _said(runtime: Runtime, role: Role, prompt: Prompt, draft: Turn, done: Completion) -> Turn:
    book = runtime.book
    said = clean(runtime.renderer.decode(done.token_ids) if done.text is None else done.text)
    lost = done.finish is Finish.ABORT  # silence that means nothing, whatever the role's parser makes of silence
    heard = role.understand(said, _nonce(runtime, draft.node, draft.parent), prompt)
    turn = draft.amended(
        said=said,
        token_ids=tuple(done.token_ids),
        logprobs=tuple(done.logprobs),
        finish=done.finish,
        policy_version=done.policy_version,
        engine=done.engine,
        spans=tuple(done.spans),
        parsed=Parsed(role.contract, None, done.error) if lost else heard,
    )
    if lost:
        book.failures[turn.index] = f"engine {done.engine}: {done.error}"
        book.over.add(turn.index)
        book.give(turn.index, [Score.invalid(name, done.engine, done.error) for name in role.spec.reward])
    if done.engine == RULE:
        book.give(turn.index, [Score(EMPTY, None, Validity.MISSING, RULE, done.error)])
    return book.write(turn)


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
    if node.pick == "contrast":  # a wrong one that has a right one beside it: what the two differ in can be said
        return [index for index in sides[False] if book.pair(index) is not None][: node.at_most or 1]
    even = min(len(sides[True]), len(sides[False]), (limit + 1) // 2)
    balanced = [index for pair in zip(sides[True][:even], sides[False][:even], strict=True) for index in pair][:limit]
    # one side alone: a single turn, or the easy groups would teach that everything is right
    return balanced or (sides[True] + sides[False] + sides[None])[:1]


# -- the environment ---------------------------------------------------------------------------------------------------


async def admit(runtime: Runtime, name: str, node: NodeSpec, waiting: Sequence[int | None]) -> list[Turn]:
    """One visit of an ``admit`` node: every proposal becomes a task or a refusal, off the loop."""
    book = runtime.book
    parents = [book.turn(index) for index in picked(book, waiting, node, runtime.derived(name)) if index is not None]
    first = book.reserve(len(parents))
    proposals = [_proposal(runtime, name, node, turn) for turn in parents]
    results: list[Refusal | Acted] = await runtime.work(admit_all, runtime.environments, proposals)
    turns = []
    for index, (parent, proposal, result) in enumerate(zip(parents, proposals, results, strict=True), first):
        if isinstance(result, Acted):
            result = runtime.admit_filter(result.standing.task) or result
        draft = Turn(index, parent.index, name, ENVIRONMENT, "", task=parent.task, seed=proposal.seed)
        turns.append(_refuse(runtime, draft, result) if isinstance(result, Refusal) else stand(runtime, draft, result))
    return turns


def _proposal(runtime: Runtime, name: str, node: NodeSpec, turn: Turn) -> Proposal:
    book, seed = runtime.book, runtime.derived(name, turn.index, "admit")
    about = None if book.seed is None else _standing(book, name, turn.index)
    return Proposal(_proposed(turn), book.parameters, turn.author, seed, node.refuse, about)


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
    book.seats |= frozenset(acted.seats)
    if acted.failure:
        book.failures[draft.index] = acted.failure
    if acted.over:
        book.over.add(draft.index)
    if acted.rubric:
        book.rubrics[draft.index] = given_rubric(acted.rubric, task, draft.index)
    turn = draft.amended(
        said=clean(acted.said),
        task=task.key,
        policy_version=runtime.policy_version(),
        engine=acted.stamp,
        addressee=acted.addressee,
    )
    return book.write(turn)


async def step(runtime: Runtime, name: str, node: NodeSpec, waiting: Sequence[int | None]) -> list[Turn]:
    """One visit of a ``step`` node: every waiting turn is an action; its scores go to the acting turn, or to seats."""
    book = runtime.book
    actions = [book.turn(index) for index in picked(book, waiting, node, runtime.derived(name)) if index is not None]
    first = book.reserve(len(actions))
    jobs = [(_standing(book, name, turn.parent), turn.said) for turn in actions]
    results: list[Acted] = await runtime.work(step_all, runtime.environments, jobs)
    turns = []
    for index, (action, acted) in enumerate(zip(actions, results, strict=True), first):
        book.give(action.index, acted.scores)
        for seat, scores in acted.seat_scores.items():
            book.give(book.newest(seat, action.index), scores)
        draft = Turn(index, action.index, name, ENVIRONMENT, "", seed=acted.standing.seed)
        turns.append(stand(runtime, draft, acted))
    return turns


def _standing(book: Book, name: str, index: int | None) -> Standing:
    """Where the environment stands for whoever acts after turn ``index``."""
    # A branch that is over goes on from before its last action: a revision replaces the answer it revises.
    for turn in book.path(index):
        standing = book.states.get(turn.index)
        if isinstance(standing, Standing) and turn.index not in book.over:
            return standing
    raise ContractBroken(f"node {name!r}: no task was set before it; put a do: admit node before it")
