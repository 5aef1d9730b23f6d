"""A small world whose secrets are known, and players with scripted words: what the tests of ``agents`` stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.book import Book
from sparring.agents.engine import ByteRenderer, Request, ScriptedEngine
from sparring.agents.graph import build_graph, play
from sparring.agents.rewards import Context
from sparring.agents.role import Role, make_role
from sparring.agents.roles import tagged
from sparring.agents.rubric import parse_rubric
from sparring.agents.stage import Runtime
from sparring.agents.world import Pool
from sparring.envs.base import Environment
from sparring.envs.types import Episode, Parsed, Refusal, Score, Task, Turn
from sparring.scenarios.schema import GraphSpec, RoleSpec, Sampling

PRESET: dict[str, dict[str, Any]] = {
    "teacher": {"prompt": "brief/teacher", "reward": ["learnability"]},
    "solver": {"prompt": "brief/solver", "reward": {"verifier": 1.0, "rubric": 0.3}},
    "critic": {"prompt": "brief/critic", "reward": {"verdict": 1.0, "revision_gain": 0.5}},
    "rubric_writer": {
        "prompt": "brief/rubric_writer",
        "sees": ["reference", "trace"],
        "reward": ["discrimination"],
    },
}


class World(Environment):
    """Any text is a program that prints ``secret``; a text with REFUSE in it is refused. MORE asks to go on."""

    disclosures = ("reference", "trace")

    def __init__(self, secret: str = "12", trace: tuple[str, ...] = ("a=7", "b=12"), snapshots: bool = True) -> None:
        super().__init__()
        self.secret, self.trace, self.snapshots = secret, trace, snapshots
        self.taken = 0

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Any) -> Task | Refusal:
        if "REFUSE" in text:
            return Refusal("not_a_program", "asked for it")
        return Task("world", {"program": text}, {"reference": self.secret, "trace": list(self.trace)}, parameters)

    def begin(self, task: Task) -> str:
        self.taken = 0
        return "begin"

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        assert self.task is not None
        self.taken += 1
        if "CRASH" in action:
            raise RuntimeError("the world broke")
        right = tagged(action, "answer") == self.task.secret["reference"]
        score = Score.valued("verifier", float(right), "world")
        if "GARBAGE" in action:
            score = Score.invalid("verifier", "world", "sandbox died")
        return f"seen {self.taken}", float(right), "MORE" not in action, False, {"scores": [score]}

    def state(self) -> object:
        return self.taken if self.snapshots else NotImplemented

    def set_state(self, state: Any) -> None:
        self.taken = state


Script = Callable[[str, Request], str]


class Table:
    """Players, a world and a graph; ``play`` runs one episode with scripted words."""

    def __init__(self, world: Callable[[], World], tmp_path: Path) -> None:
        self.world = world
        self.folder = tmp_path
        self.engine = ScriptedEngine()

    def roles(self, specs: Mapping[str, Mapping[str, Any]], **sampling: Any) -> dict[str, Role]:
        drawn = Sampling(**{"max_tokens": 400, **sampling})
        return {
            name: make_role(name, RoleSpec(**{"kind": name, "sampling": drawn, **spec}), self.folder)
            for name, spec in specs.items()
        }

    def runtime(self, script: Script, roles: Mapping[str, Role], **more: Any) -> Runtime:
        self.engine = ScriptedEngine(script)
        return Runtime(roles, {"policy": self.engine}, ByteRenderer(), Pool(self.world), **more)

    def play(
        self,
        graph: GraphSpec,
        script: Script,
        roles: Mapping[str, Role] | None = None,
        task: Task | None = None,
        **more: Any,
    ) -> Episode:
        runtime = self.runtime(script, roles or self.roles(PRESET), **more)
        return asyncio.run(play(build_graph(graph), runtime, {"depth": 2}, task=task))


@pytest.fixture
def world() -> type[World]:
    """The world's class."""
    return World


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Players at a fresh table."""
    return Table(World, tmp_path)


@pytest.fixture
def new_table() -> type[Table]:
    """The table's class, for tests that need more than one."""
    return Table


@pytest.fixture
def preset() -> dict[str, dict[str, Any]]:
    """The role specs of the default scenario."""
    return {name: dict(spec) for name, spec in PRESET.items()}


@pytest.fixture
def task() -> Task:
    """A given task of the world."""
    return Task("world", {"program": "print(12)"}, {"reference": "12", "trace": ["a=7", "b=12"]})


class Tree:
    """An episode written by hand, turn by turn, for closed-form tests of rewards."""

    def __init__(self) -> None:
        self.task = Task("world", {"program": "print(12)"}, {"reference": "12"})
        self.book = Book()
        self.book.tasks[self.task.key] = self.task

    def add(
        self, author: str, parent: int | None = None, score: float | str | None = None, said: str = "", **more: Any
    ) -> int:
        """A turn under ``parent``; ``score`` is the verifier's number, or ``"invalid"``. Returns its index."""
        index = self.book.reserve(1)
        more = {"parsed": Parsed("text", said), "task": self.task.key, **more}
        self.book.write(Turn(index, parent, author, author, said, **more))
        if score is not None:
            made = Score.invalid("verifier", "w", "died") if isinstance(score, str) else None
            self.book.scores[index] = (made or Score.valued("verifier", float(score), "w"),)
        return index

    def rubric(self, text: str, parent: int | None = None) -> int:
        """A turn that wrote a rubric."""
        return self.add("scribe", parent, said=text, parsed=parse_rubric(text))

    def episode(self) -> Episode:
        """The episode as written."""
        return self.book.freeze()


@pytest.fixture
def tree() -> Tree:
    """An empty episode to write."""
    return Tree()


@pytest.fixture
def new_tree() -> type[Tree]:
    """The tree's class, for tests that need more than one."""
    return Tree


@pytest.fixture
def context() -> Context:
    """A context with no roles and the world."""
    return Context({}, World())
