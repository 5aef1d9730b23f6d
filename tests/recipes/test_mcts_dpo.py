"""What MCTS-DPO promises (arXiv 2405.00451), of the recipe's own parts: on a hand-made tree, and on stored rows.

The search itself (UCT by hand, the budget, the backup) is tested in ``tests/agents/test_search.py``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparring.scenarios
from sparring.agents.presets import solve
from sparring.envs.types import Ending, Episode, Score, Segment, Turn
from sparring.scenarios.load import from_resolved, load
from sparring.scenarios.registry import make, trainers
from sparring.storage.queries import run_hash, select_rows
from sparring.storage.store import Store
from sparring.training.evaluate import attempt_graph
from sparring.training.loop import learn
from sparring.training.session import resume, start
from sparring.training.summary import searched
from sparring.training.trainers.base import Made, Played

RECIPE = Path(sparring.scenarios.__file__).parent / "recipes" / "mcts_dpo.yaml"
SMALL = (
    "training.steps=3", "training.trainers.warmup.until=1", "training.trainers.pairs.after=1",
    "training.trainers.pairs.demonstrations=true", "roles.solver.demonstrated=0.6", "rollout.episodes=3",
    "rollout.picks=3", "evaluation.every=0", "audit.tasks=1", "canary.every=0",
)  # fmt: skip
SHARED = (1, 2, 3, 50, 51, 4)  # read, a step that was taken, read


def said(index: int, parent: int, *ids: int, follows: int | None = None) -> Turn:
    """A step of the solver."""
    context = Segment("", (1, 2, 3) if follows is None else (4,))
    return Turn(
        index, parent, "act", "solver", str(ids), follows=follows, context=context, token_ids=ids,
        logprobs=(-1.0,) * len(ids), engine="transformers",
    )  # fmt: skip


def answered(index: int, parent: int | None) -> Turn:
    return Turn(index, parent, "move", "environment", "")


@pytest.fixture
def tree() -> Episode:
    """Two steps at the root (Q 2/3 and 0), below the first three ends: 1, 1 and 0; a fourth is not expanded.

    0 task - 1 (Q 2/3) - 2 - 5 (1), 6 (1), 7 (0)
           - 3 (Q 0)   - 4 - 8 (0)
           - 9 (unknown)
    """
    turns = (
        answered(0, None), said(1, 0, 50, 51), answered(2, 1), said(3, 0, 50, 52), answered(4, 3),
        said(5, 2, 60, 61, follows=1), said(6, 2, 60, 62, follows=1), said(7, 2, 60, 63, 64, follows=1),
        said(8, 4, 60, 61, follows=3), said(9, 0, 53),
    )  # fmt: skip
    values = {1: (2 / 3, 3), 3: (0.0, 1), 5: (1.0, 1), 6: (1.0, 1), 7: (0.0, 1), 8: (0.0, 1)}
    scores = {
        at: (Score.valued("value", q, "ends"), Score.valued("visits", n, "ends")) for at, (q, n) in values.items()
    }
    return Episode(0, 0, {}, turns, (), scores, {}, {}, Ending.DONE)


def paired(episode: Episode, **options: Any) -> Made:
    """What the recipe's preference trainer makes of this tree."""
    scenario = load(RECIPE)
    spec = scenario.training.trainers["pairs"]
    spec = spec.model_copy(update={"options": {**spec.options, **options}})
    played = Played([episode], scenario.roles, 30, np.random.default_rng(0), None)
    made: Made = make(trainers, spec, scenario).make(played)
    return made


def sides(made: Made) -> list[tuple[int, int]]:
    ends = [row.spans[-1].turn for row in made.rows]
    return list(zip(ends[::2], ends[1::2], strict=True))


def test_the_best_and_the_worst_child_of_every_node_are_a_pair(tree: Episode) -> None:
    made = paired(tree)
    assert sorted(sides(made)) == [(1, 3), (5, 7)]  # 8 has no sibling, 9 no value
    assert made.figures["pairs"] == 2 and made.figures["gap"] == pytest.approx((2 / 3 + 1) / 2)


def test_children_of_equal_value_and_cousins_are_no_pair(tree: Episode) -> None:
    assert {5, 6} not in [set(pair) for pair in sides(paired(tree, pairs="all"))]
    assert all(tree.turns[one].parent == tree.turns[other].parent for one, other in sides(paired(tree, pairs="all")))


def test_what_two_siblings_share_is_not_trained(tree: Episode) -> None:
    for row in paired(tree).rows:
        own = row.spans[-1].start + 1  # 50 and 60 begin both sides
        assert [at for at, share in enumerate(row.coefficient_T) if share] == list(range(own, len(row.token_ids)))
    below = [row for row in paired(tree).rows if row.spans[-1].turn in (5, 7)]
    assert all(tuple(row.token_ids[:6]) == SHARED and not any(row.coefficient_T[:7]) for row in below)


