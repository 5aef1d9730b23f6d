"""What ZeroSearch promises (arXiv 2505.04588), of the recipe's own parts and of stored rows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from tests.recipes.conftest import Play

import sparring.scenarios
from sparring.envs.types import Episode
from sparring.scenarios.load import load
from sparring.scenarios.schedule import Exponential, Now
from sparring.scenarios.schema import Scenario
from sparring.storage.queries import episode, select_rows
from sparring.storage.store import Store
from sparring.training.plan import Plan
from sparring.training.session import Session

RECIPE = Path(sparring.scenarios.__file__).parent / "recipes" / "zerosearch.yaml"
SMALL = ("training.steps=1", "rollout.episodes=12", "evaluation.every=0", "audit.tasks=1", "canary.every=0")
NOISY = (*SMALL, "environment.noise=0.5", "roles.solver.demonstrated=1.0")


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.75), (0.1, 0.9), (0.25, 0.3)])
def test_noise_starts_at_the_first_level_ends_at_the_last_and_is_monotone_and_convex(low: float, high: float) -> None:
    curve = Exponential.model_validate({"from": low, "to": high, "rate": 4.0})
    m = 40
    p = [curve.value(i / m) for i in range(m + 1)]
    assert p[0] == low and p[m] == high
    assert p == pytest.approx([low + (4 ** (i / m) - 1) / (4 - 1) * (high - low) for i in range(m + 1)])
    rises = [after - before for before, after in pairwise(p)]
    assert all(rise > 0 for rise in rises)
    assert all(later > earlier for earlier, later in pairwise(rises))


def test_the_recipes_noise_follows_that_curve_step_by_step() -> None:
    scenario = load(RECIPE)
    noise = [scenario.at(Now(step, 24)).environment.options["noise"] for step in range(25)]
    assert noise[:17] == [0.25] * 17 and noise[24] == 0.6
    assert noise == sorted(noise)


@pytest.fixture(scope="module")
def played(play: Play) -> tuple[Session, Store]:
    """One step in which the environment shows how, and half of the searches are noisy."""
    session = play(RECIPE, NOISY)
    return session, session.store


def episodes(store: Store) -> list[Episode]:
    numbers = select_rows(store, "SELECT number FROM episodes ORDER BY number").rows
    return [episode(store, "r1", f"r1/1/{number}") for (number,) in numbers]


def test_every_tool_calls_choice_is_a_row_that_sql_finds(played: tuple[Session, Store]) -> None:
    asked = "SELECT t.said, s.value, s.note FROM turns t JOIN scores s ON s.turn_id = t.id WHERE s.name = 'noisy'"
    rows = select_rows(played[1], asked).rows
    calls = select_rows(played[1], "SELECT sum(value) FROM scores WHERE name = 'calls'").rows[0][0]
    assert len(rows) == calls >= 12
    assert all(said.startswith("<search>") for said, _, _ in rows)
    assert {(value, note) for _, value, note in rows} == {(1.0, "noisy"), (0.0, "useful")}
    share = played[0].figures["score/solver/noisy"]
    assert share == pytest.approx(sum(value for _, value, _ in rows) / len(rows))


def test_the_environments_own_way_searches_again_until_the_engine_was_useful(played: tuple[Session, Store]) -> None:
    for one in episodes(played[1]):
        scores = [score for turn in one.turns for score in one.scores.get(turn.index, ())]
        told = [score.note for score in scores if score.name == "noisy"]
        assert told[:-1] == ["noisy"] * (len(told) - 1) and (told[-1] == "useful" or len(told) == 4)


def test_documents_and_the_engines_words_are_never_trained(played: tuple[Session, Store]) -> None:
    session, store = played
    found = episodes(store)
    plan: Plan = session.plan
    made = plan.make(plan.due(1, {}), found, 1)
    assert made.rows
    for row in made.rows:
        trained = [at for at, share in enumerate(row.coefficient_T) if share]
        spoken = {at for span in row.spans for at in range(span.start, span.stop)}
        assert row.role == "solver" and trained and set(trained) <= spoken
        for span in row.spans:
            turn = found[span.episode].turns[span.turn]
            assert turn.author == "solver" and tuple(row.token_ids[span.start : span.stop]) == turn.token_ids


def test_one_key_swaps_the_back_end() -> None:
    scenario: Scenario = load(RECIPE, ("environment.backend=bm25",))
    assert scenario.environment.options["backend"] == "bm25"
    assert scenario.graph_spec() == load(RECIPE).graph_spec()
