"""Conversations played through a role graph by players with scripted words, or turn by turn in the environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.engine import ByteRenderer, Request, ScriptedEngine
from sparring.agents.graph import build_graph, play
from sparring.agents.role import Role, make_role
from sparring.agents.stage import Runtime
from sparring.agents.world import Pool
from sparring.envs.dialogue.env import DialogueEnvironment
from sparring.envs.types import Episode, Score, Task
from sparring.scenarios.registry import graphs
from sparring.scenarios.schema import RoleSpec, Sampling

Script = Callable[[str, Request], str]
# Tells all that a template can reach: the conversation and every variable of task and parameters.
GREEDY = "{{ said }} {{ last }} {{ heard }} {{ parameters }} {{ tools }} " + "".join(
    f"{{% if {name} is defined %}}{{{{ {name} }}}}{{% endif %}}"
    for name in ("subject", "wanted", "facts", "rules", "exam", "mistaken", "unknown", "question", "handbook", "rubric",
                 "criteria", "items", "values", "walk", "required")
)  # fmt: skip


def seated(options: Mapping[str, Any], folder: Path, prompt: str, **more: Any) -> dict[str, Role]:
    """A role for each seat that is played, with one prompt."""
    spec = RoleSpec(kind="plain", prompt=prompt, sampling=Sampling(max_tokens=4000), **more)
    environment = DialogueEnvironment(options)
    return {seat: make_role(seat, spec, folder) for seat in environment.seats or (environment.main,)}


def converse(
    folder: Path, options: Mapping[str, Any], task: Task, script: Script, prompt: str = "greedy.md",
    roles: Mapping[str, Role] | None = None,
) -> Episode:  # fmt: skip
    """One episode of the mode's own graph; it must not break."""
    environment = DialogueEnvironment(options)
    suffix = "" if environment.scripted else "-roles"
    graph = graphs.get(f"dialogue-{environment.config.mode}{suffix}")()
    nodes = {name: node.model_copy(update={"samples": 1}) for name, node in graph.nodes.items() if name != "judge"}
    edges = tuple(edge for edge in graph.edges if "judge" not in edge.targets)
    if roles is not None and "judge" in roles:
        nodes, edges = {name: node.model_copy(update={"samples": 1}) for name, node in graph.nodes.items()}, graph.edges
    pool = Pool(partial(DialogueEnvironment, options))
    runtime = Runtime(
        roles or seated(options, folder, prompt), {"policy": ScriptedEngine(script)}, ByteRenderer(), pool
    )
    built = build_graph(graph.model_copy(update={"nodes": nodes, "edges": edges}))
    episode = asyncio.run(play(built, runtime, task=task))
    assert episode.error == "", episode.error
    return episode


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one prompt that prints every variable it is given."""
    made = tmp_path_factory.mktemp("prompts")
    (made / "greedy.md").write_text(GREEDY, encoding="utf-8")
    return made


@pytest.fixture(scope="session")
def talk() -> Callable[..., Episode]:
    """Plays one conversation; see ``converse``."""
    return converse


@pytest.fixture(scope="session")
def at_table() -> Callable[..., dict[str, Role]]:
    """Roles for the seats that are played; see ``seated``."""
    return seated


Said = tuple[str, str, bool, bool, dict[str, Any]]


class Sitting:
    """An environment in which one conversation is going on; ``say`` takes a turn."""

    def __init__(self, seed: int = 1, task: Task | None = None, parameters: Any = None, **options: Any) -> None:
        self.environment = DialogueEnvironment(options)
        given = {"task": task} if task is not None else {"parameters": parameters or {}}
        self.heard, _ = self.environment.reset(seed=seed, options=given)
        self.over = self.truncated = False
        self.scores: dict[str, float | None] = {}
        self.by_seat: dict[str, list[Score]] = {}

    @property
    def task(self) -> Task:
        """What it is about."""
        assert self.environment.task is not None
        return self.environment.task

    def say(self, *turns: str) -> Sitting:
        """Take one turn after the other; ``scores`` are then those of the last."""
        for turn in turns:
            self.heard, _, over, self.truncated, info = self.environment.step(turn)
            self.over = over or self.truncated
            told = info["scores"]
            self.by_seat = told if isinstance(told, dict) else {self.environment.main: told}
            self.scores = {score.name: score.value for score in self.by_seat.get(self.environment.main, ())}
        return self

    def play_oracle(self) -> Sitting:
        """Let the oracle speak until the end."""
        for _ in range(100):
            action = self.environment.oracle()
            if action is None:
                break
            self.say(action)
        assert self.over
        return self


@pytest.fixture
def sit() -> type[Sitting]:
    """The class of a conversation that is going on."""
    return Sitting
