"""What Reinforce-Ada promises (arXiv 2510.04996), of the recipe's own parts: on a stub solver, and on stored rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recipes.conftest import Play
from tests.training.stages.stub_solver import Player, make_attempts, make_groups

import sparring.scenarios
from sparring.scenarios.load import load
from sparring.scenarios.registry import advantages, group_stages, make
from sparring.storage.queries import select_rows
from sparring.storage.store import Store
from sparring.training.groups import Group
from sparring.training.stages.base import apply
from sparring.training.stages.subsets import Rounds

RECIPE = Path(sparring.scenarios.__file__).parent / "recipes" / "reinforce_ada.yaml"
SMALL = (
    "training.steps=1", "evaluation.every=0", "rollout.episodes=3", "rollout.picks=3", "curriculum.arms.depth=[2, 4]",
    "audit.tasks=1", "canary.every=0",
)  # fmt: skip


def stage(**options: object) -> Rounds:
    """The recipe's stage, with options of the test's own."""
    [ref] = load(RECIPE).group.stages
    made: Rounds = make(group_stages, ref.model_copy(update={"options": {**ref.options, **options}}))
    return made


def played(chances: list[float], rounds: Rounds, seed: int = 0) -> tuple[Player, list[Group], list[Group]]:
    """A stub solver that is right with these chances: itself, its groups, and what the stage makes of them."""
    player = Player(chances, rounds.config.samples, seed)
    player.play([rounds])
    groups = make_groups(player.episodes)
    return player, groups, apply([rounds], groups, player.episodes)


@pytest.fixture(scope="module")
def store(play: Play) -> Store:
    """A small step of the recipe."""
    return play(RECIPE, SMALL).store


def test_a_prompt_solved_one_time_in_ten_gets_more_samples_than_one_solved_every_other_time() -> None:
    _, groups, _ = played([0.1] * 40 + [0.5] * 40, stage())
    pool = [group.pool.size for group in groups]
    assert np.mean(pool[:40]) > 1.5 * np.mean(pool[40:])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 99), st.sampled_from([2, 3, 4, 6]))
@settings(max_examples=30, deadline=None)
def test_an_emitted_group_holds_both_outcomes_whenever_both_were_seen(
    chances: list[float], seed: int, keep: int
) -> None:
    _, groups, emitted = played(chances, stage(keep=keep), seed)
    for before, after in zip(groups, emitted, strict=True):
        assert set(after.reward_G) == set(before.reward_G)
        assert len(after.members) == min(keep, len(before.members)) and not after.dropped


def test_the_baseline_is_the_mean_of_the_pool_not_of_the_group_that_is_kept() -> None:
    part = make(advantages, load(RECIPE).training.advantage)
    _, groups, emitted = played([0.1] * 20, stage())
    lopsided = [at for at, group in enumerate(emitted) if np.mean(group.reward_G) != groups[at].pool.mean]
    assert lopsided
    for at in lopsided:
        mean = np.mean(groups[at].reward_G)
        assert part([emitted[at]])[0] == pytest.approx([reward - mean for reward in emitted[at].reward_G])


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 9), st.integers(0, 99),
    st.sampled_from(["balanced", "positive_focused"]),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_no_more_is_drawn_than_prompts_times_rounds_times_samples(
    chances: list[float], max_rounds: int, samples: int, seed: int, exit: str
) -> None:
    _, groups, _ = played(chances, stage(max_rounds=max_rounds, samples=samples, exit=exit), seed)
    assert all(group.pool.size <= max_rounds * samples for group in groups)
    assert sum(group.pool.size for group in groups) <= len(chances) * max_rounds * samples


@pytest.mark.parametrize(
    ("exit", "rewards", "leaves"),
    [
        ("balanced", [1.0, 1.0, 0.0, 0.0], True), ("balanced", [1.0, 0.0, 0.0, 0.0], False),
        ("balanced", [1.0] * 7 + [0.0], False), ("positive_focused", [0.0, 0.0, 1.0], True),
        ("positive_focused", [0.7, 0.0], False), ("positive_focused", [0.71, 0.0], True),
    ],
)  # fmt: skip
def test_a_prompt_leaves_by_its_exit_rule(exit: str, rewards: list[float], leaves: bool) -> None:
    [group] = make_groups([make_attempts(rewards)])
    assert stage(exit=exit, keep=4).done(group) is leaves


def test_the_counts_of_each_round_add_up() -> None:
    player, groups, emitted = played([0.05, 0.2, 0.5, 0.9] * 6, stage(), seed=4)
    told = stage().figures(groups, emitted, player.episodes, player.rounds)
    rounds = range(1, len(player.rounds) + 1)
    assert len(player.rounds) == 4 and told["rounds/groups"] == 24
    assert told["rounds/drawn_1"] == 24 * 4
    assert sum(told[f"rounds/drawn_{k}"] for k in rounds) == told["rounds/drawn"] == 24 * told["rounds/pool"]
    gone = 0.0
    for k in rounds:  # who has not left by round k - 1 is drawn in round k, four more turns each
        assert told[f"rounds/drawn_{k}"] == 4 * (24 - gone)
        gone += told[f"rounds/exited_{k}"]
    assert told["rounds/unfinished"] == 24 - gone
    assert told["rounds/one_sided"] == sum(len(set(group.reward_G)) == 1 for group in groups)


def test_the_counts_of_each_round_are_in_the_database(store: Store) -> None:
    rows = select_rows(
        store,
        "SELECT s.number, s.metrics, count(t.id) FROM steps s JOIN episodes e ON e.step_id = s.id"
        " JOIN turns t ON t.episode_id = e.id AND t.author = 'solver' GROUP BY s.number, s.metrics",
    ).rows
    pools = dict(
        select_rows(
            store, "SELECT s.number, sum(g.pool_size) FROM groups g JOIN steps s ON s.id = g.step_id GROUP BY s.number"
        ).rows
    )
    assert len(rows) == 1
    for step, metrics, turns in rows:
        told = json.loads(metrics) if isinstance(metrics, str) else metrics
        each = [value for name, value in told.items() if name.startswith("rl/rounds/drawn_")]
        assert sum(each) == told["rl/rounds/drawn/solver"] == turns == pools[step]
        assert each[0] == 3 * 4 and len(each) > 1


def test_what_was_drawn_and_not_kept_is_stored_and_trains_nothing(store: Store) -> None:
    out = select_rows(store, "SELECT a.weight, a.pull FROM advantages a WHERE a.note = 'left out'").rows
    assert out and set(out) == {(0.0, 0.0)}
