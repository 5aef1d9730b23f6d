"""A role plays the engine: what it is told never reaches the searcher, and its words are all the searcher reads."""

from __future__ import annotations

import asyncio

from sparring.agents.engine import ByteRenderer, Request, ScriptedEngine
from sparring.agents.graph import build_graph, play
from sparring.agents.role import make_role
from sparring.agents.stage import Runtime
from sparring.agents.world import Pool
from sparring.envs.search.env import SearchEnvironment
from sparring.envs.search.index import Index
from sparring.scenarios.schema import GraphSpec, RoleSpec

GRAPH = GraphSpec.model_validate(
    {
        "nodes": {
            "ask": {"role": "solver"},
            "look": {"do": "step"},
            "find": {"role": "engine", "fresh": True},
            "read": {"role": "solver", "prompt": "search/found"},
        },
        "edges": ["ask -> look", "look -> find, read if unfinished", "find -> look", "read -> look"],
        "start": "ask",
    }
)
ROLES = {
    "solver": RoleSpec(kind="solver", prompt="search/solver", reward={"verifier": 1.0}),
    "engine": RoleSpec(kind="plain", prompt="search/engine", sees=("reference",), trainable=False),
}


def test_only_the_engine_reads_the_answer_and_whether_to_be_useful(index: Index) -> None:
    options = {"path": str(index.path), "backend": "simulated", "noise": 1.0}
    task = SearchEnvironment(options).task_from_row({"question": "What do whales eat?", "answer": "krill"}, "here")
    read: dict[str, list[str]] = {"solver": [], "engine": []}
    renderer = ByteRenderer()

    def say(prompt: str, request: Request) -> str:
        read[request.tag].append(prompt)
        if request.tag == "engine":
            return "Whales are large."
        return "<answer>plankton</answer>" if "are large" in prompt else "<search>whale food</search>"

    tools = tuple(tool.line for tool in SearchEnvironment(options).toolbox())
    runtime = Runtime(
        {name: make_role(name, spec) for name, spec in ROLES.items()},
        {"policy": ScriptedEngine(say, renderer)},
        renderer,
        Pool(lambda: SearchEnvironment(options)),
        tools=tools,
    )
    episode = asyncio.run(play(build_graph(GRAPH), runtime, task=task))
    assert not episode.error
    assert len(read["engine"]) == 1 and "do not answer it" in read["engine"][0] and "krill" in read["engine"][0]
    heard = "\n".join(read["solver"])
    assert "search(query: string, k: integer = 3): Find documents." in heard and "Whales are large." in heard
    assert "krill" not in heard and "noisy" not in heard and "useful" not in heard
    answered = next(turn for turn in episode.turns if "plankton" in turn.said)
    assert [score.value for score in episode.scores[answered.index] if score.name == "verifier"] == [0.0]


def test_the_same_graph_serves_a_real_engine_and_nobody_plays_it_then(index: Index) -> None:
    row = {"question": "What do whales eat?", "answer": "krill"}
    task = SearchEnvironment({"path": str(index.path)}).task_from_row(row, "here")
    asked: list[str] = []

    def say(prompt: str, request: Request) -> str:
        asked.append(request.tag)
        return "<answer>krill</answer>" if len(asked) > 1 else "<search>whale food</search>"

    renderer = ByteRenderer()
    roles = {name: make_role(name, spec) for name, spec in ROLES.items()}
    pool = Pool(lambda: SearchEnvironment({"path": str(index.path), "backend": "bm25"}))
    runtime = Runtime(roles, {"policy": ScriptedEngine(say, renderer)}, renderer, pool, tools=("search",))
    episode = asyncio.run(play(build_graph(GRAPH), runtime, task=task))
    assert not episode.error and asked == ["solver", "solver"]
    last = episode.scores[
        next(turn.index for turn in episode.turns if "krill" in turn.said and turn.author == "solver")
    ]
    assert {score.name: score.value for score in last}["calls"] == 1.0
