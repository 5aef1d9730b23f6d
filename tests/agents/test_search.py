"""Tree search: which turn is expanded next, the budget, the value of a step, branches that stand where they stood."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparring.agents.backup import StepValue, ends
from sparring.agents.engine import ByteRenderer, Request, ScriptedEngine
from sparring.agents.graph import build_graph, play
from sparring.agents.rewards import Context
from sparring.agents.role import make_role
from sparring.agents.search import Branch, choose, upper_bound
from sparring.agents.settle import settle
from sparring.agents.stage import Runtime
from sparring.agents.world import Pool
from sparring.envs.games.countdown import CountdownEnvironment, steps, taken
from sparring.envs.types import Ending, Episode, Parsed, Score, Turn
from sparring.scenarios.schema import GraphSpec, RoleSpec, SearchSpec

NODES = {"act": {"role": "solver"}, "move": {"do": "step"}, "look": {"do": "select"}}
EDGES = ["act -> move", "move -> look", "look -> act"]


def searching(width: int = 3, **search: Any) -> GraphSpec:
    """A loop of a role, the environment and a search."""
    nodes = {**NODES, "act": {"role": "solver", "samples": width}, "look": {"do": "select", "search": search}}
    return GraphSpec.model_validate({"nodes": nodes, "edges": EDGES})


def legal(prompt: str, request: Request) -> str:
    """Some step that is there, by the request's seed; sometimes none."""
    numbers = tuple(map(int, re.findall(r"([\d ]+)=\d+", prompt)[-1].split()))
    found = steps(numbers, "+-*/")
    return "?" if request.seed % 11 == 0 else found[request.seed % len(found)]


class Bare(CountdownEnvironment):
    """Countdown that takes no snapshots: a branch is replayed from its start."""

    def state(self) -> object:
        return NotImplemented


def searched(
    graph: GraphSpec, seed: int = 0, numbers: int = 4, world: type[CountdownEnvironment] = CountdownEnvironment
) -> Episode:
    """One settled episode of scripted steps on a task of so many numbers."""
    role = make_role("solver", RoleSpec(kind="plain", prompt="game/brief", reward={"value": 1.0}), Path())
    pool = Pool(world)
    task = world().sample({"numbers": numbers, "most": 9}, np.random.default_rng(seed))
    runtime = Runtime({"solver": role}, {"policy": ScriptedEngine(legal)}, ByteRenderer(), pool, seed=(seed, 0))
    episode = asyncio.run(play(build_graph(graph), runtime, task=task))
    assert episode.ending is Ending.DONE and episode.error == ""
    return settle(episode, {"solver": role}, world())


def said(episode: Episode) -> list[Turn]:
    return [turn for turn in episode.turns if turn.author == "solver"]


def expanded(episode: Episode) -> list[int]:
    """The turns that were expanded, in the order they were."""
    return list(dict.fromkeys(turn.parent for turn in said(episode) if turn.parent is not None))


# -- the choice ----------------------------------------------------------------------------------------------------


def grown() -> Branch:
    """Root with A (ends 1, 0, 0 and an open branch) and B (end 1 and an open branch)."""
    a = Branch(1, 1, below=[Branch(3, 2, 1.0), Branch(4, 2, 0.0), Branch(5, 2, 0.0), Branch(6, 2, open=True)])
    b = Branch(2, 1, below=[Branch(7, 2, 1.0), Branch(8, 2, open=True)])
    return Branch(0, below=[a, b])


def test_the_bound_equals_numbers_worked_out_by_hand() -> None:
    a, b = grown().below
    assert upper_bound(a, 4, 1.0) == pytest.approx(1 / 3 + math.sqrt(math.log(4) / 3))  # 1.0131
    assert upper_bound(b, 4, 1.0) == pytest.approx(1.0 + math.sqrt(math.log(4) / 1))  # 2.1774
    assert upper_bound(Branch(9), 4, 1.0) == math.inf


def test_uct_goes_down_the_larger_bound_and_an_unvisited_branch_comes_first() -> None:
    root = grown()
    assert choose(root, SearchSpec(explore=1.0)) == 8
    root.below[1].below[1].open = False  # B has nothing left
    assert choose(root, SearchSpec(explore=1.0)) == 6
    root.below.append(Branch(9, 1, open=True))
    assert choose(root, SearchSpec(explore=1.0)) == 9


def test_exploring_more_prefers_what_was_visited_less() -> None:
    many = Branch(1, 1, below=[*(Branch(3 + at, 2, 0.6) for at in range(9)), Branch(20, 2, open=True)])
    few = Branch(2, 1, below=[Branch(30, 2, 0.5), Branch(31, 2, open=True)])
    root = Branch(0, below=[many, few])
    # 0.6 + c sqrt(ln 10 / 9) against 0.5 + c sqrt(ln 10): equal at c = 0.0988
    assert choose(root, SearchSpec(explore=0.09)) == 20
    assert choose(root, SearchSpec(explore=0.11)) == 31


