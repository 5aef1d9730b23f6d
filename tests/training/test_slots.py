"""Slots under any order of joining, leaving and new versions: a sequence draws what it draws alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from sparring.agents.engine import Completion, Request
from sparring.scenarios.schema import Sampling
from sparring.training.engines.decode import Decoder
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.engines.generic import Generic
from sparring.training.engines.slots import Answer, Batch, Slots
from sparring.training.engines.waves import Waves

from .conftest import make_model

LIMIT = 3
Plan = list[tuple[str, int]]
steps = some.tuples(
    some.sampled_from(["put", "put", "advance", "advance", "advance", "drop", "renew"]), some.integers()
)


def request(seed: int) -> Request:
    prompt = tuple((seed * 13 + 5 * at) % 250 for at in range(2 + 11 * seed % 37))
    return Request(prompt, Sampling(max_tokens=1 + 7 * seed % 23, temperature=float(seed % 4 > 0)), seed)


@pytest.fixture(scope="module")
def engine() -> Iterator[TransformersEngine]:
    """A small engine, and what it says to each request alone."""
    yield TransformersEngine(make_model(), [260])


@pytest.fixture(scope="module")
def alone(engine: TransformersEngine) -> list[Completion]:
    """What each of the first requests is told with nobody else there."""
    return [engine.sample([request(seed)])[0] for seed in range(40)]


def played(batch: Batch, plan: Plan) -> tuple[dict[int, Answer], set[int]]:
    """Who has ended and who was dropped before that, once nobody is left."""
    done: dict[int, Answer] = {}
    gone: set[int] = set()
    joined = 0
    with torch.inference_mode():
        for what, number in plan:
            if what == "put" and joined < 40:
                batch.put(joined, Answer(request(joined), True, 0))
                joined += 1
            elif what == "drop" and joined:
                gone |= {number % joined} - set(done)
                batch.drop({number % joined})
            elif what == "renew":
                batch.renew(1)
            elif what == "advance":
                done |= dict(batch.advance())
        while batch.busy:
            done |= dict(batch.advance())
    assert set(done) | gone == set(range(joined))
    return done, gone


def check(done: dict[int, Answer], gone: set[int], alone: list[Completion]) -> None:
    assert not gone & set(done)
    for seed, answer in done.items():
        told = answer.complete({260}, "transformers")
        assert told.token_ids == alone[seed].token_ids and told.finish is alone[seed].finish
        assert told.logprobs == pytest.approx(alone[seed].logprobs, abs=1e-5)
        at = [(0, 0), *((span.start, span.end) for span in told.spans)]
        assert all(before[1] == after[0] < after[1] for before, after in pairwise(at))
        assert not told.spans or told.spans[-1].end == len(told.token_ids)


@settings(max_examples=40, deadline=None)
@given(plan=some.lists(steps, max_size=60))
def test_slots_give_everybody_what_they_would_get_alone(
    engine: TransformersEngine, alone: list[Completion], plan: Plan
) -> None:
    assert isinstance(engine.decoder, Decoder)
    slots = Slots(engine.decoder, engine.stop_ids, LIMIT)
    check(*played(slots, plan), alone)
    assert sorted(slots.free) == list(range(slots.width)) and slots.width <= LIMIT
    assert not bool(slots.live_S.any())


@settings(max_examples=15, deadline=None)
@given(plan=some.lists(steps, max_size=40))
def test_waves_give_everybody_what_they_would_get_alone(
    engine: TransformersEngine, alone: list[Completion], plan: Plan
) -> None:
    generic = Generic(engine.model)
    assert generic.verify() < 1e-4
    check(*played(Waves(generic, engine.stop_ids, LIMIT), plan), alone)


def test_rows_that_idle_are_not_computed(engine: TransformersEngine) -> None:
    assert isinstance(engine.decoder, Decoder)
    slots = Slots(engine.decoder, (), 16)
    with torch.inference_mode():
        for seed in range(16):
            slots.put(seed, Answer(Request((1, 2), Sampling(max_tokens=90 if seed > 12 else 3), seed), True, 0))
        for _ in range(4):
            slots.advance()
    assert sorted(slots.seats) == [0, 1, 2] and {ticket for ticket, _ in slots.seats.values()} == {13, 14, 15}
