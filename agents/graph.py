"""From a GraphSpec to a compiled LangGraph, and one run of it: ``build_graph`` and ``play``.

LangGraph decides who is visited next; what a visit does is ``stage.py``. Its state is two small dicts of turn indices.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime as Run
from langgraph.types import Command
from langsmith import tracing_context

from sparring.envs.types import Ending, Episode, Task, Turn
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.registry import conditions, nearest
from sparring.scenarios.schema import END as LEAVE
from sparring.scenarios.schema import GraphSpec, NodeSpec, SearchSpec

from .book import ENVIRONMENT, Book
from .draw import draw, recall
from .search import select
from .stage import Runtime, admit, speak, stand, step
from .world import reset_one

ROUNDS = 32  # how often a branch may go round the whole graph before it is stopped
ROOT = -1  # in an inbox: start from nothing


def _append(held: dict[str, list[int]], new: dict[str, list[int]]) -> dict[str, list[int]]:
    return {**held, **{node: [*held.get(node, ()), *turns] for node, turns in new.items()}}


def _advance(held: dict[str, int], new: dict[str, int]) -> dict[str, int]:
    return {**held, **new}


class State(TypedDict):
    """What travels through LangGraph: turn indices sent to each node, and how many of them it has taken."""

    inbox: Annotated[dict[str, list[int]], _append]
    done: Annotated[dict[str, int], _advance]


Condition = Callable[[Book, Turn], bool]
Visit = Callable[[Runtime, str, NodeSpec, Sequence["int | None"]], Coroutine[Any, Any, "list[Turn]"]]


@dataclass(frozen=True)
class Exit:
    """One way out of a node; ``role`` is who speaks at the target, ``None`` for the environment."""

    target: str
    condition: Condition | None
    role: str | None = None


@dataclass(frozen=True)
class RoleGraph:
    """A compiled graph with the spec it came from. ``longest`` is the number of turns a branch may have, ``visits`` how
    often nodes are visited at most.

    ``entry`` are the exits of its ``admit`` nodes: a task that is given enters where an accepted proposal would.
    """

    spec: GraphSpec
    compiled: CompiledStateGraph[State, Runtime, State, State]
    longest: int
    visits: int
    entry: tuple[Exit, ...] = ()

    def inbox(self, book: Book, given: Turn | None, seed: bool = False) -> dict[str, list[int]]:
        """Who is visited first: the start node, or whoever an accepted proposal would go to when a task is given.

        A ``seed`` goes to the start node: something is proposed about it.
        """
        if given is None:
            return {self.spec.start: [ROOT]}
        if seed or not self.entry:
            return {self._first(given): [given.index]}
        return route(book, [given], self.entry, self.longest)

    def _first(self, given: Turn) -> str:
        """The start node, unless the environment addresses somebody who speaks elsewhere."""
        nodes = self.spec.nodes
        if given.addressee in (None, nodes[self.spec.start].role):
            return self.spec.start
        return next((name for name, node in nodes.items() if node.role == given.addressee), self.spec.start)


def build_graph(spec: GraphSpec) -> RoleGraph:
    """Compile ``spec``. Raises ``ScenarioError`` for an edge to nowhere, ``UnknownPart`` for an unknown condition."""
    longest = ROUNDS * len(spec.nodes)
    exits: dict[str, list[Exit]] = {name: [] for name in spec.nodes}
    for source, target, condition in spec.arrows():
        _known(source, spec)
        if target != LEAVE:
            _known(target, spec)
            holds = conditions.get(condition) if condition else None
            exits[source].append(Exit(target, holds, spec.nodes[target].role))
    _known(spec.start, spec)
    graph = StateGraph(State, context_schema=Runtime)
    for name, node in spec.nodes.items():
        targets = tuple(dict.fromkeys(exit.target for exit in exits[name]))
        graph.add_node(name, _visitor(name, node, exits[name], longest), destinations=(*targets, END))
    graph.add_conditional_edges(START, lambda state: [*state["inbox"]] or END, [*spec.nodes, END])
    entry = tuple(out for name, node in spec.nodes.items() if node.do == "admit" for out in exits[name])
    searches = sum((node.search or SearchSpec()).simulations for node in spec.nodes.values() if node.do == "select")
    return RoleGraph(spec, graph.compile(), longest, longest + searches * len(spec.nodes), entry)


def _known(name: str, spec: GraphSpec) -> None:
    if name not in spec.nodes:
        hint = nearest(name, list(spec.nodes))
        meant = f"; did you mean {hint!r}?" if hint else ""
        raise ScenarioError(f"graph: no node {name!r}{meant} nodes: {', '.join(spec.nodes)}")


ACTS: dict[str | None, Visit] = {
    None: speak, "admit": admit, "step": step, "select": select, "draw": draw, "recall": recall,
}  # fmt: skip


def _visitor(name: str, node: NodeSpec, exits: Sequence[Exit], longest: int) -> Callable[..., Coroutine[Any, Any, Any]]:
    act = ACTS[node.do]

    async def visit(state: State, runtime: Run[Runtime]) -> Command[str]:
        sent = state["inbox"].get(name, [])
        waiting = [None if index == ROOT else index for index in sent[state["done"].get(name, 0) :]]
        turns = await act(runtime.context, name, node, waiting) if waiting else []
        inbox = route(runtime.context.book, turns, exits, longest)
        return Command(update={"inbox": inbox, "done": {name: len(sent)}}, goto=[*inbox])

    return visit


def route(book: Book, turns: Sequence[Turn], exits: Sequence[Exit], longest: int) -> dict[str, list[int]]:
    """Which of ``turns`` goes to which node: along every exit whose condition holds, unless its branch is too long.

    What the environment says to one seat does not go to the nodes of the others.
    """
    inbox: dict[str, list[int]] = {}
    for turn in turns:
        if exits and book.depth(turn.index) >= longest:
            book.note = f"a branch was stopped after {longest} turns"
            continue
        others = book.seats - {turn.addressee} if turn.addressee is not None else frozenset()
        ways = (e for e in exits if e.role not in others and (e.condition is None or e.condition(book, turn)))
        for target in dict.fromkeys(way.target for way in ways):
            inbox.setdefault(target, []).append(turn.index)
    return inbox


async def play(
    graph: RoleGraph,
    runtime: Runtime,
    parameters: Mapping[str, Any] | None = None,
    *,
    task: Task | None = None,
    index: int = 0,
    pick: int = 0,
    admitted: bool = False,
) -> Episode:
    """Play one episode. ``index`` is its place in the step, ``pick`` the curriculum decision it came from.

    ``task`` is what it is about; without one a node of the graph must propose it. In a seeded graph a task is a seed,
    unless it was ``admitted`` before: then it enters where an accepted proposal would. Model text never makes this
    raise; a failure on our side (engine, environment, a plugged-in part) ends the episode as ``Ending.BROKE`` with the
    error's text. An environment that fails at an action, or an engine at a request, ends that branch alone, until most
    do.
    """
    began = time.monotonic()
    given = dict(parameters or (task.parameters if task else {}))
    book = Book(index, pick, given)
    own = replace(runtime, book=book)
    ending, error = None, ""
    seed = graph.spec.seeded and task is not None and not admitted
    book.seed = task.key if seed and task is not None else None
    try:
        inbox = graph.inbox(book, None if task is None else await _set(own, task), seed)
        with tracing_context(enabled=False):  # nothing leaves the machine, whatever LANGSMITH_TRACING says
            await graph.compiled.ainvoke(
                {"inbox": inbox, "done": {}},
                {"recursion_limit": graph.visits + 2},
                context=own,
            )
    except Exception as failure:  # the one border that turns our own failures into data
        ending, error = Ending.BROKE, f"{type(failure).__name__}: {failure} ({_where(failure)})"
    if ending is None and book.failures:
        ending, error = _after(book)
    return book.freeze(ending, error, time.monotonic() - began)


def _after(book: Book) -> tuple[Ending | None, str]:
    """How an episode ends in which an environment or an engine failed: broken when most of its branches did."""
    made = [turn for turn in book.turns if turn is not None]
    inner = {turn.parent for turn in made}
    ends = [turn.index for turn in made if turn.index not in inner]
    failed = sum(any(turn.index in book.failures for turn in book.path(end)) for end in ends)
    first = book.failures[min(book.failures)]
    if 2 * failed > len(ends):
        return Ending.BROKE, first
    return None, f"{failed} of {len(ends)} branches failed; the first: {first}"


def _where(failure: Exception) -> str:
    frame = traceback.extract_tb(failure.__traceback__)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


async def _set(runtime: Runtime, task: Task) -> Turn:
    seed = runtime.derived("task")
    acted = await runtime.work(reset_one, runtime.environments, task, seed)
    return stand(runtime, Turn(runtime.book.reserve(1), None, "task", ENVIRONMENT, "", seed=seed), acted)
