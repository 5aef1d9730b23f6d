"""TRL's advantages, and its trainers beside GRPO's, RLOO, DPO and SFT: the same numbers to 1e-6.

RLOO's loss has one ratio per completion, the product of its tokens'. Ours is summed per token, so value and gradient
agree under different aggregations: the mean over trajectories for the loss, the sum over tokens for the gradient. TRL
subtracts two float32 sums of some 30 nats, which puts its ratio off by up to 6e-6, so there 1e-5 is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparring.training.advantages.group import Grpo, LeaveOneOut, MeanBaseline
from sparring.training.advantages.step import Gdpo
from sparring.training.groups import Group, Member, Place
from sparring.training.losses.policy import PolicyGradient
from sparring.training.losses.preference import Preference
from sparring.training.losses.supervised import Supervised
from sparring.training.rows import ADVANTAGE, Row

TOLERANCE = 1e-6
GROUP = 4
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def flat(values: Sequence[Sequence[float]]) -> torch.Tensor:
    return torch.tensor([value for part in values for value in part])


# -- advantages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", [Grpo(), MeanBaseline()], ids=["group", "none"])
def test_group_advantages_equal_trl(
    ours: Any, trl: Any, world: Any, sides: SimpleNamespace, groups: list[Group], request: pytest.FixtureRequest
) -> None:
    trainer = sides.theirs().trainer(trl, world, scale_rewards=request.node.callspec.id)
    theirs = trainer._generate_and_score_completions([{"prompt": "a"}] * len(world.attempts))["advantages"]
    assert torch.allclose(flat(ours(groups)), theirs, atol=TOLERANCE, rtol=0)


def test_separately_normalised_rewards_are_trl_s_up_to_the_last_deviation(
    trl: Any, world: Any, sides: SimpleNamespace, groups: list[Group]
) -> None:
    options = {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": [1.0, 0.5]}
    trainer = sides.theirs().trainer(trl, world, **options)
    theirs = trainer._generate_and_score_completions([{"prompt": "a"}] * len(world.attempts))["advantages"]
    ours = flat(Gdpo(Gdpo.Config(weights={"brief": 0.5}, eps=0.0))(groups))
    n = len(ours)  # TRL divides by the sample deviation, the paper's whitening by the population's
    assert torch.allclose(ours * ((n - 1) / n) ** 0.5, theirs, atol=2e-4, rtol=0)


# -- RLOO --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rloo(trl: Any, world: Any, sides: SimpleNamespace) -> SimpleNamespace:
    """TRL samples, scores and takes the gradient; ``world`` then holds what it sampled."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    trainer = trl.RLOOTrainer(
        world.model(world.start),
        [sides.rewarding(world.attempts, name) for name in world.attempts[0].rewards],
        trl.RLOOConfig(
            **sides.quiet(world), beta=0.0, num_generations=GROUP, max_completion_length=6, epsilon_high=0.28
        ),
        Dataset.from_dict({"prompt": ["ab"]}),
        processing_class=AutoTokenizer.from_pretrained(world.folder),
    )
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        inputs = trainer._generate_and_score_completions([{"prompt": "abc"}] * GROUP + [{"prompt": "de"}] * GROUP)
    trainer.model.load_state_dict(world.now)
    result = sides.taken(trainer.model, trainer._compute_loss(trainer.model, inputs))
    sampled = []
    for number, known in enumerate(world.attempts):
        prompt = inputs["prompt_ids"][number][inputs["prompt_mask"][number].bool()].tolist()
        said = inputs["completion_ids"][number][inputs["completion_mask"][number].bool()].tolist()
        sampled.append(sides.attempt(tuple(prompt), (tuple(said),), (-1.0,) * len(said), known.rewards))
    return SimpleNamespace(
        world=replace(world, attempts=sampled), result=result, advantages=inputs["advantages"].tolist()
    )


def test_leave_one_out_advantages_equal_trl(rloo: SimpleNamespace, groups: list[Group]) -> None:
    assert torch.allclose(flat(LeaveOneOut()(groups)), torch.tensor(rloo.advantages), atol=TOLERANCE, rtol=0)


