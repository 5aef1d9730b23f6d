"""Steps played from recordings draw what plain steps draw, and a recording that does not is not used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from sparring.agents.engine import Completion, Request
from sparring.scenarios.schema import Sampling
from sparring.training.engines.decode import Decoder
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.engines.graphed import ALIGNED, Drawn, Graphed, length_bucket, rows_bucket
from sparring.training.engines.slots import Answer, Slots


def again(call: Callable[[], Drawn]) -> Callable[[], Drawn]:
    """A recording for machines without graphs: playing it is calling it, on the buffers as they are then."""
    return call


def asked(seed: int) -> Request:
    prompt = tuple((seed * 13 + 5 * at) % 250 for at in range(3 + seed % 90))
    return Request(prompt, Sampling(max_tokens=5 + 7 * seed % 40, temperature=float(seed % 3 > 0)), seed)


def drained(slots: Slots, count: int) -> dict[int, Answer]:
    done: dict[int, Answer] = {}
    for seed in range(count):
        slots.put(seed, Answer(asked(seed), True, 0))
    with torch.inference_mode():
        while slots.busy:
            done |= dict(slots.advance())
    return done


@pytest.mark.parametrize("limit", [1, 5, 64])
def test_recorded_steps_draw_what_plain_ones_do(model: Any, limit: int) -> None:
    engine = TransformersEngine(model, [260])
    assert isinstance(engine.decoder, Decoder)
    slots = Slots(engine.decoder, engine.stop_ids, limit, again)
    for _ in range(2):  # the second time with the recordings of the first
        done = drained(slots, 30)
        for seed, plain in enumerate(engine.sample([asked(seed) for seed in range(30)])):
            assert tuple(done[seed].token_ids) == plain.token_ids
            assert done[seed].logprobs == pytest.approx(plain.logprobs, abs=1e-5)
    assert slots.graphed is not None and slots.graphed.trusted and 0 < len(slots.graphed) < 40


def test_recordings_are_made_anew_where_the_cache_has_grown(model: Any) -> None:
    decoder = TransformersEngine(model, ()).decoder
    assert isinstance(decoder, Decoder)
    slots = Slots(decoder, (), 8, again)
    assert slots.graphed is not None
    drained(slots, 2)
    before = len(slots.graphed), slots.length
    slots.put(99, Answer(Request((1,) * 300, Sampling(max_tokens=3), 1), True, 0))
    with torch.inference_mode():
        slots.advance()
    assert before[0] > 0 and slots.length > before[1] and slots.length % ALIGNED == 0 and len(slots.graphed) == 1


def wrong(call: Callable[[], Drawn]) -> Callable[[], Drawn]:
    """A recording that gives other log-probs."""
    return lambda: (call()[0], call()[1] + 1)


def refusing(call: Callable[[], Drawn]) -> Callable[[], Drawn]:
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(("record", "why"), [(wrong, "nats apart"), (refusing, "not permitted")])
def test_a_recording_that_fails_or_disagrees_is_told_of_and_never_used(model: Any, record: Any, why: str) -> None:
    engine, heard = TransformersEngine(model, [260]), list[str]()
    assert isinstance(engine.decoder, Decoder)
    slots = Slots(engine.decoder, engine.stop_ids, 8, record, heard.append)
    done = drained(slots, 12)
    for seed, plain in enumerate(engine.sample([asked(seed) for seed in range(12)])):
        assert tuple(done[seed].token_ids) == plain.token_ids
        assert done[seed].logprobs == pytest.approx(plain.logprobs, abs=1e-5)
    assert len(heard) == 1 and why in heard[0] and slots.graphed is not None and not slots.graphed.trusted


def test_an_engine_that_records_uses_its_slots_again_and_reads_new_weights(model: Any, new_model: Any) -> None:
    engine, requests = TransformersEngine(model, [260]), [asked(seed) for seed in range(9)]
    engine.recorder = lambda: again
    assert_same(engine.sample(requests), TransformersEngine(model, [260]).sample(requests))
    slots = engine.batch()
    with torch.no_grad():
        model.model.norm.weight.mul_(0.5)
        for layer in model.model.layers:
            layer.self_attn.q_norm.weight.mul_(0.7)  # of these a cache holds a copy
    expected = TransformersEngine(model, [260]).sample(requests)
    assert_same(engine.sample(requests), expected)
    assert_same(asyncio.run(engine.stream().generate(requests)), expected)
    assert engine.batch() is slots
    model.load_state_dict(new_model(1).state_dict(), assign=True)  # other memory: recordings would read the old one
    assert engine.batch() is not slots
    assert_same(engine.sample(requests), TransformersEngine(model, [260]).sample(requests))


def assert_same(left: list[Completion], right: list[Completion]) -> None:
    assert [done.token_ids for done in left] == [done.token_ids for done in right]
    for one, other in zip(left, right, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@given(some.integers(1, 8192), some.integers(1, 1024))
def test_buckets_hold_what_they_are_for_and_little_more(longest: int, rows: int) -> None:
    assert longest <= length_bucket(longest) <= max(longest + ALIGNED, longest * 1.13)
    assert rows <= rows_bucket(rows) <= 2 * rows
    assert length_bucket(longest) % 8 == 0


def test_a_recording_is_played_on_the_buffers_as_they_are() -> None:
    """What is recorded once reads the inputs of every later step."""
    held, calls = torch.zeros(4), list[tuple[int, int]]()

    def step(rows: int, longest: int) -> Drawn:
        calls.append((rows, longest))
        return held[:rows].long(), held[:rows].clone()

    graphed = Graphed(step, again, lambda why: None)
    for value in (1.0, 2.0, 3.0):
        held.fill_(value)
        token_S, _ = graphed(3, 10, 4, 64, False)
        assert token_S.tolist() == [int(value)] * 3
    assert set(calls) == {(4, 64)} and len(graphed) == 1
