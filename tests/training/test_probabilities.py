"""Exact probabilities of answers: those a plain forward gives, under the very prompts that play shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.engine import spoken
from sparring.agents.presets import two_seats
from sparring.agents.role import make_role
from sparring.envs.games.kuhn import KuhnEnvironment
from sparring.envs.games.leduc import LeducEnvironment
from sparring.envs.types import Pick
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import load
from sparring.scenarios.schema import GraphSpec, RoleSpec
from sparring.storage.store import Store
from sparring.training.probabilities import ask, probabilities
from sparring.training.session import start

SEAT = RoleSpec.model_validate({"kind": "plain", "prompt": "game/brief", "reward": ["verifier"]})
ROLES = {name: make_role(name, SEAT) for name in ("first", "second")}
KUHN = """
name: kuhn
policy: {{model: {folder}, dtype: float32}}
environment: kuhn
roles:
  first: &seat {{kind: plain, prompt: game/brief, reward: [verifier], compare: baseline, sampling: {{max_tokens: 3}}}}
  second: *seat
graph: two-seats
rollout: {{episodes: 40, picks: 1}}
training: {{steps: 1}}
evaluation: {{every: 1, metrics: {metrics}}}
"""


@pytest.fixture
def begin(folder: Path, tmp_path: Path) -> Callable[[str], Any]:
    """``begin(metrics)``: a session of Kuhn poker against itself."""

    def made(metrics: str) -> Any:
        file = tmp_path / "kuhn.yaml"
        file.write_text(KUHN.format(folder=folder, metrics=metrics))
        return start(load(file), Store(tmp_path / "sparring.db"))

    return made


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_an_answers_probability_is_the_product_of_its_tokens(
    model: Any, renderer: Any, fresh: Any, temperature: float
) -> None:
    environment = KuhnEnvironment({"style": "full"})
    asked = ask(environment.positions(), ROLES, two_seats(), renderer)
    found = probabilities(model, asked, temperature)
    assert list(found) == [position.label for position in environment.positions()]
    for one in (asked[0], asked[5], asked[-1]):
        whole = (*one.prompt_ids, *one.answer_ids)
        logprobs = fresh(model, whole, temperature)
        total = sum(float(logprobs[at, whole[at]]) for at in range(len(one.prompt_ids), len(whole)))
        place = [other for other in asked if other.label == one.label].index(one)
        assert found[one.label][place] == pytest.approx(exp(total), rel=1e-4)


def test_prompts_are_those_of_play(begin: Any) -> None:
    session = begin("[exploitability]")
    asked = {one.prompt_ids for one in ask(KuhnEnvironment().positions(), ROLES, two_seats(), session.policy.renderer)}
    picks = [Pick("all", {}, 40)]
    played = asyncio.run(session.rollout.play(picks, 1))
    shown = {turn.context.token_ids for episode in played for turn in episode.turns if turn.context is not None}
    assert shown and shown <= asked
    session.close()


def test_greedy_probabilities_are_0_or_1(model: Any, renderer: Any) -> None:
    asked = ask(KuhnEnvironment().positions(), ROLES, two_seats(), renderer)
    assert {value for values in probabilities(model, asked, 0.0).values() for value in values} <= {0.0, 1.0}


def test_answers_end_with_the_end_of_the_turn(renderer: Any) -> None:
    asked = ask(LeducEnvironment().positions(), ROLES, two_seats(), renderer)
    assert len({one.label for one in asked}) == 288
    assert {one.answer_ids for one in asked} == {spoken(move, renderer) for move in "fcr"}


def test_a_seat_that_remembers_more_than_the_position_cannot_be_measured_exactly(renderer: Any) -> None:
    nodes = {"one": {"role": "first"}, "two": {"role": "second", "fresh": True}, "move": {"do": "step"}}
    graph = GraphSpec.model_validate({"nodes": nodes, "edges": ["one -> move", "two -> move", "move -> one, two"]})
    with pytest.raises(ScenarioError, match="fresh: true"):
        ask(KuhnEnvironment().positions(), ROLES, graph, renderer)
    with pytest.raises(ScenarioError, match="no role is called 'second'"):
        ask(KuhnEnvironment().positions(), {"first": ROLES["first"]}, two_seats(), renderer)


def test_an_evaluation_of_measures_alone_plays_nothing(begin: Any, ran: Any) -> None:
    done = ran(begin("[exploitability, illegal]"))
    assert done.status == "done"
    rows = done.rows("SELECT name, n, value FROM evaluations ORDER BY 1, 3")
    assert {(name, n) for name, n, _ in rows} == {("exploitability", 12), ("illegal", 12)} and len(rows) == 4
    assert all(0 <= value <= 1.5 for _, _, value in rows)


def test_measures_and_accuracy_stand_side_by_side(begin: Any, ran: Any) -> None:
    done = ran(begin("[accuracy, exploitability]"))
    assert {name for (name,) in done.rows("SELECT name FROM evaluations")} == {"accuracy", "exploitability"}


def test_a_metric_the_environment_does_not_measure_is_named(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "kuhn.yaml"
    file.write_text(KUHN.format(folder=folder, metrics="[exploitabilty]"))
    with pytest.raises(ScenarioError, match="did you mean 'exploitability'"):
        load(file)