def test_the_other_policies_take_the_best_known_or_the_shallowest() -> None:
    root = grown()
    root.below[0].below.append(Branch(9, 2, 0.9, open=True))
    assert choose(root, SearchSpec(policy="best_first")) == 8  # above it is 1.0; 9 is worth 0.9 itself
    assert choose(root, SearchSpec(policy="breadth")) == 6
    root.below.append(Branch(10, 1, open=True))
    assert choose(root, SearchSpec(policy="breadth")) == 10
    assert choose(Branch(0), SearchSpec()) is None


# -- the search ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 50), st.sampled_from(["uct", "best_first", "breadth"]))
def test_the_budget_is_kept_exactly(simulations: int, width: int, seed: int, policy: str) -> None:
    episode = searched(searching(width, simulations=simulations, policy=policy), seed)
    count = len(expanded(episode))
    assert len(said(episode)) == count * width and count <= simulations
    if count < simulations:  # nothing was left: every open turn is expanded, or another said the same
        heard = {(episode.turns[at].said) for at in expanded(episode)}
        left = [turn for turn in episode.turns if turn.node == "move" and not turn.said.startswith("over")]
        assert all(turn.said in heard for turn in left)


def test_many_simulations_are_more_than_the_rounds_of_a_graph() -> None:
    episode = searched(searching(16, simulations=60), seed=6)
    assert len(expanded(episode)) > 32


def test_a_new_branch_is_followed_to_an_end_before_another_begins() -> None:
    episode = searched(searching(2, simulations=12), seed=1)
    order = expanded(episode)
    followed = 0
    for at, then in pairwise(order):
        below = [turn for turn in episode.turns if turn.node == "move" and episode.turns[turn.parent or 0].parent == at]
        if not any(turn.said.startswith("over") for turn in below):
            followed += 1
            assert episode.turns[at] in episode.ancestors(then)
    assert followed


@pytest.mark.parametrize("simulations", [1, 2, 6])
def test_a_task_that_goes_to_the_search_at_once_is_expanded_first_and_counts(simulations: int) -> None:
    nodes = {"ask": {"role": "solver"}, "admit": {"do": "admit"}, **NODES, "act": {"role": "solver", "samples": 2}}
    nodes["look"] = {"do": "select", "search": {"simulations": simulations}}
    edges = ["ask -> admit", "admit -> look if accepted", *EDGES]
    episode = searched(GraphSpec.model_validate({"nodes": nodes, "edges": edges}), seed=7)
    order = expanded(episode)
    assert order[0] == 0 and len(order) == simulations and len(said(episode)) == 2 * simulations
    late = searched(searching(2, simulations=simulations), seed=7)
    assert [turn.parent for turn in said(late)] == [turn.parent for turn in said(episode)]


