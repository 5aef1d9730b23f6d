"""Play beside training: never later than allowed, in order, and alone where it must be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import load
from sparring.storage import queries
from sparring.storage.store import Store
from sparring.training.ahead import Ahead, capacity, check_ahead
from sparring.training.plan import Plan
from sparring.training.session import start

Run = Callable[..., Any]
SMALL = st.integers(0, 5)


@given(ahead=SMALL, version=SMALL, batch=st.integers(1, 9), begun=st.integers(0, 99))
def test_an_episode_within_capacity_is_never_trained_too_late(ahead: int, version: int, batch: int, begun: int) -> None:
    room = capacity(ahead, version, batch, begun)
    for episode in range(begun, begun + room):  # trained as part of update number ``episode // batch``
        assert episode // batch - version <= ahead
    assert room == 0 or (begun + room) // batch - version > ahead  # and no more would fit


@given(ahead=st.integers(0, 3), waits=st.lists(st.integers(0, 4), min_size=6, max_size=12))
def test_play_keeps_the_bound_and_the_order_under_any_timing(ahead: int, waits: list[int]) -> None:
    """``waits`` are turns of the event loop: play and training take turns in being slow."""
    trained, begun = 0, []

    async def pause(number: int) -> None:
        for _ in range(waits[number % len(waits)]):
            await asyncio.sleep(0)

    async def play(step: int) -> int:
        begun.append((step, trained))
        await pause(step)
        return step

    async def run() -> None:
        nonlocal trained
        async with Ahead(play, 1, len(waits), ahead) as playing:
            for step in range(1, len(waits) + 1):
                assert await playing.take(step) == step
                await pause(step + 3)
                trained = step

    asyncio.run(run())
    assert [step for step, _ in begun] == list(range(1, len(waits) + 1))
    assert all(step - 1 - version <= ahead for step, version in begun)


def test_play_does_go_on_while_the_trainer_works() -> None:
    events: list[str] = []

    async def play(step: int) -> None:
        await asyncio.sleep(0)
        events.append(f"played {step}")

    async def run(ahead: int) -> list[str]:
        events.clear()
        async with Ahead(play, 1, 2, ahead) as playing:
            for step in (1, 2):
                await playing.take(step)
                await playing.beside(lambda: None)
                await asyncio.sleep(0.01)
                events.append(f"trained {step}")
        return list(events)

    assert asyncio.run(run(0)) == ["played 1", "trained 1", "played 2", "trained 2"]
    assert asyncio.run(run(1)) == ["played 1", "played 2", "trained 1", "trained 2"]


def test_what_must_be_alone_waits_for_play_and_play_for_it() -> None:
    inside: list[str] = []

    async def busy(name: str) -> None:
        inside.append(name)
        assert len(inside) == 1
        await asyncio.sleep(0.005)
        inside.remove(name)

    async def run() -> None:
        async with Ahead(lambda step: busy(f"play {step}"), 1, 4, 2) as playing:
            for step in range(1, 5):
                await playing.take(step)
                await playing.alone(busy(f"measure {step}"))

    asyncio.run(run())
    assert inside == []


def test_a_failure_ahead_is_told_at_its_own_step_and_ends_the_rest() -> None:
    begun: list[int] = []

    async def play(step: int) -> int:
        begun.append(step)
        await asyncio.sleep(0)
        if step == 2:
            raise ValueError("step 2 cannot be played")
        return step

    async def run() -> None:
        async with Ahead(play, 1, 9, 1) as playing:
            assert await playing.take(1) == 1
            await asyncio.sleep(0.01)
            with pytest.raises(ValueError, match="step 2"):
                await playing.take(2)
        assert len(asyncio.all_tasks()) == 1  # nothing is left playing

    asyncio.run(run())
    assert begun[:2] == [1, 2]


@pytest.mark.parametrize(("loss", "corrects"), [
    ("dapo", True), ("grpo", True), ("gspo", True), ("{kind: dapo, old: start}", False), ("reinforce", False),
    ("{kind: dapo, old: start, correction: [{mode: truncate}]}", True), ("topr", True), ("asymre", True),
])  # fmt: skip
def test_losses_that_ignore_who_sampled_are_refused_ahead(scenario: Path, loss: str, corrects: bool) -> None:
    wanted = load(scenario, [f"training.loss={loss}", "rollout.ahead=1", "rollout.deterministic=false"])
    losses = Plan.of(wanted, None).losses
    if corrects:
        check_ahead(wanted, None, losses)
    else:
        with pytest.raises(ScenarioError, match=r"rollout\.ahead: 1 trains on what older weights sampled.*'rl'"):
            check_ahead(wanted, None, losses)


def test_ahead_needs_an_order_that_is_free(scenario: Path) -> None:
    with pytest.raises(ScenarioError, match="set deterministic: false"):
        load(scenario, ["rollout.ahead=1"])


def test_ahead_is_refused_over_the_trainers_own_tensors(scenario: Path, tmp_path: Path) -> None:
    wanted = load(scenario, ["rollout.ahead=1", "rollout.deterministic=false"])
    with Store(tmp_path / "x.db") as store:
        with pytest.raises(ScenarioError, match="copy: true"):
            start(wanted, store)
        assert list(queries.runs(store)) == []


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_a_run_ahead_trains_on_tokens_as_late_as_allowed(run: Run, ahead: int) -> None:
    done = run("run", f"rollout.ahead={ahead}", "rollout.deterministic=false", "engine.copy=true", "training.steps=5")
    assert done.status == "done" and len(done.told) == 6
    late = [told.figures["late/most"] for told in done.told[1:]]
    assert max(late) <= ahead and (not ahead or max(late) >= 1)
    assert all(told.figures["canary/gap"] < 1e-5 for told in done.told)
