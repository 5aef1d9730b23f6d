"""Episodes with every field a trainer reads, and steps made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from sparring.envs.types import Ending, Episode, Score, Segment, Task, Turn
from sparring.scenarios.schema import Scenario
from sparring.training.trainers.base import Played

ASKED = (1, 2, 3)
ROLES = {
    "solver": {"kind": "plain", "reward": ["verifier"]},
    "critic": {"kind": "plain", "reward": ["verdict"], "weight": 0.5},
    "judge": {"kind": "plain", "trainable": False, "reward": ["verifier"]},
}


def make_scenario(**more: Any) -> Scenario:
    """Three roles, one of them frozen, in a graph of three nodes."""
    nodes = {"solve": {"role": "solver", "samples": 4}, "critique": {"role": "critic"}, "judge": {"role": "judge"}}
    plain = {"name": "trainers", "environment": "echo", "roles": ROLES, "graph": {"nodes": nodes}}
    return Scenario.model_validate(plain | more)


@pytest.fixture
def scenario() -> Callable[..., Scenario]:
    """``scenario(**more)``: a scenario of solver, critic and a frozen judge."""
    return make_scenario


def make_turn(index: int, given: Mapping[str, Any]) -> Turn:
    author = given.get("author", "solver")
    said = tuple(given.get("ids", (10 + index, 20, 30)))
    stripped = given.get("train_context")
    return Turn(
        index,
        given.get("parent", 0 if index else None),
        given.get("node", {"solver": "solve", "critic": "critique"}.get(author, author)),
        author,
        given.get("said", f"answer {said}"),
        follows=given.get("follows"),
        context=Segment("", tuple(given.get("context", ASKED))),
        train_context=None if stripped is None else Segment("", tuple(stripped)),
        token_ids=() if author == "environment" else said,
        logprobs=() if author == "environment" else (-1.0,) * len(said),
        engine=given.get("engine", "transformers"),
        task=given.get("task"),
    )


def make_episode(*turns: Mapping[str, Any], index: int = 0, ending: Ending = Ending.DONE) -> Episode:
    """An environment turn, then these; ``verifier``, ``verdict`` and ``process`` of a turn are its scores."""
    whole = [{"author": "environment"}, *turns]
    scores: dict[int, tuple[Score, ...]] = {}
    for at, given in enumerate(whole):
        named = [(name, given[name]) for name in ("verifier", "verdict", "process") if name in given]
        scores[at] = tuple(
            value if isinstance(value, Score) else Score.valued(name, value, "test") for name, value in named
        )
    made = tuple(make_turn(at, given) for at, given in enumerate(whole))
    keys = dict.fromkeys(turn.task for turn in made if turn.task is not None)
    tasks = tuple(Task("echo", {}, {"reference": "12"}, key=key) for key in keys)
    return Episode(index, 0, {}, made, tasks, scores, {}, {}, ending)


@pytest.fixture
def episode() -> Callable[..., Episode]:
    """``episode(turn, turn, ...)``: turns of the solver, in answer to the same prompt, unless they say otherwise."""
    return make_episode


@pytest.fixture
def played(renderer: Any) -> Callable[..., Played]:
    """``played(episodes, state=..., seed=...)``: one step of them."""

    def make(
        episodes: Sequence[Episode], state: dict[str, Any] | None = None, seed: int = 0, step: int = 1, **roles: Any
    ) -> Played:
        specs = make_scenario(roles=ROLES | roles).roles
        rng = np.random.Generator(np.random.Philox(seed))
        return Played(episodes, specs, step, rng, renderer, {} if state is None else state)

    return make