class Mute(CountdownEnvironment):
    """Countdown that does not say what is left."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        told = super().step(action)
        return told if told[2] else ("go on", *told[1:])


@pytest.mark.parametrize("seed", range(3))
def test_branches_that_hear_the_same_and_stand_apart_are_all_expanded(seed: int) -> None:
    episode = searched(searching(6, simulations=40), seed, world=Mute)
    numbers = tuple(episode.tasks[0].payload["numbers"])
    first = [turn for turn in episode.turns if turn.said == "go on" and episode.turns[turn.parent or 0].parent == 0]
    made = {turn.index: taken(numbers, episode.turns[turn.parent or 0].said) for turn in first}
    went = [made[index] for index in expanded(episode) if index in made]
    assert len(went) == len(set(went)) == len(set(made.values())) > 1


def test_no_branch_grows_beyond_the_depth() -> None:
    episode = searched(searching(3, simulations=20, depth=2), seed=2)
    assert max(len([one for one in episode.ancestors(turn.index) if one.node == "act"]) for turn in said(episode)) == 2


class Scented(CountdownEnvironment):
    """Countdown that says how near an unfinished branch is."""

    scores = ("near",)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        told = super().step(action)
        if not told[2]:
            told[4]["scores"].append(Score.valued("near", 1 / (1 + abs(self.target - max(self.left))), "test"))
        return told


@pytest.mark.parametrize("policy", ["uct", "best_first"])
def test_an_unfinished_branch_is_worth_its_leaf_score(policy: str) -> None:
    episode = searched(searching(6, simulations=2, policy=policy, leaf="near", explore=0.0), seed=6, world=Scented)
    first, second = expanded(episode)
    near = {
        move.index: score.value or 0.0
        for move in episode.turns
        if move.node == "move" and move.parent is not None and episode.turns[move.parent].parent == first
        if (score := episode.score(move.parent, "near")) is not None
    }
    ends = [end for end in near if episode.turns[end].said.startswith("over")]
    assert len(set(near.values())) > 1 and not ends
    assert near[second] == max(near.values())


def test_same_seed_same_tree() -> None:
    first, again, other = (searched(searching(3, simulations=8), seed) for seed in (5, 5, 6))
    assert first.turns == again.turns and first.scores == again.scores and first.turns != other.turns


@pytest.mark.parametrize("seed", range(4))
def test_a_restored_branch_is_a_replayed_branch(seed: int) -> None:
    graph = searching(3, simulations=8)
    kept, replayed = searched(graph, seed), searched(graph, seed, world=Bare)
    assert kept.turns == replayed.turns and kept.scores == replayed.scores


def test_every_branch_replays_to_the_words_and_the_score_it_has() -> None:
    episode = searched(searching(3, simulations=10), seed=7)
    for end in (turn for turn in said(episode) if episode.score(turn.index, "verifier")):
        environment = CountdownEnvironment()
        environment.reset(seed=0, options={"task": episode.tasks[0]})
        path = [turn for turn in reversed(episode.ancestors(end.index)) if turn.author == "solver"]
        info = [environment.step(turn.said)[4] for turn in path][-1]
        held = episode.score(end.index, "verifier")
        assert held is not None and info["scores"][0].value == held.value


# -- the value of a step ---------------------------------------------------------------------------------------------


def tree(parents: Sequence[int | None], verifier: dict[int, float], verdicts: dict[int, str] | None = None) -> Episode:
    """Turns of a solver (or of a critic, where there is a verdict) by their parents."""
    verdicts = verdicts or {}
    turns = tuple(
        Turn(
            at, parent, "n", "critic" if at in verdicts else "solver" if at else "environment", "",
            parsed=Parsed("verdict", verdicts[at]) if at in verdicts else None,
        )
        for at, parent in enumerate(parents)
    )  # fmt: skip
    scores = {at: (Score.valued("verifier", value, "test"),) for at, value in verifier.items()}
    return Episode(0, 0, {}, turns, (), scores, {}, {}, Ending.DONE)


def valued(episode: Episode, index: int, opinion: float = 0.0) -> tuple[Score, ...]:
    context = Context({}, CountdownEnvironment())
    return StepValue(StepValue.Config(opinion=opinion))(episode, episode.turns[index], context)


def test_the_value_is_the_mean_of_the_ends_below_with_their_number_as_visits() -> None:
    #      0 - 1 - 3 (1), 4 (0), 5 (unfinished)   2 - 6 (1) - 7 (0: scored later on the same branch)
    episode = tree([None, 0, 0, 1, 1, 1, 2, 6], {3: 1.0, 4: 0.0, 6: 1.0, 7: 0.0})
    assert [turn.index for turn in ends(episode, episode.turns[1])] == [3, 4]
    assert [score.value for score in valued(episode, 1)] == [0.5, 2]
    assert [score.value for score in valued(episode, 3)] == [1.0, 1]
    assert [score.value for score in valued(episode, 2)] == [0.0, 1]
    assert valued(episode, 5)[0].validity == "missing"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_backed_up_values_are_the_visit_weighted_mean_of_those_below(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 12))
    parents = [None, *(data.draw(st.integers(0, at - 1)) for at in range(1, count))]
    leaves = [at for at in range(1, count) if at not in parents]
    episode = tree(parents, {at: data.draw(st.sampled_from([0.0, 0.25, 1.0])) for at in leaves})
    for index in range(1, count):
        children = [valued(episode, at) for at in range(1, count) if parents[at] == index]
        q, visits = (score.value or 0.0 for score in valued(episode, index))
        if children:
            assert visits == sum(child[1].value or 0 for child in children)
            assert q * visits == pytest.approx(sum((c[0].value or 0) * (c[1].value or 0) for c in children))


def test_a_judges_word_about_the_step_is_mixed_in_by_its_weight() -> None:
    #   1 - 2 (critic: right) - 3 (0), 4 (1) - 5 (critic: wrong, about 4)
    episode = tree([None, 0, 1, 2, 2, 4], {3: 0.0, 4: 1.0}, {2: "right", 5: "wrong"})
    assert valued(episode, 1, 0.0)[0].value == 0.5
    assert valued(episode, 1, 0.25)[0].value == pytest.approx(0.75 * 0.5 + 0.25 * 1.0)
    assert valued(episode, 4, 0.25)[0].value == pytest.approx(0.75 * 1.0 + 0.25 * 0.0)
    assert valued(episode, 3, 0.25)[0].value == 0.0


def test_an_end_that_could_not_be_judged_makes_no_value() -> None:
    episode = tree([None, 0, 1], {})
    broken = Episode(
        0, 0, {}, episode.turns, (), {2: (Score.invalid("verifier", "test", "crash"),)}, {}, {}, Ending.DONE
    )
    assert valued(broken, 1)[0].validity == "invalid"


def test_a_search_scores_every_step_with_what_its_branch_came_to() -> None:
    episode = searched(searching(3, simulations=8), seed=4)
    for turn in said(episode):
        below = ends(episode, turn)
        score = episode.score(turn.index, "value")
        assert score is not None
        if below:
            held = [episode.score(one.index, "verifier") for one in below]
            marks = [mark.value for mark in held if mark is not None and mark.value is not None]
            assert len(marks) == len(below) and score.value == pytest.approx(sum(marks) / len(marks))
        else:
            assert score.validity == "missing"


def test_given_a_task_of_one_step_the_search_is_over_after_the_first_expansion() -> None:
    assert len(said(searched(searching(3, simulations=9), numbers=2))) == 3
