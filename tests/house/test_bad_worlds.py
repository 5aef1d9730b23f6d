"""Environments that break: who broke and how is told and stored, no verdict is made up, nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.engine import ByteRenderer, ScriptedEngine
from sparring.agents.graph import ROUNDS, build_graph, play
from sparring.agents.role import make_role
from sparring.agents.settle import settle
from sparring.agents.stage import Runtime
from sparring.agents.world import FAILED, Pool
from sparring.envs.guard import MOST_ABANDONED, abandoned
from sparring.envs.types import Ending, Episode, Score, Task, Validity
from sparring.scenarios.errors import TrainingStopped
from sparring.scenarios.load import load
from sparring.scenarios.registry import environments
from sparring.scenarios.schema import GraphSpec
from sparring.storage.store import Store

FILE = Path(__file__).with_name("bad_world.py")
SCENARIO = """
name: bad
policy: {model: MODEL}
load: [FILE]
environment: {kind: bad-world, how: fine}
roles:
  solver: {kind: plain, prompt: say.md, reward: [verifier], sampling: {max_tokens: 4}}
graph:
  nodes: {solve: {role: solver, samples: 2}, verify: {do: step}}
  edges: [solve -> verify]
curriculum: {kind: sec, arms: {length: [1, 2]}}
rollout: {episodes: 2, picks: 2}
training: {steps: 2}
evaluation: {every: 0}
"""
LOOP = {"nodes": {"solve": {"role": "solver"}, "verify": {"do": "step"}},
        "edges": ["solve -> verify", "verify -> solve if unfinished"]}  # fmt: skip
NAMED = "environment BadWorld (bad_world.py): step "
WORDS = {
    "raises": "raised ValueError: no such ? door (bad_world.py, line ",
    "exits": "raised SystemExit: 7",
    "hangs": "did not come back within 0.3 s and was left behind",
    "four values": "gave ('well', 1.0, True, {}) (tuple); return observation, reward,",
    "nothing": "gave None (NoneType); return observation, reward,",
    "number for words": "gave 7 (int); an observation is text",
    "no info": "gave ('well', 1.0, True, False, None) (tuple); return observation, reward,",
    "words for a flag": "gave 'no' (str); terminated and truncated are true or false",
    "number for scores": "gave 0.5 (float); info[\"scores\"] is a list of scores, or maps seats to such lists",
}  # what a step does wrong as a whole: the episode is broken when every branch ends so
MARKS = {
    "nan reward": "the reward: gave nan, no number to learn from",
    "no reward": "the reward: gave None (NoneType), no number",
    "text as reward": "the reward: gave 'one' (str), no number",
    "nan score": "gave nan, no number to learn from",
    "text as value": "gave '1' (str), no number",
    "number as score": "0.5 is no score: give Score.valued(name, number, by)",
}  # what only its verdict does wrong: the world itself goes on


@pytest.fixture
def file(tmp_path: Path, tiny_model: Path) -> Path:
    (tmp_path / "say.md").write_text("Say {{ text }}.\n")
    (tmp_path / "bad.yaml").write_text(SCENARIO.replace("MODEL", str(tiny_model)).replace("FILE", str(FILE)))
    return tmp_path / "bad.yaml"


@pytest.fixture(autouse=True)
def hanging_ends() -> Iterator[None]:
    """Calls that hang do so until their test is over."""
    yield
    for module in [module for module in sys.modules.values() if getattr(module, "__file__", None) == str(FILE)]:
        module.STOP.set()
    while abandoned():
        time.sleep(0.001)
    for module in [module for module in sys.modules.values() if getattr(module, "__file__", None) == str(FILE)]:
        module.STOP.clear()


@pytest.fixture
def played(file: Path, tmp_path: Path) -> Callable[..., Episode]:
    """``played(how, at, graph, says)``: one settled episode in a world that breaks so, with scripted words."""
    scenario = load(file)
    kind = environments.get("bad-world")

    def once(how: str, at: str = "", graph: Any = None, says: Any = lambda prompt, request: "a word") -> Episode:
        world = kind({"how": how, "at": at})
        roles = {"solver": make_role("solver", scenario.roles["solver"], tmp_path)}
        runtime = Runtime(roles, {"policy": ScriptedEngine(says)}, ByteRenderer(), Pool(lambda: world))
        spec = GraphSpec.model_validate(graph) if graph else scenario.graph_spec()
        task = Task("bad-world", {"text": "hello"})
        return settle(asyncio.run(play(build_graph(spec), runtime, task=task)), roles, world)

    return once


def verdicts(episode: Episode) -> list[Score]:
    given = [episode.score(turn.index, "verifier") for turn in episode.turns if turn.author == "solver"]
    return [score for score in given if score is not None]


@pytest.mark.parametrize("how", sorted(WORDS))
def test_a_step_that_fails_gives_invalid_scores_that_name_world_and_cause(
    played: Callable[..., Episode], how: str
) -> None:
    episode = played(how)
    assert episode.ending is Ending.BROKE and episode.error.startswith(NAMED + WORDS[how].split("(bad")[0])
    assert [score.validity for score in verdicts(episode)] == [Validity.INVALID] * 2
    assert all(score.value is None and WORDS[how] in score.note for score in verdicts(episode))
    assert [turn.said for turn in episode.turns if turn.node == "verify"] == [FAILED] * 2


@pytest.mark.parametrize("how", sorted(MARKS))
def test_a_verdict_that_is_no_number_is_invalid_and_the_episode_goes_on(
    played: Callable[..., Episode], how: str
) -> None:
    episode = played(how)
    assert episode.ending is Ending.DONE and not episode.error
    assert [(score.validity, score.value) for score in verdicts(episode)] == [(Validity.INVALID, None)] * 2
    assert all(score.note == MARKS[how] for score in verdicts(episode))


@pytest.mark.parametrize("how", ["raises", "hangs", "nothing"])
def test_a_branch_at_which_the_world_fails_costs_the_others_nothing(played: Callable[..., Episode], how: str) -> None:
    words = itertools.cycle(["well", "odd", "good", "fair"])
    nodes = {"solve": {"role": "solver", "samples": 4}, "verify": {"do": "step"}}
    episode = played(how, "odd", {"nodes": nodes, "edges": ["solve -> verify"]}, lambda *_: next(words))
    assert episode.ending is Ending.DONE
    assert episode.error.startswith("1 of 4 branches failed; the first: " + NAMED)
    assert [score.value for score in verdicts(episode)] == [1.0, None, 1.0, 1.0]


def test_a_world_that_never_ends_is_stopped_at_the_longest_branch_with_a_note(played: Callable[..., Episode]) -> None:
    episode = played("endless", graph=LOOP)
    longest = ROUNDS * 2
    assert episode.ending is Ending.DONE and episode.error == f"a branch was stopped after {longest} turns"
    given = verdicts(episode)
    assert len(episode.turns) == longest and {score.value for score in given[:-1]} == {1.0}
    assert given[-1].validity is Validity.MISSING  # its answer came where the branch was stopped


def test_past_a_few_calls_that_hang_the_episode_says_to_give_the_world_a_limit(played: Callable[..., Episode]) -> None:
    nodes = {"solve": {"role": "solver", "samples": MOST_ABANDONED + 1}, "verify": {"do": "step"}}
    episode = played("hangs", graph={"nodes": nodes, "edges": ["solve -> verify"]})
    assert episode.ending is Ending.BROKE
    assert f"{MOST_ABANDONED} calls never came back" in episode.error and "time limit of its own" in episode.error


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(file: Path) -> Callable[..., str]:
    """``run(*overrides)``: a run of two steps; how it ended, or what it said when it stopped."""
    from sparring.training.loop import learn
    from sparring.training.session import start

    def whole(*overrides: str) -> str:
        session = start(load(file, overrides), Store(file.with_name("bad.db")))
        try:
            status = asyncio.run(learn(session))
        except TrainingStopped as stopped:
            status = str(stopped)
        session.store.finish_run(session.run, status if status == "done" else "failed")
        session.close()
        return status

    return whole


def asked(file: Path, query: str) -> list[Any]:
    with sqlite3.connect(file.with_name("bad.db")) as database:
        return database.execute(query).fetchall()


@pytest.mark.parametrize("how", ["raises", "hangs", "exits", "four values"])
def test_a_world_that_always_fails_stops_the_run_with_world_cause_and_next_step(
    run: Callable[..., str], file: Path, how: str
) -> None:
    said = run(f"environment.how={how}", "roles.solver.sampling.max_tokens=2")
    assert said.startswith("step 1: 2 of 2 episodes broke (rollout.max_broken is 0.2); the first said: " + NAMED)
    assert WORDS[how].split("(bad")[0] in said and "'sparring resume'" in said
    assert asked(file, "SELECT number FROM steps") == [(0,)]


def test_a_generator_that_fails_stops_the_run_with_its_cause(run: Callable[..., str]) -> None:
    said = run("environment.how=no task")
    assert "the first said: no task was made: KeyError: 'the list of words is empty' (bad_world.py, line " in said


@pytest.mark.parametrize("how", ["nan score", "number as score"])
def test_a_run_with_verdicts_that_are_none_goes_on_counts_them_and_learns_nothing(
    run: Callable[..., str], file: Path, how: str
) -> None:
    assert run(f"environment.how={how}") == "done"
    assert asked(file, "SELECT name, validity, value, note, count(*) FROM scores GROUP BY 1, 2, 3, 4") == [
        ("verifier", "invalid", None, MARKS[how], 8)
    ]
    assert asked(file, "SELECT count(*) FROM advantages") == [(0,)]
    figures = asked(file, "SELECT metrics FROM steps WHERE number > 0")
    assert [json.loads(text)["invalid/verifier"] for (text,) in figures] == [4.0, 4.0]


def test_failures_that_are_few_are_stored_and_the_rest_is_learnt_from(run: Callable[..., str], file: Path) -> None:
    more = ("rollout.max_broken=1", "environment.at=e", "graph.nodes.solve.samples=8")
    assert run("environment.how=raises", *more) == "done"
    kinds = dict(asked(file, "SELECT validity, count(*) FROM scores GROUP BY 1"))
    assert sum(kinds.values()) == 32 and kinds.get("invalid", 0) == len(
        asked(file, f"SELECT 1 FROM turns WHERE said = '{FAILED}'")
    )
    assert not asked(file, "SELECT 1 FROM scores WHERE validity = 'invalid' AND value IS NOT NULL")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hangs", "exits"])
def test_a_run_of_a_broken_world_ends_with_a_message_and_no_traceback(file: Path, how: str) -> None:
    command = [sys.executable, "-c", "from sparring.training.cli import main; main()", "run", "bad.yaml"]
    done = subprocess.run(
        [*command, "--db", "bad.db", "-s", f"environment.how={how}"],
        cwd=file.parent, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 6, done.stderr
    assert "Traceback" not in done.stderr and NAMED + WORDS[how] in done.stderr
    assert asked(file, "SELECT status FROM runs") == [("failed",)]
