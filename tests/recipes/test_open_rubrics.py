"""What OpenRubrics promises (arXiv 2510.07743), of the recipe itself: scripted players, stored rows, packed rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sparring.scenarios
from sparring.agents.engine import ByteRenderer, Request, ScriptedEngine
from sparring.agents.graph import build_graph, play
from sparring.agents.role import make_role
from sparring.agents.settle import settle
from sparring.agents.stage import Runtime
from sparring.agents.world import Pool
from sparring.envs.types import Episode, Pick
from sparring.scenarios.errors import StoreError
from sparring.scenarios.load import load
from sparring.scenarios.recipe_spec import words
from sparring.scenarios.registry import environments, make
from sparring.scenarios.schema import Scenario
from sparring.storage.exporting.trl import Wanted, write_trl
from sparring.storage.queries import select_rows
from sparring.storage.records import StepRecord
from sparring.storage.store import Store
from sparring.training.demonstrations import work
from sparring.training.pack import conversation
from sparring.training.plan import Plan
from sparring.training.rows import Row

RECIPE = Path(sparring.scenarios.__file__).parent / "recipes" / "open_rubrics.yaml"
JUDGED = (
    "graph.nodes.solve.samples=2", "graph.nodes.contrast.samples=4", "graph.nodes.judge={role: judge}",
    "graph.edges=[solve -> verify, verify -> contrast, contrast -> judge]",
    "roles.judge={prompt: full/judge_pair, sees: [rubric, siblings], trainable: false}",
)  # fmt: skip
RUBRICS = (
    "2 hard rule: answer is {right}\n1 principle: is sound",  # the judge finds the preferred one sound
    "3 principle: is sure of itself",  # and the rejected one sure of itself
    "1 hard rule: says answer",  # both say it
    "Nothing comes to mind.",
)


def players(scenario: Scenario) -> Callable[[str, Request], str]:
    """A solver that is right every other time, a writer of four rubrics, and a judge with fixed tastes."""
    tried: dict[str, int] = {}

    def script(prompt: str, asked: Request) -> str:
        if asked.tag == "solver":
            program = prompt.partition("\n")[2]
            tried[program] = tried.get(program, 0) + 1
            right = work(program.strip()).output
            return f"<answer>{right if tried[program] % 2 else int(right) + 1}</answer>"
        if asked.tag == "rubric_writer":
            right = prompt.partition("Prints: ")[2].split("\n")[0]
            tried["rubrics"] = tried.get("rubrics", -1) + 1
            return RUBRICS[tried["rubrics"] % 4].format(right=right)
        sound = "sound" in prompt.partition("Criteria:")[2]  # the right attempt was made first and is called A
        number = 2 if sound else 1
        return f"A{number}: {'yes' if sound else 'no'}\nB{number}: {'no' if sound else 'yes'}"

    return script


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """The recipe with a judge that reads both answers of a pair."""
    return load(RECIPE, JUDGED)


@pytest.fixture(scope="module")
def episodes(scenario: Scenario) -> list[Episode]:
    """Three episodes with scripted words, settled."""
    pool = Pool(lambda: make(environments, scenario.environment))
    roles = {name: make_role(name, spec, scenario.base) for name, spec in scenario.roles.items()}
    runtime = Runtime(roles, {"policy": ScriptedEngine(players(scenario))}, ByteRenderer(), pool)
    made = []
    with pool.lend() as environment:
        for index in range(3):
            task = environment.sample({"depth": 2}, np.random.default_rng(index))
            episode = asyncio.run(play(build_graph(scenario.graph_spec()), runtime, task=task, index=index))
            assert not episode.error
            made.append(settle(episode, roles, environment))
    pool.close()
    return made


@pytest.fixture(scope="module")
def store(scenario: Scenario, episodes: list[Episode], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run that holds them."""
    made = Store(tmp_path_factory.mktemp("rubrics") / "sparring.db")
    run = made.start_run(scenario.name, scenario.resolved(), scenario.digest, scenario.seed).id
    made.save_step(run, StepRecord(1, (Pick("all", {}, 3),), tuple(episodes), policy_version=1))
    made.finish_run(run, "done")
    return made


