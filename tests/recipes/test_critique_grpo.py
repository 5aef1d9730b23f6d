"""What Critique-GRPO promises (arXiv 2506.03106), of the recipe's own parts, on a step the built-in model plays."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sparring.scenarios
from sparring.envs.types import Episode, Pick, Turn
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import load
from sparring.scenarios.recipe_spec import words
from sparring.scenarios.schema import Scenario
from sparring.storage.store import Store
from sparring.training.learner import Learner
from sparring.training.plan import Plan
from sparring.training.rows import Row
from sparring.training.session import Session, start
from sparring.training.trainers.base import Made

RECIPE = Path(sparring.scenarios.__file__).parent / "recipes" / "critique_grpo.yaml"
SMALL = (
    "evaluation.every=0", "rollout.episodes=4", "rollout.picks=2", "curriculum.arms.depth=[2, 3]", "audit.tasks=1",
    "canary.every=0",
)  # fmt: skip
GAMMA = 0.1


@dataclass(frozen=True)
class Step:
    """A step of the recipe as it is played, and what its trainer makes of it."""

    session: Session
    episodes: Sequence[Episode]
    made: Made

    def turn(self, row: Row) -> tuple[Episode, Turn]:
        [span] = row.spans
        episode = self.episodes[span.episode]
        return episode, episode.turns[span.turn]

    @property
    def inserted(self) -> list[Row]:
        return [row for row in self.made.rows if row.loss == "rl/inserted"]


def made_of(scenario: Scenario, session: Session, episodes: Sequence[Episode]) -> Made:
    plan = Plan.of(scenario, session.policy.renderer)
    return plan.make(plan.due(1, {}), episodes, 1)


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Step]:
    scenario = load(RECIPE, SMALL)
    session = start(scenario, Store(tmp_path_factory.mktemp("critique") / "sparring.db"))
    picks = [Pick("easy", {"depth": 2}, 2), Pick("hard", {"depth": 3}, 2)]
    episodes = asyncio.run(session.rollout.play(picks, 1))
    yield Step(session, episodes, made_of(scenario, session, episodes))
    session.close()


def test_a_group_is_seven_attempts_and_one_refinement_of_a_wrong_one(step: Step) -> None:
    scenario = load(RECIPE)
    assert scenario.graph_spec().nodes["solve"].samples == 7
    of_group: dict[int, list[Turn]] = {}
    for row in step.made.advantages:
        if row.weight:
            of_group.setdefault(row.group, []).append(step.episodes[row.episode].turns[row.turn])
    sizes = [[turn.node for turn in turns] for turns in of_group.values()]
    assert all(nodes[:7] == ["solve"] * 7 and nodes[7:] in ([], ["revise"]) for nodes in sizes)
    assert any(len(nodes) == 8 for nodes in sizes)
    assert step.made.figures["rl/inserted/share/solver"] == sum(map(len, sizes)) / len(sizes) - 7


def test_the_refinement_is_the_first_right_one_else_the_best(step: Step) -> None:
    for row in step.inserted:
        episode, chosen = step.turn(row)
        scores = {t.index: episode.score(t.index, "verifier") for t in episode.turns if t.node == "revise"}
        rewards = {index: score.value or 0.0 for index, score in scores.items() if score is not None}
        right = [index for index, reward in rewards.items() if reward == 1.0]
        assert chosen.index == (right[0] if right else max(rewards, key=lambda index: rewards[index]))


def test_advantages_are_over_the_union_without_a_deviation(step: Step) -> None:
    for group in step.made.groups:
        rows = [row for row in step.made.advantages if row.group == group.index and row.weight]
        rewards = [row.reward or 0.0 for row in rows]
        mean = math.fsum(rewards) / len(rows) if rows else 0.0
        assert [row.value for row in rows] == pytest.approx([reward - mean for reward in rewards])


def test_a_refinement_is_trained_under_the_original_prompt(step: Step) -> None:
    assert step.inserted
    for row in step.inserted:
        episode, chosen = step.turn(row)
        attempt = next(one for one in episode.ancestors(chosen.parent) if one.node == "solve")
        assert attempt.context is not None and chosen.context is not None
        assert tuple(row.token_ids) == attempt.context.token_ids + chosen.token_ids
        assert chosen.follows == attempt.index and "Critic:" in chosen.context.text


def probabilities(model: Any, ids: Sequence[int], said: int) -> torch.Tensor:
    """p of the last ``said`` tokens under all that stands before them, by a plain forward."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float()
    taken = torch.log_softmax(logits, -1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return taken[-said:].exp()


def told(step: Step, rows: Sequence[Row]) -> dict[str, float]:
    """What an update on these rows reports; its learning rate is 0, so the model stays."""
    still = {"lr": 0.0}
    spec = step.session.scenario.training
    spec = spec.model_copy(update={"optimizer": spec.optimizer.model_copy(update=still)})
    learner = Learner(step.session.learner.whole, step.session.plan.losses, spec)
    return learner.step(rows).figures


def test_the_shaped_loss_is_of_probabilities_under_the_original_prompt(step: Step) -> None:
    """L = -sum share A p / (p + gamma); under the prompt with the critique it is another number."""
    pulled = [replace(row, streams={**row.streams, "advantage": [1.0] * len(row.token_ids)}) for row in step.inserted]
    model = step.session.policy.model
    expected = beside = 0.0
    for row in pulled:
        _, chosen = step.turn(row)
        assert chosen.context is not None
        said, share = len(chosen.token_ids), row.coefficient_T[-1]
        p_T = probabilities(model, row.token_ids, said)
        expected -= share * float((p_T / (p_T + GAMMA)).sum())
        shown_T = probabilities(model, [*chosen.context.token_ids, *chosen.token_ids], said)
        beside -= share * float((shown_T / (shown_T + GAMMA)).sum())
    loss = told(step, pulled)["train/loss"]
    assert loss == pytest.approx(expected, rel=1e-4) and abs(loss - beside) > 1e-3


def test_only_refinements_are_shaped_and_a_token_weighs_the_same_in_either(step: Step) -> None:
    nodes = {row.loss: {step.turn(row)[1].node} for row in step.made.rows}
    assert nodes == {"rl": {"solve"}, "rl/inserted": {"revise"}}
    losses: Any = step.session.plan.losses
    assert losses["rl"].config.gradient == "plain" and losses["rl"].config.mask == "none"
    assert losses["rl/inserted"].config.gradient == "shaped" and losses["rl/inserted"].config.gamma == GAMMA
    trajectories = sum(row.weight > 0 for row in step.made.advantages)
    (share,) = {share for row in step.made.rows for share in row.coefficient_T if share}
    assert share == pytest.approx(1 / (trajectories * losses["rl"].config.length))


def without_refinements(episode: Episode) -> Episode:
    kept = [turn for turn in episode.turns if turn.node in ("task", "solve", "verify")]
    assert [turn.index for turn in kept] == list(range(len(kept)))
    scores = {index: given for index, given in episode.scores.items() if index < len(kept)}
    return replace(episode, turns=tuple(kept), scores=scores)


def test_without_refinements_it_is_the_control(step: Step) -> None:
    scenario = load(RECIPE, SMALL)
    assert scenario.recipe is not None
    control = load(RECIPE, [*SMALL, *words(scenario.recipe.controls["none"])])
    bare = [without_refinements(episode) for episode in step.episodes]
    mine, other = (made_of(one, step.session, bare).rows for one in (scenario, control))
    assert [(row.token_ids, row.coefficient_T, row.loss) for row in mine] == [
        (row.token_ids, row.coefficient_T, row.loss) for row in other
    ]
    first, second = told(step, mine), told(step, other)
    assert first["train/loss"] == second["train/loss"] and first["train/grad_norm"] == second["train/grad_norm"] > 0


@pytest.mark.parametrize(("kind", "changes", "says"), [
    ("indication", ("roles.critic.prompt=critique/indication_brief", "roles.critic.sees=[outcome]"), "<verdict>wrong<"),
    ("truth", ("roles.critic.prompt=critique/truth_brief", "roles.critic.sees=[outcome, reference]"), "<think>"),
    ("full", ("roles.critic={prompt: brief/critic, trainable: false}",), None),
])  # fmt: skip
def test_the_three_kinds_of_critique_are_lines_of_yaml(kind: str, changes: tuple[str, ...], says: str | None) -> None:
    critic = load(RECIPE, [*SMALL, *changes]).roles["critic"]
    assert not critic.trainable and (critic.engine is None) == (kind == "full")
    if says is not None:
        from sparring.agents.role import make_role

        assert make_role("critic", critic).prompt.render({"outcome": "wrong", "reference": "7"}).startswith(says)


def test_a_loss_for_a_way_in_that_there_is_not_is_refused() -> None:
    scenario = load(RECIPE, ["training.trainers.rl.losses={insert: {kind: shaped}}"])
    with pytest.raises(ScenarioError, match=r"unknown way for turns to come in 'insert'; did you mean 'inserted'"):
        Plan.of(scenario, None)
