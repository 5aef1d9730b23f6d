"""Preference pairs: whom they hold, what of them is trained, and that a pair is never torn apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from sparring.envs.types import Episode, Score
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.schema import OptimizerSpec, Scenario, TrainingSpec
from sparring.training.learner import Learner, Update
from sparring.training.model import Model
from sparring.training.rows import Row
from sparring.training.trainers.base import Made, Played
from sparring.training.trainers.preference import PreferencePairs

Make = Callable[..., Episode]
Play = Callable[..., Played]
World = Callable[..., Scenario]


def part(scenario: Scenario, **options: Any) -> PreferencePairs:
    return PreferencePairs(PreferencePairs.Config.model_validate(options), scenario)


def sides(made: Made) -> list[tuple[int, int]]:
    """Chosen and rejected turn of every pair."""
    ends = [row.spans[-1].turn for row in made.rows]
    return list(zip(ends[::2], ends[1::2], strict=True))


@pytest.fixture
def three(episode: Make) -> Episode:
    """Worst, best, middling."""
    return episode(
        {"verifier": 0.0, "ids": (10, 11, 12, 20)},
        {"verifier": 1.0, "ids": (10, 13, 20)},
        {"verifier": 0.5, "ids": (10, 13, 14, 20)},
    )


def test_the_best_is_paired_with_the_worst(scenario: World, played: Play, three: Episode) -> None:
    made = part(scenario()).make(played([three]))
    assert sides(made) == [(2, 1)]
    assert [(row.turn, row.value) for row in made.advantages] == [(2, 1.0), (1, -1.0)]
    assert [group.size for group in made.groups] == [2]


def test_the_closest_pair_differs_least(scenario: World, played: Play, three: Episode) -> None:
    assert sides(part(scenario(), pairs="closest").make(played([three]))) == [(2, 3)]


def test_all_pairs_hold_every_difference_and_one_record_per_turn(scenario: World, played: Play, three: Episode) -> None:
    made = part(scenario(), pairs="all").make(played([three]))
    assert sorted(sides(made)) == [(2, 1), (2, 3), (3, 1)]
    assert {row.turn: row.value for row in made.advantages} == {1: -2.0, 2: 2.0, 3: 0.0}
    assert sides(part(scenario(), pairs="all", at_most=1).make(played([three]))) == [(2, 1)]


def test_a_gap_too_small_makes_no_pair(scenario: World, played: Play, three: Episode) -> None:
    assert sides(part(scenario(), pairs="all", gap=0.5).make(played([three]))) == [(2, 1)]
    made = part(scenario(), gap=1.0).make(played([three]))
    assert not made.rows and made.groups[0].note == "no pair" and made.figures["pairs"] == 0


def test_answers_to_different_prompts_are_no_pair(scenario: World, played: Play, episode: Make) -> None:
    step = episode({"verifier": 1.0, "context": (1, 2)}, {"verifier": 0.0, "context": (1, 3)})
    assert not part(scenario()).make(played([step])).rows
    assert not part(scenario(), level="step").make(played([step])).rows


def test_a_pairs_tokens_share_the_pairs_share(scenario: World, played: Play, three: Episode) -> None:
    made = part(scenario()).make(played([three, dataclasses.replace(three, index=1, pick=1)]))
    assert [row.unit for row in made.rows] == [0, 0, 1, 1]
    assert {share for row in made.rows for share in row.coefficient_T} == {0.0, 1 / 2 / 7}
    assert math.fsum(share for row in made.rows for share in row.coefficient_T) == pytest.approx(1.0)


def test_a_step_pair_is_trained_from_the_first_token_that_differs(
    scenario: World, played: Play, three: Episode
) -> None:
    chosen, rejected = part(scenario(), level="step").make(played([three])).rows
    assert (chosen.trained, rejected.trained) == ([4, 5], [4, 5, 6])  # three asked, one shared


@pytest.fixture
def branched(episode: Make) -> Episode:
    """One attempt, gone on with in two ways."""
    again = {"parent": 1, "follows": 1, "node": "revise", "context": (7,)}
    return episode(
        {"ids": (10, 11)},
        {**again, "verifier": 1.0, "ids": (12, 20)},
        {**again, "verifier": 0.0, "ids": (13, 20)},
    )


@pytest.mark.parametrize("level", ["sequence", "step"])
def test_what_came_before_the_branch_is_context(level: str, scenario: World, played: Play, branched: Episode) -> None:
    made = part(scenario(), level=level).make(played([branched]))
    assert [row.token_ids for row in made.rows] == [[1, 2, 3, 10, 11, 7, 12, 20], [1, 2, 3, 10, 11, 7, 13, 20]]
    assert [row.trained for row in made.rows] == [[6, 7], [6, 7]]
    assert [row.turn for row in made.advantages] == [2, 3]


@pytest.fixture
def apart(episode: Make) -> list[Episode]:
    """Two whole conversations, told different things on the way."""
    return [
        episode(
            {"ids": (10 + at, 11)},
            {"parent": 1, "follows": 1, "context": (40 + at,), "ids": (30, 31), "verifier": 1.0 - at, "node": "revise"},
            index=at,
        )
        for at in range(2)
    ]


def test_a_sequence_pair_compares_whole_conversations(scenario: World, played: Play, apart: list[Episode]) -> None:
    made = part(scenario()).make(played(apart))
    assert [row.trained for row in made.rows] == [[3, 4, 6, 7], [3, 4, 6, 7]]  # not what others said in between
    assert [(row.episode, row.turn, row.value) for row in made.advantages] == [
        (0, 1, 1.0), (0, 2, 1.0), (1, 1, -1.0), (1, 2, -1.0),
    ]  # fmt: skip
    assert not part(scenario(), level="step").make(played(apart)).rows  # the last turns read different things


def gradient(model: Any, rows: Sequence[Row], loss: Any, tokens: int = 10_000) -> tuple[torch.Tensor, Update]:
    """The flat gradient of a step against a reference that differs; ``model`` is put back."""
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    optimizer = OptimizerSpec(kind="sgd", lr=1.0)
    spec = TrainingSpec(optimizer=optimizer, max_grad_norm=1e9, micro_batch_tokens=tokens)
    reference = Model(model).reference()
    with torch.no_grad():
        model.lm_head.weight += 0.05
        model.lm_head.weight[::3] -= 0.1
    update = Learner(Model(model), {"policy": loss}, spec, reference).step(rows)
    found = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    model.load_state_dict(before)
    return found, update


@pytest.fixture
def several(episode: Make) -> list[Episode]:
    """Four groups with answers of many lengths."""
    return [
        episode(
            {"verifier": 1.0, "ids": tuple(range(30, 34 + 3 * at)), "context": (1, 2, at + 5)},
            {"verifier": 0.0, "ids": tuple(range(90, 92 + at)), "context": (1, 2, at + 5)},
            index=at,
        )
        for at in range(4)
    ]


@pytest.mark.parametrize("form", ["sigmoid", "ipo", "hinge", "simpo"])
def test_batching_and_order_never_part_a_pair(
    form: str, scenario: World, played: Play, several: list[Episode], model: Any
) -> None:
    trainer = part(scenario(), form=form, nll=0.1)
    rows, loss = list(trainer.make(played(several)).rows), trainer.losses["policy"]
    whole, told = gradient(model, rows, loss)
    for tokens, order in ((1, [5, 2, 0, 7, 3, 1, 6, 4]), (25, list(range(8))[::-1]), (40, [1, 0, 3, 2, 5, 4, 7, 6])):
        again, other = gradient(model, [rows[at] for at in order], loss, tokens)
        assert ((again - whole).norm() / whole.norm()).item() < 1e-6
        assert other.figures["train/loss"] == pytest.approx(told.figures["train/loss"], rel=1e-6)


def test_the_step_is_the_logistic_loss_written_plainly(
    scenario: World, played: Play, several: list[Episode], model: Any, fresh: Callable[..., torch.Tensor]
) -> None:
    trainer = part(scenario(), beta=0.3)
    rows = list(trainer.make(played(several)).rows)
    _, told = gradient(model, rows, trainer.losses["policy"])

    def logprob(row: Row) -> float:
        scored = fresh(model, row.token_ids)
        return float(sum(scored[at, row.token_ids[at]] for at in row.trained))

    before = [logprob(row) for row in rows]
    with torch.no_grad():
        model.lm_head.weight += 0.05
        model.lm_head.weight[::3] -= 0.1
    ratio = [logprob(row) - held for row, held in zip(rows, before, strict=True)]
    h = [ratio[at] - ratio[at + 1] for at in range(0, 8, 2)]
    assert max(map(abs, h)) > 0.05
    expected = sum(math.log(1 + math.exp(-0.3 * one)) for one in h) / 4
    assert told.figures["train/loss"] == pytest.approx(expected, abs=1e-5)


def test_tokens_shared_before_the_branch_carry_no_gradient_either_way(
    scenario: World, played: Play, three: Episode, model: Any
) -> None:
    whole, branch = part(scenario()), part(scenario(), level="step")
    step = played([three])
    one, _ = gradient(model, list(whole.make(step).rows), whole.losses["policy"])
    other, _ = gradient(model, list(branch.make(step).rows), branch.losses["policy"])
    assert ((one - other).norm() / one.norm()).item() < 1e-5


def test_a_demonstration_is_the_better_side_only_when_asked_for(scenario: World, played: Play, episode: Make) -> None:
    step = played([episode({"verifier": 0.0}, {"verifier": 1.0, "engine": "demonstration"})])
    assert sides(part(scenario(), demonstrations=True).make(step)) == [(2, 1)]
    assert not part(scenario()).make(step).rows


def visited(episode: Episode, counts: dict[int, int]) -> Episode:
    """The same turns with the visits a search would have counted."""
    more = {at: (*episode.scores.get(at, ()), Score.valued("visits", count, "test")) for at, count in counts.items()}
    return dataclasses.replace(episode, scores={**episode.scores, **more})


@pytest.mark.parametrize(("best", "worst"), [(3, 1), (9, 1), (5, 4)])
def test_a_pair_visited_unevenly_is_doubted_by_its_counts(
    best: int, worst: int, scenario: World, played: Play, three: Episode, model: Any
) -> None:
    counted = visited(three, {1: worst, 2: best, 3: 1})
    own, plain = part(scenario(), smoothing="visits"), part(scenario(), smoothing=1 / (best / worst + 1))
    one, told = gradient(model, list(own.make(played([counted])).rows), own.losses["policy"])
    other, expected = gradient(model, list(plain.make(played([three])).rows), plain.losses["policy"])
    assert ((one - other).norm() / other.norm()).item() < 1e-5
    assert told.figures["train/loss"] == pytest.approx(expected.figures["train/loss"], abs=1e-6)


def test_a_worse_turn_visited_as_often_makes_no_pair(scenario: World, played: Play, three: Episode) -> None:
    trainer = part(scenario(), smoothing="visits")
    assert sides(trainer.make(played([visited(three, {1: 2, 2: 2, 3: 1})]))) == [(2, 3)]
    with pytest.raises(ScenarioError, match="visits"):
        trainer.make(played([three]))


def test_the_gap_of_the_pairs_is_the_mean_difference_of_their_rewards(
    scenario: World, played: Play, three: Episode
) -> None:
    assert part(scenario(), pairs="all").make(played([three])).figures["gap"] == pytest.approx((1.0 + 0.5 + 0.5) / 3)


def test_attempts_that_end_at_different_nodes_are_compared_when_asked_for(
    scenario: World, played: Play, episode: Make
) -> None:
    step = played([
        episode(
            {"ids": (10, 20)},
            {"parent": 1, "follows": 1, "node": "revise", "context": (7,), "verifier": 1.0, "ids": (12, 20)},
            {"verifier": 0.0, "ids": (11, 20)},
        )
    ])  # fmt: skip
    assert not part(scenario()).make(step).rows
    chosen, rejected = part(scenario(), across=True).make(step).rows
    assert chosen.token_ids == [1, 2, 3, 10, 20, 7, 12, 20] and chosen.trained == [3, 4, 6, 7]
    assert rejected.token_ids == [1, 2, 3, 11, 20] and rejected.trained == [3, 4]