def test_a_rejected_rubric_has_its_reason_in_the_database(store: Store) -> None:
    asked = "SELECT value, note, count(*) FROM scores WHERE name = 'consistency' GROUP BY value, note"
    assert set(select_rows(store, asked).rows) == {
        (1.0, "1 against 0", 3), (0.0, "prefers the rejected answer: 0 against 1", 3),
        (0.0, "ties: 1 against 1", 3), (0.0, "no criterion", 3),
    }  # fmt: skip


def test_kinds_of_criteria_are_stored(store: Store) -> None:
    kinds = "SELECT kind, checker, count(*) FROM criteria GROUP BY kind, checker"
    assert set(select_rows(store, kinds).rows) == {("hard", "rule", 6), ("principle", "judge", 6)}


def accepted(episodes: list[Episode]) -> list[tuple[int, int]]:
    return [(at, turn) for at, episode in enumerate(episodes) for turn in episode.scores
            if (score := episode.score(turn, "consistency")) is not None and score.value == 1.0]  # fmt: skip


def rows_of(scenario: Scenario, episodes: list[Episode]) -> list[Row]:
    plan = Plan.of(scenario, ByteRenderer())
    return list(plan.make(plan.due(1, {}), episodes, 1).rows)


def test_only_accepted_rubrics_reach_the_rows_that_are_trained(scenario: Scenario, episodes: list[Episode]) -> None:
    rows = rows_of(scenario, episodes)
    assert [(span.episode, span.turn) for row in rows for span in row.spans] == accepted(episodes)
    assert len(rows) == 3 and {row.role for row in rows} == {"rubric_writer"}
    for row in rows:  # the prompt as it was read, then the rubric, and the rubric alone is learnt
        [span] = row.spans
        [turn] = conversation(episodes[span.episode], episodes[span.episode].turns[span.turn])
        assert turn.context is not None
        assert tuple(row.token_ids) == turn.context.token_ids + turn.token_ids
        assert [share > 0 for share in row.coefficient_T] == [False] * span.start + [True] * len(turn.token_ids)


def test_the_control_learns_from_every_rubric(episodes: list[Episode]) -> None:
    control = load(RECIPE, (*JUDGED, "training.trainers.writer.keep=all", "training.trainers.writer.unique=false"))
    assert sum(len(row.spans) for row in rows_of(control, episodes)) == 12


def test_the_run_of_a_real_model_asks_a_judge_about_both_answers() -> None:
    recipe = load(RECIPE).recipe
    assert recipe is not None
    real = load(RECIPE, words(recipe.gpu))
    assert real.roles["judge"].sees == ("rubric", "siblings") and real.graph_spec().nodes["judge"].role == "judge"


def test_accepted_rubrics_are_exported_as_prompts_and_completions(
    store: Store, episodes: list[Episode], tmp_path: Path
) -> None:
    assert write_trl(store, "r1", tmp_path / "out", Wanted("rubric_writer", {"consistency": 1.0})) == 3
    lines = (tmp_path / "out" / "prompt_completion.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    told = [episodes[at].turns[turn] for at, turn in accepted(episodes)]
    assert [row["completion"] for row in found] == [turn.said for turn in told]
    assert [row["prompt"] for row in found] == [turn.context.text for turn in told if turn.context]
    assert {row["reward_consistency"] for row in found} == {1.0}


@pytest.mark.parametrize("wanted", [Wanted("writer"), Wanted("", {"consistence": 1.0})])
def test_an_export_of_what_is_not_there_says_what_is(store: Store, tmp_path: Path, wanted: Wanted) -> None:
    with pytest.raises(StoreError, match=r"no (role|score) .* did you mean '(rubric_writer|consistency)'"):
        write_trl(store, "r1", tmp_path / "out", wanted)
    assert not (tmp_path / "out").exists()
