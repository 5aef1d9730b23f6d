"""What the role graph costs beside the model: milliseconds per episode and per role turn with scripted words.

Run ``python benchmarks/graph.py``. The environment does nothing and the engine answers from a string, so everything
measured is ours: LangGraph, templates, rendering, parsing, the book. The plain row is LangGraph alone, visiting as many
nodes that do nothing.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

from sparring.agents.engine import ByteRenderer, Request, ScriptedEngine
from sparring.agents.graph import RoleGraph, build_graph, play
from sparring.agents.presets import propose_solve_critique_revise
from sparring.agents.role import Role, make_role
from sparring.agents.settle import settle
from sparring.agents.stage import Runtime
from sparring.agents.world import Pool
from sparring.envs.base import Environment
from sparring.envs.types import Episode, Refusal, Score, Task
from sparring.scenarios.schema import RoleSpec

EPISODES = 200
PROGRAM = "a = 3 + 4\nb = a + 5\nprint(b)"
SPECS: dict[str, dict[str, Any]] = {
    "teacher": {"prompt": "brief/teacher", "reward": ["learnability"]},
    "solver": {"prompt": "brief/solver", "reward": {"verifier": 1.0, "rubric": 0.3}},
    "critic": {"prompt": "brief/critic", "reward": {"verdict": 1.0, "revision_gain": 0.5}},
    "rubric_writer": {"prompt": "brief/rubric_writer", "sees": ["reference", "trace"], "reward": ["discrimination"]},
}
WORDS = {
    "teacher": PROGRAM,
    "critic": "<verdict>wrong</verdict>",
    "rubric_writer": "4 answer is 12\n1 a is 7 after line 1\n1 b is 12 after line 2",
}


class Still(Environment):
    """Every text is a program that prints 12."""

    disclosures = ("reference", "trace")

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Any) -> Task | Refusal:
        """The task of printing 12."""
        return Task("still", {"program": text}, {"reference": "12", "trace": ["a=7", "b=12"]}, parameters)

    def begin(self, task: Task) -> str:
        """Nothing to say."""
        return ""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Right when the answer tag begins with 12."""
        value = float("<answer>12<" in action)
        return "", value, True, False, {"scores": [Score.valued("verifier", value, "still")]}

    def state(self) -> object:
        """There is none."""
        return None

    def set_state(self, state: Any) -> None:
        """Nothing to set."""


def script(prompt: str, request: Request) -> str:
    """Solvers are right half the time; everybody else always says the same."""
    if request.tag in WORDS:
        return WORDS[request.tag]
    return f"<think>a=7\nb=12</think><answer>{12 if request.seed % 2 else 5}</answer>"


async def at_once(fn: Callable[..., Any], /, *args: Any) -> Any:
    """Work without a thread: what is measured is the graph."""
    return fn(*args)


def timed(play_one: Callable[[int], Awaitable[Any]], count: int = EPISODES) -> tuple[float, list[Any]]:
    """Median milliseconds of ``count`` calls one after another, and their results."""

    async def run() -> tuple[float, list[Any]]:
        spans, results = [], []
        for index in range(count):
            began = time.perf_counter()
            results.append(await play_one(index))
            spans.append(1000 * (time.perf_counter() - began))
        return statistics.median(spans), results

    asyncio.run(timed_once(play_one))
    return asyncio.run(run())


async def timed_once(play_one: Callable[[int], Awaitable[Any]]) -> None:
    """Warm every cache."""
    for index in range(10):
        await play_one(index)


class Count(TypedDict):
    """The plain graph's state."""

    seen: int


def plain_graph(n_nodes: int) -> Any:
    """A chain of nodes that do nothing."""

    async def visit(state: Count) -> dict[str, int]:
        return {"seen": state["seen"] + 1}

    graph = StateGraph(Count)
    names = [f"n{number}" for number in range(n_nodes)]
    for name in names:
        graph.add_node(name, visit)
    for source, target in zip([START, *names], names, strict=False):
        graph.add_edge(source, target)
    return graph.compile()


def role_turns(episode: Episode) -> int:
    """Turns that a role spoke."""
    return sum(turn.engine != "" for turn in episode.turns)


def main() -> None:
    """Measure and print the table."""
    roles: dict[str, Role] = {
        name: make_role(name, RoleSpec(**{"kind": name, "sampling": {"max_tokens": 200}, **spec}))
        for name, spec in SPECS.items()
    }
    graph: RoleGraph = build_graph(propose_solve_critique_revise())
    engines = {"policy": ScriptedEngine(script)}
    threads = Runtime(roles, engines, ByteRenderer(), Pool(Still))
    inline = Runtime(roles, engines, ByteRenderer(), Pool(Still), work=at_once)
    rows: list[tuple[str, float, float]] = []
    for name, runtime in (("play, environment in a thread", threads), ("play, environment inline", inline)):
        span, episodes = timed(lambda index, runtime=runtime: play(graph, runtime, {"depth": 2}, index=index))  # type: ignore[misc]
        rows.append((name, span, span / statistics.fmean(map(role_turns, episodes))))
    n_turns = statistics.fmean(map(role_turns, episodes))
    began = time.perf_counter()
    for episode in episodes:
        settle(episode, roles, Still())
    span = 1000 * (time.perf_counter() - began) / len(episodes)
    rows.append(("settle", span, span / n_turns))
    chain = plain_graph(len(graph.spec.nodes))
    span, _ = timed(lambda index: chain.ainvoke({"seen": 0}))
    rows.append((f"LangGraph alone, {len(graph.spec.nodes)} empty nodes", span, span / n_turns))
    print(f"{EPISODES} episodes, {n_turns:.1f} role turns each")
    print(f"{'':38}{'ms/episode':>12}{'ms/role turn':>14}")
    for name, span, share in rows:
        print(f"{name:38}{span:12.2f}{share:14.3f}")


if __name__ == "__main__":
    main()
