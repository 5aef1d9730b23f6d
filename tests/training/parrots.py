"""A parrot as environment, and runs of it played with scripted words: what the tests of ``rescore`` stand on."""

from __future__ import annotations

import asyncio
import atexit
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from sparring.agents.engine import ByteRenderer, Request, ScriptedEngine
from sparring.agents.graph import build_graph, play
from sparring.agents.role import make_role
from sparring.agents.settle import settle
from sparring.agents.stage import Runtime
from sparring.agents.world import Pool
from sparring.envs.types import Episode, Pick
from sparring.scenarios.registry import environments, make
from sparring.scenarios.schema import Scenario
from sparring.storage.records import StepRecord
from sparring.storage.store import Store

WORLD = '''
from sparring.envs.base import Environment
from sparring.envs.types import Score, Task
from sparring.scenarios.registry import environments
from pydantic import BaseModel, ConfigDict

class Options(BaseModel):
    """``fold``: letter case does not matter. ``breaks``: an answer at which it fails. ``greets``: how it begins."""
    model_config = ConfigDict(frozen=True, extra="forbid")
    fold: bool = False
    breaks: str = ""
    greets: str = "say"

@environments("parrot")
class Parrot(Environment):
    """Say the word in at most two tries. What is over is over, until somebody begins before the end."""
    Config = Options
    disclosures = ("reference",)

    def sample(self, parameters, rng):
        word = "".join("abcd"[i] for i in rng.integers(4, size=3))
        return Task("parrot", {"text": word}, {"reference": word})

    def begin(self, task):
        if self.config.breaks == task.payload["text"]:
            raise RuntimeError("cannot begin")
        self.tries, self.over = 0, False
        return f"{self.config.greets} {task.payload['text']}, for the {self.np_random.integers(1000)}th time"

    def step(self, action):
        if self.config.breaks and self.config.breaks in action:
            raise RuntimeError("the parrot flew away")
        if self.over:
            raise RuntimeError("the parrot has gone to sleep")
        self.tries += 1
        said, word = action.strip(), self.task.secret["reference"]
        right = said.lower() == word if self.config.fold else said == word
        self.over = right or self.tries == 2
        return "right" if right else "again", float(right), self.over, False, {
            "scores": [Score.valued("verifier", float(right), "parrot")]}

    def state(self):
        return self.tries

    def set_state(self, state):
        self.tries, self.over = state, False
'''
SCENARIO = """
name: parrot
environment: parrot
load: [{world}]
roles:
  solver: {{kind: plain, prompt: say.md, reward: [verifier]}}
  judge: {{kind: judge, prompt: full/judge, sees: [rubric], trainable: false}}
graph:
  nodes:
    solve: {{role: solver, samples: 4}}
    verify: {{do: step}}
    more: {{role: solver}}
    once_more: {{role: solver}}
    check: {{do: step}}
  edges: [solve -> verify, verify -> more if unfinished, more -> verify, verify -> once_more if right,
          once_more -> check]
training: {{steps: 3}}
"""


@cache
def world_file() -> Path:
    """The environment's file: one for all tests of a process, since a name can be taken once."""
    folder = Path(mkdtemp(prefix="parrots-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "world.py"
    file.write_text(WORLD)
    return file


def parrot_scenario(folder: Path) -> Path:
    """The scenario's file in a folder, beside its prompt."""
    (folder / "say.md").write_text("Say {{ text }}")
    file = folder / "parrot.yaml"
    file.write_text(SCENARIO.format(world=world_file()))
    return file


def answer(prompt: str, request: Request) -> str:
    """A word the prompt asks for, shouted by every third, wrong from every fifth."""
    word = prompt.rpartition("ay ")[2][:3]
    return ("no", word.upper(), word, word, word)[request.seed % 5]


def played(scenario: Scenario, store: Store, script: Callable[..., str] = answer, episodes: int = 6) -> Store:
    """A run of two steps in the store, played with scripted words."""
    run = store.start_run(scenario.name, scenario.resolved(), scenario.digest, scenario.seed).id
    graph = build_graph(scenario.graph_spec())
    pool = Pool(lambda: make(environments, scenario.environment))
    roles = {name: make_role(name, spec, scenario.base) for name, spec in scenario.roles.items()}
    for step in (1, 2):
        rng = np.random.Generator(np.random.Philox(step))
        engines = {"policy": ScriptedEngine(script)}
        runtime = Runtime(roles, engines, ByteRenderer(), pool, seed=(scenario.seed, step))
        made: list[Episode] = []
        for index in range(episodes):
            with pool.lend() as environment:
                task = environment.sample({name: v[0] for name, v in environment.parameters.items()}, rng)
                episode = asyncio.run(play(graph, runtime, task=task, index=index))
                made.append(settle(episode, roles, environment))
        store.save_step(run, StepRecord(step, (Pick("all", {}, episodes),), tuple(made), policy_version=step))
    store.finish_run(run, "done")
    pool.close()
    return store