def test_visit_counts_doubt_a_pair_as_the_paper_says(tree: Episode) -> None:
    made = paired(tree, smoothing="visits")
    assert sides(made) == [(1, 3)]  # 5 and 7 were visited alike: their order is as doubtful as can be
    doubt = 1 / (3 / 1 + 1)
    assert [row.streams["advantage"][-1] for row in made.rows] == pytest.approx([1 - 2 * doubt, 2 * doubt - 1])


def test_the_figures_of_a_search_are_means_over_its_tasks(tree: Episode) -> None:
    marks = {at: (Score.valued("verifier", value, "test"),) for at, value in {5: 1.0, 6: 1.0, 7: 0.0, 8: 0.0}.items()}
    first = dataclasses.replace(tree, turns=tuple(turn.amended(task="a") for turn in tree.turns), scores=marks)
    lost = {at: (Score.valued("verifier", 0.0, "test"),) for at in marks}
    second = dataclasses.replace(first, index=1, scores=lost)
    never = dataclasses.replace(first, index=2, scores={})
    played, graph = [first, second, never], load(RECIPE).graph_spec()
    figures = searched(played, graph)
    assert searched(played, solve()) == {}  # a graph without a search
    assert figures == {
        "search/turns": 7.0, "search/depth": 2.0, "search/ends": 4.0, "search/right": 0.25, "search/found": 0.5,
        "search/mixed": 0.5,
    }  # fmt: skip


def test_accuracy_is_measured_without_the_search() -> None:
    part = attempt_graph(load(RECIPE).graph_spec(), 1)
    assert set(part.nodes) == {"act", "move"}
    assert [tuple(arrow) for arrow in part.arrows()] == [("act", "move", None), ("move", "act", "unfinished")]


# -- stored rows ----------------------------------------------------------------------------------------------------


def finished(where: Path, stop: int | None = None) -> Store:
    """The database of a small run, all of it or until so many steps, with the rest after a resume."""
    where.mkdir()
    store = Store(where / "sparring.db")
    session = start(load(RECIPE, SMALL), store)
    asked = itertools.count()
    asyncio.run(learn(session, stop=lambda: stop is not None and next(asked) >= stop))
    session.close()
    if stop is not None:
        store = Store(where / "sparring.db")
        point = store.resume_point("r1")
        session = resume(from_resolved(point.scenario), store, point)
        asyncio.run(learn(session))
        session.close()
    return Store(where / "sparring.db")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A small run of the recipe in which demonstrations stand in for a policy that finds right ends."""
    return finished(tmp_path_factory.mktemp("mcts") / "whole")


def rows(store: Store, query: str) -> list[Any]:
    return list(select_rows(store, query).rows)


def test_no_tree_has_more_expansions_than_simulations(store: Store) -> None:
    counts = rows(store, "SELECT COUNT(DISTINCT parent) FROM turns WHERE author = 'solver' GROUP BY episode_id")
    assert counts and max(count for (count,) in counts) <= 5


def test_the_pairs_of_a_run_are_siblings_and_their_gap_is_told(store: Store) -> None:
    query = """
        SELECT a.value, t.parent, g.id FROM advantages a JOIN turns t ON t.id = a.turn_id
        JOIN groups g ON g.step_id = a.step_id AND g.number = a."group" WHERE g.trainer = 'pairs' AND g.size = 2
    """
    pairs: dict[int, list[tuple[float, int]]] = {}
    for value, parent, group in rows(store, query):
        pairs.setdefault(group, []).append((value, parent))
    assert pairs
    assert all(sorted(v for v, _ in pair) == [-1.0, 1.0] for pair in pairs.values())
    told = [value for (value,) in rows(store, "SELECT json_extract(metrics, '$.\"pairs/gap\"') FROM steps")]
    assert any(value is not None and value > 0 for value in told)


def test_every_tree_is_of_the_policy_that_it_trains(store: Store) -> None:
    from_sql = "SELECT json_extract(metrics, '$.\"late/most\"') FROM steps WHERE number > 0"
    late = [value for (value,) in rows(store, from_sql)]
    assert len(late) == 3 and set(late) <= {0.0, None}


def test_same_seed_same_rows_and_a_resumed_run_is_the_same_run(store: Store, tmp_path: Path) -> None:
    whole = run_hash(store, "r1")
    assert run_hash(finished(tmp_path / "resumed", stop=2), "r1") == whole
