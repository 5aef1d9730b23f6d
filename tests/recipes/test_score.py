"""What SCoRe promises (arXiv 2409.12917), of the recipe's own parts: rewards of both turns, and whom a stage pulls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import sparring.scenarios
from sparring.envs.types import Ending, Episode, Score, Segment, Turn
from sparring.scenarios.load import load
from sparring.scenarios.schedule import Now
from sparring.scenarios.schema import Scenario
from sparring.training.course import learner_for
from sparring.training.credit import components
from sparring.training.evaluate import scored
from sparring.training.plan import Plan
from sparring.training.policy import load_policy
from sparring.training.trainers.base import Made

RECIPE = Path(sparring.scenarios.__file__).parent / "recipes" / "score.yaml"
SCENARIO = load(RECIPE)
STAGE_I = SCENARIO.training.trainers["hold"].until or 0
ALPHA = 10.0
BOUND = 0.1  # nats per token
FOUR = [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)]


def episode(outcomes: Sequence[tuple[float, float]] = FOUR) -> Episode:
    """Attempts at one task and a retry of each, with the scores the recipe's rewards give."""
    turns = [Turn(0, None, "task", "environment", "", task="t")]
    scores: dict[int, tuple[Score, ...]] = {}
    for first, second in outcomes:
        at = len(turns)
        turns.append(said(at, 0, "solve", None))
        turns.append(said(at + 1, at, "retry", at))
        scores[at] = (Score.valued("verifier", first, "test"),)
        gained = Score.valued("progress", second - first, "test")
        scores[at + 1] = (Score.valued("verifier", second, "test"), gained)
    return Episode(0, 0, {}, tuple(turns), (), scores, {}, {}, Ending.DONE)


def said(at: int, parent: int, node: str, follows: int | None) -> Turn:
    heard = Segment("?", (1, 2) if follows is None else (3,))
    return Turn(at, parent, node, "solver", "", 0, follows, heard, None, (5 + at, 6), (-1.0, -1.0), task="t")


def at_step(step: int, scenario: Scenario = SCENARIO) -> Made:
    plan = Plan.of(scenario, None)
    return plan.make(plan.due(step, {}), [episode()], step)


def wages(step: int) -> Mapping[str, float]:
    return SCENARIO.at(Now(step, SCENARIO.training.steps)).roles["solver"].reward


def earned(step: int) -> list[float]:
    whole = episode()
    return [math.fsum((components(whole, turn, wages(step)) or {}).values()) for turn in whole.turns[1:]]


@pytest.mark.parametrize("step", [1, STAGE_I])
def test_in_stage_one_every_attempt_earns_its_verifier(step: int) -> None:
    assert earned(step) == [mark for pair in FOUR for mark in pair]


@pytest.mark.parametrize("step", [STAGE_I + 1, SCENARIO.training.steps])
def test_in_stage_two_the_second_earns_alpha_times_what_it_gained_too(step: int) -> None:
    assert earned(step)[0::2] == [first for first, _ in FOUR]
    assert earned(step)[1::2] == [second + ALPHA * (second - first) for first, second in FOUR]
    assert earned(step)[1::2] == [1 + ALPHA, -ALPHA, 1.0, 0.0]


def trained(made: Made) -> dict[str, set[str]]:
    """By loss, the nodes of the turns it trains."""
    whole = episode()
    return {
        loss: {whole.turns[span.turn].node for row in made.rows if row.loss == loss for span in row.spans}
        for loss in {row.loss for row in made.rows}
    }


def test_stage_one_rewards_the_second_attempt_and_holds_the_first_by_a_kl_alone() -> None:
    assert trained(at_step(1)) == trained(at_step(STAGE_I)) == {"hold": {"solve"}, "retries": {"retry"}}
    losses: Any = Plan.of(SCENARIO, None).losses
    hold, retries = losses["hold"].config, losses["retries"].config
    assert hold.positive == hold.negative == 0 and hold.kl.coefficient > 10 * retries.kl.coefficient
    assert retries.positive == retries.negative == 1


def test_the_strong_kl_lies_on_the_tokens_of_first_attempts_only() -> None:
    for row in at_step(1).rows:
        mine = {at for span in row.spans for at in range(span.start, span.stop)}
        assert set(row.trained) == mine
        if row.loss == "hold":
            assert all(share > 0 for at, share in enumerate(row.coefficient_T) if at in mine)
    everyone = sum(len(row.trained) for row in at_step(1).rows if row.loss == "hold")
    assert everyone == 2 * len(FOUR)  # also tokens whose advantage is 0


def test_stage_two_rewards_both() -> None:
    assert trained(at_step(STAGE_I + 1)) == {"both": {"solve", "retry"}}


def test_the_control_has_no_stage_and_no_bonus() -> None:
    assert SCENARIO.recipe is not None
    control = SCENARIO.recipe.controls["multi_turn"]
    assert control["roles.solver.reward"]["progress"] == 0.0
    assert list(control["training.trainers"]) == ["both"]
    assert set(control["roles.solver.reward"]) == set(wages(1))


def test_accuracies_and_what_a_retry_corrected_and_spoiled_are_metrics() -> None:
    wanted = {one.metric: one for one in scored(SCENARIO.evaluation.metrics)}
    whole = episode()
    assert wanted["solve.verifier"].values(whole) == [0.0, 1.0, 1.0, 0.0]
    assert wanted["retry.verifier"].values(whole) == [1.0, 0.0, 1.0, 0.0]
    assert wanted["retry.progress"].values(whole) == [1.0, -1.0, 0.0, 0.0]
    assert {"retry.corrected", "retry.spoiled", "retry.edits"} <= wanted.keys()


def drift(folder: Path, *changes: str) -> float:
    """How far first attempts are from the start policy, in nats per token, after some updates of stage I."""
    quick = ("training.optimizer.lr=0.003", "training.trainers.hold.until=99", "training.trainers.retries.until=99")
    scenario = load(RECIPE, [f"policy.model={folder}", "training.trainers.both.after=99", *quick, *changes])
    policy = load_policy(scenario.policy, scenario.base)
    plan = Plan.of(scenario, policy.renderer)
    learner = learner_for(policy, plan)
    made = at_step(1, scenario)
    return max(learner.step(made.rows).figures["hold/kl"] for _ in range(12))


def test_in_stage_one_the_kl_keeps_first_attempts_near_the_start(tiny_model: Path) -> None:
    loose = drift(tiny_model, "training.trainers.hold.loss.kl.coefficient=0.000001")
    held = drift(tiny_model)
    assert held < BOUND < loose
