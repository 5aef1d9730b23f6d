"""Silent bugs that training systems shipped, each as a run that would show it. docs/training.md lists them all."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sparring.agents.engine import Request
from sparring.envs.types import Pick
from sparring.scenarios.load import from_resolved, load
from sparring.scenarios.schema import LoraSpec, OptimizerSpec, Sampling, TrainingSpec
from sparring.storage.queries import select_rows, stored_episodes
from sparring.storage.store import Store
from sparring.training import offline
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.gate import Gate
from sparring.training.learner import Learner
from sparring.training.losses.presets import Dapo
from sparring.training.model import Model
from sparring.training.rows import Row
from sparring.training.session import Session, resume, start

Run = Callable[..., Any]
New = Callable[..., Any]
NOISE = 1e-5  # nats: what engine and trainer differ by when they hold the same weights
PICKS = [Pick("length=1", {"length": 1}, 3), Pick("length=2", {"length": 2}, 3)]


@pytest.fixture
def session(scenario: Path, tmp_path: Path) -> Any:
    """A run that is about to play its first step."""
    made = start(load(scenario), Store(tmp_path / "canary.db"))
    yield made
    made.close()


def nudge(weight: torch.Tensor, by: float) -> None:
    """Move a tensor by a share of its own length, in a direction drawn once."""
    drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weight.add_(by * weight.norm() * drawn / drawn.norm())


@pytest.mark.parametrize("tensor", [
    "model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.down_proj.weight",
    "model.layers.1.input_layernorm.weight", "model.norm.weight",
])  # fmt: skip
def test_one_tensor_that_changed_since_sampling_trips_the_gap(session: Session, tensor: str) -> None:
    """verl#7495, unsloth#8701, ms-swift#9855, vllm#29341: the engine sampled from other weights than were trained."""
    gaps = []
    for step in (1, 2, 3):
        episodes = asyncio.run(session.rollout.play(PICKS, step))
        if step == 3:
            nudge(session.learner.model.module.get_parameter(tensor), 0.05)
        gaps.append(session.update(session.follow(step), episodes, step).figures["train/gap"] or 0.0)
    assert max(gaps[:2]) < NOISE and gaps[2] > 100 * NOISE


def asked(engine: TransformersEngine) -> list[Row]:
    """What an engine says to a few prompts, as rows."""
    requests = [Request((1, 2, seed), Sampling(max_tokens=9), seed) for seed in range(6)]
    rows = []
    for one, done in zip(requests, engine.sample(requests), strict=True):
        zeros, n = [0.0] * 3, len(done.token_ids)
        streams = {"advantage": [*zeros, *[1.0] * n], "logprob_old": [*zeros, *done.logprobs]}
        rows.append(Row("r", [*one.prompt_ids, *done.token_ids], [*zeros, *[0.1] * n], streams))
    return rows


def gap_of(model: Model, rows: Sequence[Row]) -> float:
    learner = Learner(model, {"policy": Dapo()}, TrainingSpec(optimizer=OptimizerSpec(kind="sgd", lr=1e-9)))
    return learner.step(rows).figures["train/gap"]


def test_an_adapter_that_did_not_reach_the_engine_trips_the_gap(new_model: New) -> None:
    """unsloth#8701, verl-omni#552: rollouts came from the base while adapters were trained."""
    pytest.importorskip("peft", reason="adapters need the extra `lora`")
    from sparring.training.lora import adapt

    module = new_model()
    adapt(module, LoraSpec(rank=4, alpha=8.0))
    for name, weight in module.named_parameters():
        if ".lora_B." in name:
            with torch.no_grad():
                weight.copy_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    model = Model(module)
    assert gap_of(model, asked(TransformersEngine(module, [260]))) < NOISE
    assert gap_of(model, asked(TransformersEngine(new_model(), [260]))) > 100 * NOISE


def test_a_temperature_that_one_side_forgets_trips_the_gap(new_model: New) -> None:
    """trl#7269 and engines that report log-probs before the temperature."""
    model, rows = Model(new_model()), asked(TransformersEngine(new_model(), [260]))
    assert gap_of(model, rows) < NOISE
    cooler = [Row(row.role, row.token_ids, row.coefficient_T, row.streams, 0.9) for row in rows]
    assert gap_of(model, cooler) > 100 * NOISE


