"""``replay``: a run's recorded words give the same rewards again, and whatever does not is named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from sparring.storage.samples import sample_step
from sparring.storage.store import Store

Told = Callable[..., Result]


def write(sql: str) -> None:
    with closing(sqlite3.connect("sparring.db")) as connection, connection:
        connection.execute(sql)


@pytest.fixture
def played(told: Told, scenario: Path) -> Callable[..., dict[str, Any]]:
    """``played()``: what ``replay`` finds after a run of the scenario, as JSON, with its exit code as ``code``."""
    assert told("run", str(scenario)).exit_code == 0

    def again(what: str = "r1") -> dict[str, Any]:
        done = told("replay", what, "--json")
        assert done.stdout, done.output
        return {**json.loads(done.stdout), "code": done.exit_code}

    return again


def test_every_episode_of_a_run_comes_out_byte_equal(played: Callable[..., dict[str, Any]]) -> None:
    found = played()
    assert (found["code"], found["episodes"], found["byte_equal"], found["rewards"]) == (0, 4, 4, 64)


def test_a_step_and_an_episode_can_be_replayed_alone(played: Callable[..., dict[str, Any]], told: Told) -> None:
    assert [one["episode"] for one in played("r1/2")["replayed"]] == ["r1/2/0", "r1/2/1"]
    shown = told("replay", "r1/2/1").stdout
    assert shown.startswith("r1/2/1  17 turns, 16 rewards: all byte-equal") and "1 of 1 episodes byte-equal" in shown


def test_a_reward_that_comes_out_differently_is_named_with_both_values(
    played: Callable[..., dict[str, Any]], told: Told
) -> None:
    write("UPDATE scores SET value = 0.25 WHERE name = 'format' AND id = (SELECT min(id) FROM scores WHERE value >= 0"
          " AND name = 'format')")  # fmt: skip
    found = played()
    (odd,) = [one for one in found["replayed"] if one["differences"]]
    told_of = odd["differences"][0]
    assert found["code"] == 1 and found["rewards_equal"] == 3 and odd["rewards_equal"] is False
    assert (told_of["author"], told_of["field"], told_of["stored"]) == ("solver", "reward format value", "0.25")
    shown = told("replay", odd["episode"])
    assert shown.exit_code == 1 and "reward format value" in shown.stdout and "stored  0.25" in shown.stdout


def test_a_changed_prompt_is_named_though_the_rewards_are_equal(
    played: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "say.md").write_text("Please say {{ text }}.\n")
    found = played("r1/1/0")
    fields = {one["field"] for one in found["replayed"][0]["differences"]}
    assert found["code"] == 1 and found["rewards_equal"] == 1 and fields == {"context", "context tokens"}


def test_recorded_words_that_were_changed_after_the_fact_do_not_pass(played: Callable[..., dict[str, Any]]) -> None:
    write("UPDATE turns SET said = 'something else' WHERE author = 'solver' AND episode_id = 1")
    found = played("r1/1/0")
    assert found["code"] == 1 and found["byte_equal"] == 0


@pytest.mark.parametrize(
    "overrides",
    [
        ("roles.solver.demonstrated=0.5",),
        ("group.stages=[{kind: demonstrations, role: solver, template: 'say {{ reference }}'}]",),
        ("rollout.deterministic=false",),
        ("rollout.ahead=1", "rollout.deterministic=false", "engine.copy=true", "training.loss=dapo"),
    ],
    ids=["spoken-for", "put-beside", "free-order", "ahead"],
)
def test_other_ways_of_playing_are_replayed_too(told: Told, scenario: Path, overrides: tuple[str, ...]) -> None:
    words = [word for override in overrides for word in ("-s", override)]
    assert told("run", str(scenario), *words, "-s", "rollout.episodes=8").exit_code == 0
    found = json.loads(told("replay", "r1", "--json").stdout)
    assert found["byte_equal"] == found["episodes"] == 16


def test_a_replay_draws_none_of_the_tasks_that_the_run_kept_for_evaluation(told: Told, scenario: Path) -> None:
    graph = "{nodes: {solve: {role: solver, samples: 2}, exam: {do: draw, samples: 3}}, edges: [solve -> exam]}"
    small = ("curriculum.arms={length: [1]}", "roles.solver.reward=[format]", "evaluation.tasks=4")  # of 8 words
    words = [word for override in (f"graph={graph}", *small) for word in ("-s", override)]
    done = told("run", str(scenario), *words, "-s", "evaluation.metrics=[solve.format]", "-s", "rollout.episodes=8")
    assert done.exit_code == 0, done.output
    found = json.loads(told("replay", "r1", "--json").stdout)
    assert found["byte_equal"] == found["episodes"] == 16


def test_a_game_of_chance_is_dealt_the_same_cards(told: Told, tiny_model: Path) -> None:
    small = ("training.steps=1", "rollout.episodes=4", "evaluation.every=0", f"policy.model={tiny_model}")
    done = told("run", "kuhn", *(word for override in small for word in ("-s", override)))
    assert done.exit_code == 0, done.output
    found = json.loads(told("replay", "r1", "--json").stdout)
    assert found["byte_equal"] == found["episodes"] > 0 and found["turns"] > 2 * found["episodes"]


@pytest.mark.parametrize(
    ("what", "says"), [("r7", "no run r7"), ("r1/9", "no episode in step r1/9"), ("r1/1/9", "no episode r1/1/9")]
)
def test_what_is_not_there_is_said_before_anything_is_built(told: Told, filled: str, what: str, says: str) -> None:
    done = told("replay", what)
    assert done.exit_code == 5 and says in done.stderr and done.stderr.count("\n") == 1


def test_episodes_that_a_client_drove_cannot_be_replayed_and_it_says_why(told: Told) -> None:
    with Store("sparring.db") as store:
        store.start_run("served", {"name": "served"}, "digest", 0, {"recorded": True})
        store.save_step("r1", sample_step(0, episodes=1))
        store.finish_run("r1", "done")
    done = told("replay", "r1/0/0")
    assert done.exit_code == 5 and "a client's own code drove its episodes" in done.stderr
