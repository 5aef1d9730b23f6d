"""The gate: same batches whatever finishes first; failures end episodes instead of hanging them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from sparring.agents.engine import Completion, Request
from sparring.envs.types import Finish
from sparring.scenarios.schema import Sampling
from sparring.training.gate import Gate


class Counting:
    """Answers with the seed and remembers its batches."""

    def __init__(self, fail: Callable[[int], bool] = lambda call: False) -> None:
        self.batches: list[list[int]] = []
        self.fail = fail

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append([request.seed for request in requests])
        if self.fail(len(self.batches)):
            raise RuntimeError("the engine fell over")
        return [Completion((request.seed,), (-1.0,), Finish.STOP) for request in requests]


def ask(seed: int) -> Request:
    return Request((1,), Sampling(), seed)


def dawdle(value: int, rng: random.Random | None) -> int:
    if rng is not None:
        time.sleep(rng.random() * 0.004)
    return value + 1


async def episode(gate: Gate, engine: Any, index: int, rng: random.Random | None, order: list[int]) -> list[int]:
    """Rounds of work and words; how many and what depends on what came back."""
    heard = [await gate.work(dawdle, index * 100, rng)]
    for _ in range(2 + index % 3):
        done = await engine.generate([ask(heard[-1]), ask(heard[-1] + 50)])
        heard.append(await gate.work(dawdle, done[0].token_ids[0], rng))
        if index % 2:
            heard.append(await gate.work(dawdle, heard[-1], rng))
        order.append(index)
    return heard


def played(count: int, seed: int | None, deterministic: bool = True, workers: int = 4) -> tuple[Any, ...]:
    gate, engine, order = Gate(workers, deterministic), Counting(), list[int]()
    rng = None if seed is None else random.Random(seed)
    gated = gate.engine(engine)
    found = asyncio.run(gate.play([partial(episode, gate, gated, i, rng, order) for i in range(count)]))
    gate.close()
    return found, engine.batches, order


def test_who_finishes_first_changes_nothing() -> None:
    first = played(12, None, workers=1)
    assert played(12, 1) == played(12, 2) == first


def test_all_waiting_episodes_are_decoded_together() -> None:
    _, batches, _ = played(12, 3)
    assert len(batches) == 4 and len(batches[0]) == 24


def test_without_order_the_results_are_the_same_and_progress_is_made() -> None:
    assert played(12, 4, deterministic=False)[0] == played(12, None)[0]


@pytest.mark.parametrize("deterministic", [True, False])
def test_many_episodes_come_back_in_order(deterministic: bool) -> None:
    found, _, _ = played(300, None, deterministic)
    assert [heard[0] for heard in found] == [index * 100 + 1 for index in range(300)]


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.close()


def test_a_failing_engine_reaches_every_waiting_episode(gate: Gate) -> None:
    engine = gate.engine(Counting(fail=lambda call: call == 1))

    async def one() -> str:
        try:
            await engine.generate([ask(1)])
        except RuntimeError as error:
            return str(error)
        return "fine"

    assert asyncio.run(gate.play([one] * 5)) == ["the engine fell over"] * 5
    assert asyncio.run(gate.play([one])) == ["fine"]  # another event loop, the same gate


def test_failing_work_reaches_its_episode_alone(gate: Gate) -> None:
    async def one(value: int) -> Any:
        try:
            return await gate.work(lambda: 1 // value)
        except ZeroDivisionError:
            return "divided"

    assert asyncio.run(gate.play([partial(one, value) for value in (1, 0, 1)])) == [1, "divided", 1]


def test_an_episode_that_raises_ends_the_others(gate: Gate) -> None:
    engine = gate.engine(Counting())

    async def bad() -> None:
        await gate.work(time.sleep, 0)
        raise LookupError("no task left")

    async def good() -> None:
        for seed in range(10_000):
            await engine.generate([ask(seed)])

    with pytest.raises(LookupError, match="no task left"):
        asyncio.run(asyncio.wait_for(gate.play([good, bad, good]), 20))


def test_an_engine_that_answers_too_little_breaks_only_who_got_too_little(gate: Gate) -> None:
    class Short(Counting):
        async def generate(self, requests: Sequence[Request]) -> list[Completion]:
            return (await super().generate(requests))[:-1]

    engine = gate.engine(Short())

    async def one() -> int:
        return len(await engine.generate([ask(1), ask(2)]))

    assert asyncio.run(asyncio.wait_for(gate.play([one, one]), 20)) == [2, 1]


def test_two_engines_are_asked_separately(gate: Gate) -> None:
    left, right = Counting(), Counting()

    async def one(engine: Any, seed: int) -> int:
        return int((await engine.generate([ask(seed)]))[0].token_ids[0])

    pairs = [(gate.engine(left), 1), (gate.engine(right), 2), (gate.engine(left), 3)]
    assert asyncio.run(gate.play([partial(one, *pair) for pair in pairs])) == [1, 2, 3]
    assert (left.batches, right.batches) == ([[1, 3]], [[2]])


def test_batches_do_not_depend_on_how_long_a_graph_takes_between_calls() -> None:
    """LangGraph walks its edges through threads: on a busy machine that takes many turns of the event loop."""
    found = []
    for delays in ((0.0, 0.0, 0.0), (0.03, 0.0, 0.01)):
        gate, engine = Gate(), Counting()
        speak = gate.engine(engine)

        async def episode(number: int, delays: Sequence[float] = delays, speak: Any = speak) -> None:
            for turn in range(3):
                await asyncio.to_thread(time.sleep, delays[number])
                await speak.generate([ask(10 * turn + number)])

        asyncio.run(gate.play([partial(episode, number) for number in range(3)]))
        gate.close()
        found.append(engine.batches)
    assert found == [[[0, 1, 2], [10, 11, 12], [20, 21, 22]]] * 2