def test_words_whose_text_reads_back_as_other_tokens_are_trained_as_sampled(session: Session) -> None:
    """trl#5224, prime-rl#1352, ms-swift#10012: turns went through text and came back as other tokens."""
    episodes = asyncio.run(session.rollout.play(PICKS, 1))
    made = session.plan.make(session.follow(1).due, episodes, 1)
    tokenizer = session.policy.tokenizer
    drifted = {
        (place, turn.index)
        for place, episode in enumerate(episodes)
        for turn in episode.turns
        if turn.token_ids and tokenizer(turn.said, add_special_tokens=False).input_ids != list(turn.token_ids[:-1])
    }
    spans = [(row, span) for row in made.rows for span in row.spans]
    seen = {(span.episode, span.turn) for _, span in spans}
    assert len(drifted & seen) > 10  # a random policy says much that is no text
    for row, span in spans:
        assert tuple(row.token_ids[span.start : span.stop]) == episodes[span.episode].turns[span.turn].token_ids


def test_every_word_is_of_the_policy_that_is_trained_next(scenario: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """NeMo-RL#2631, verl#7495: under odd timings a batch held words of an older policy than the bound (here 0)."""
    rng, inner = random.Random(3), Gate.work

    async def dawdling(self: Gate, do: Callable[..., Any], *arguments: Any) -> Any:
        def late(*given: Any) -> Any:
            time.sleep(rng.random() * 0.003)
            return do(*given)

        return await inner(self, late, *arguments)

    monkeypatch.setattr(Gate, "work", dawdling)
    from sparring.training.loop import learn

    for kept in ("true", "false"):
        more = (f"rollout.deterministic={kept}", "rollout.workers=4")
        made = start(load(scenario, more), Store(tmp_path / f"{kept}.db"))
        assert asyncio.run(learn(made)) == "done"
        found = [
            (one.step, turn.policy_version)
            for one in stored_episodes(made.store, made.run)
            for turn in one.episode.turns
            if turn.token_ids
        ]
        assert {step for step, _ in found} == {1, 2, 3}
        assert [pair for pair in found if pair[1] != pair[0] - 1] == []
        made.close()


LEARNT = "SELECT s.number, a.turn_id, a.trainer FROM advantages a JOIN steps s ON s.id = a.step_id ORDER BY 1, 2, 3"
PLAYED = (
    "SELECT s.number, t.id, 'rl' FROM turns t JOIN episodes e ON e.id = t.episode_id JOIN steps s ON s.id = e.step_id "
    "WHERE t.author IN ('solver', 'critic') ORDER BY 1, 2"
)


@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_crash_between_update_and_rows_trains_on_nothing_twice(
    unbroken: Any, ran: Any, scenario: Path, tmp_path: Path, monkeypatch: Any, after: bool
) -> None:
    """NeMo-RL#3599, trl#5911, open-instruct#1523, xtuner#1386: a resume lost, repeated or skipped what was learnt."""
    inner, calls = Store.save_step, Counter[str]()

    def crash(self: Store, run: str, record: Any) -> Any:
        calls["saved"] += 1
        if calls["saved"] == 3 and not after:
            raise KeyboardInterrupt
        inner(self, run, record)
        if calls["saved"] == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save_step", crash)
        from sparring.training.loop import learn

        broken = start(load(scenario), Store(tmp_path / "broken.db"))
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(learn(broken))
        broken.close()
    store = Store(tmp_path / "broken.db")
    point = store.resume_point("r1")
    assert point.last_step == (2 if after else 1)
    rest = ran(resume(from_resolved(point.scenario), store, point))
    assert (rest.hash, rest.weights) == (unbroken.hash, unbroken.weights)
    learnt = [tuple(row) for row in rest.rows(LEARNT)]
    assert learnt == [tuple(row) for row in rest.rows(PLAYED)] and len(learnt) == len(set(learnt)) > 50


PULLS = "SELECT value, pull FROM advantages a JOIN steps s ON s.id = a.step_id WHERE s.run_id = {} ORDER BY turn_id"
TRAINERS = (
    "{rl: {}}",
    "{rl: {advantage: gae, loss: {kind: ppo, kl: {coefficient: 0.1}}}}",
    "{sft: {keep: best}, dpo: {weight: 0.5}}",
)


@pytest.mark.parametrize("trainers", TRAINERS)
def test_a_stored_step_replayed_from_the_same_start_gives_the_same_weights(
    run: Run, scenario: Path, tmp_path: Path, trainers: str
) -> None:
    """What a database holds is what was trained on, bit for bit: log-probs, order, advantages, optimiser."""
    more = ("training.steps=1", f"training.trainers={trainers}", "training.minibatches=2", "evaluation.every=0")
    played = run("played", *more)
    with Store(tmp_path / "played" / "sparring.db") as store:
        course = offline.start(load(scenario, more), store, "r1")
        start_sha = course.learner.weights_sha()
        assert offline.study(course) == "done"
        assert course.learner.weights_sha() == played.weights != start_sha
        store.finish_run(course.run, "done")
        one, other = (select_rows(store, PULLS.format(number)).rows for number in (1, 2))
        assert one == other and one