def test_rloo_equals_trl(rloo: SimpleNamespace, sides: SimpleNamespace) -> None:
    options = {"old": "start", "level": "product", "mask": "clip", "high": 0.28}

    def ours(**more: Any) -> Any:
        loss = PolicyGradient(PolicyGradient.Config.model_validate(options | more))
        return sides.ours(loss)(rloo.world, rloo.advantages)

    assert sides.gap(ours(aggregate="trajectories"), rloo.result)[0] <= 10 * TOLERANCE
    assert sides.gap(ours(aggregate="constant", length=1), rloo.result)[1] <= 10 * TOLERANCE


# -- preferences and fine-tuning ---------------------------------------------------------------------------------------


def padded(lists: Sequence[Sequence[int]], value: int = 0) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, lists)), batch_first=True, padding_value=value)


def sequences(attempts: Sequence[Any]) -> tuple[list[list[int]], list[list[int]]]:
    """Whole token lists, and 1 where the model spoke."""
    ids = [[*attempt.prompt, *attempt.ids] for attempt in attempts]
    return ids, [[0] * len(attempt.prompt) + attempt.own for attempt in attempts]


@pytest.mark.parametrize("form", ["sigmoid", "hinge", "ipo"])
def test_preference_loss_equals_trl(form: str, trl: Any, world: Any, sides: SimpleNamespace) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer

    trainer = trl.DPOTrainer(
        world.model(),
        args=trl.DPOConfig(**sides.quiet(world), beta=0.3, loss_type=form),
        train_dataset=Dataset.from_dict({"prompt": ["a"], "chosen": ["b"], "rejected": ["c"]}),
        processing_class=AutoTokenizer.from_pretrained(world.folder),
    )
    trainer.model.load_state_dict(world.now)
    chosen, rejected = world.attempts[0::4], world.attempts[3::4]
    ids, own = sequences([*chosen, *rejected])
    inputs = {"input_ids": padded(ids), "attention_mask": padded([[1] * len(row) for row in ids])}
    inputs["completion_mask"] = padded(own)
    theirs = sides.taken(trainer.model, trainer._compute_loss(trainer.model, inputs, False))
    rows = []
    for unit, pair in enumerate(zip(chosen, rejected, strict=True)):
        whole = sum(sum(attempt.own) for attempt in pair)
        for sign, tokens, mask in zip((1.0, -1.0), *sequences(pair), strict=True):
            share = [mark / whole / len(chosen) for mark in mask]
            rows.append(
                Row("solver", tokens, share, {ADVANTAGE: [sign * mark for mark in mask]}, loss="dpo", unit=unit)
            )
    loss = Preference(Preference.Config.model_validate({"form": form, "beta": 0.3}))
    largest = max(float(entry.abs().max()) for entry in theirs.gradients.values())  # ipo's is 2
    assert max(sides.gap(sides.stepped(rows, {"dpo": loss}, world), theirs)) <= TOLERANCE * max(1.0, largest)


def test_fine_tuning_loss_equals_trl(trl: Any, world: Any, sides: SimpleNamespace) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer

    trainer = trl.SFTTrainer(
        world.model(world.now),
        args=trl.SFTConfig(**sides.quiet(world)),
        train_dataset=Dataset.from_dict({"text": ["ab"]}),
        processing_class=AutoTokenizer.from_pretrained(world.folder),
    )
    ids, own = sequences(world.attempts)
    labels = [[token if mine else -100 for token, mine in zip(*row, strict=True)] for row in zip(ids, own, strict=True)]
    inputs = {"input_ids": padded(ids), "labels": padded(labels, -100)}
    inputs["attention_mask"] = padded([[1] * len(row) for row in ids])
    theirs = sides.taken(trainer.model, trainer.compute_loss(trainer.model, inputs))
    ours = sides.ours(Supervised())(world, [1.0] * len(world.attempts))
    assert max(sides.gap(ours, theirs)) <= TOLERANCE


def test_a_lone_completion_teaches_nothing() -> None:
    lone = [Group.of("solver", "solve", "0", [Member(Place(0, 0), 1.0)])]  # verl leaks its raw reward here
    assert [part(lone) for part in (Grpo(), MeanBaseline(), LeaveOneOut())] == [[[0.0]]] * 3
