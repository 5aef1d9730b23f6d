"""Requests that join the embedded engine in mid-decode draw what they would draw in any other company."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from sparring.agents.engine import Completion, Request
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError
from sparring.scenarios.schema import LoraSpec, Sampling
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.engines.stream import Stream
from sparring.training.lora import adapt

from .conftest import make_model

T = TypeVar("T")
Fresh = Callable[..., torch.Tensor]
LONG = 900  # tokens: enough for anything to happen in between


def request(seed: int, tokens: int = 12, adapter: str = "", length: int = 0) -> Request:
    prompt = tuple((seed * 13 + 5 * at) % 250 for at in range(length or 3 + seed % 7))
    return Request(prompt, Sampling(max_tokens=tokens), seed, "solver", adapter)


def endless(model: Any, slots: int = 64) -> TransformersEngine:
    """An engine whose turns end with their budget."""
    return TransformersEngine(model, (), TransformersEngine.Config(slots=slots))


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(main())


async def underway(stream: Stream, steps: int = 3) -> None:
    """Return once so many more tokens were drawn."""
    until = stream.steps + steps
    while stream.steps < until:
        await asyncio.sleep(0.001)


def assert_same(left: list[Completion], right: list[Completion]) -> None:
    assert [(done.token_ids, done.finish) for done in left] == [(done.token_ids, done.finish) for done in right]
    for one, other in zip(left, right, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.fixture(scope="module")
def shared() -> Iterator[TransformersEngine]:
    """An engine of three slots for tests that leave it as it was."""
    engine = TransformersEngine(make_model(), [260], TransformersEngine.Config(slots=3))
    yield engine
    engine.close()


@settings(max_examples=15, deadline=None)
@given(some.lists(some.tuples(some.integers(0, 30), some.integers(1, 20), some.integers(0, 3)), max_size=9))
def test_who_joins_when_changes_nothing(shared: TransformersEngine, plan: list[tuple[int, int, int]]) -> None:
    asked = [request(seed, tokens) for seed, tokens, _ in plan]
    stream = shared.stream()

    async def late(wait: int, one: Request) -> Completion:
        for _ in range(wait * 3):
            await asyncio.sleep(0.0005)
        return (await stream.generate([one]))[0]

    async def main() -> list[Completion]:
        return await asyncio.gather(*(late(wait, one) for (_, _, wait), one in zip(plan, asked, strict=True)))

    assert_same(run(main), shared.sample(asked))


def test_a_call_joins_while_another_is_decoded(model: Any) -> None:
    engine = endless(model)
    stream = engine.stream()

    async def main() -> tuple[list[Completion], bool, list[Completion]]:
        slow = asyncio.create_task(stream.generate([request(1, LONG)]))
        await underway(stream)
        quick = await stream.generate([request(2, 5), request(3, 7)])
        return quick, slow.done(), await slow

    quick, waited, slow = run(main)
    assert not waited and [len(done.token_ids) for done in quick] == [5, 7]
    assert_same([*quick, *slow], engine.sample([request(2, 5), request(3, 7), request(1, LONG)]))


def test_tokens_are_told_one_by_one_before_the_turn_is_whole(engine: TransformersEngine) -> None:
    heard: dict[int, list[int]] = {0: [], 1: []}

    async def main() -> list[Completion]:
        asked = [request(1), request(2)]
        done = await engine.stream().generate(asked, lambda place, token: heard[place].append(token))
        assert {place: tuple(tokens) for place, tokens in heard.items()} == dict(
            enumerate(one.token_ids for one in done)
        )
        return done

    assert_same(run(main), engine.sample([request(1), request(2)]))


def test_the_cache_grows_with_what_joins(model: Any) -> None:
    engine, asked = endless(model), [request(seed, 30 + 90 * seed, length=2 + 20 * seed) for seed in range(9)]
    stream = engine.stream()

    async def main() -> list[list[Completion]]:
        calls = []
        for one in asked:
            calls.append(asyncio.create_task(stream.generate([one])))
            await underway(stream, 1)
        return await asyncio.gather(*calls)

    assert_same([done for (done,) in run(main)], engine.sample(asked))


def test_nothing_is_drawn_in_a_hold_and_turns_go_on_after_it(model: Any) -> None:
    engine = endless(model)
    stream = engine.stream()

    async def main() -> Completion:
        call = asyncio.create_task(stream.generate([request(1, 300)]))
        await underway(stream)
        async with stream.hold(), stream.hold():
            before = stream.steps
            await asyncio.sleep(0.05)
            assert stream.steps == before and not call.done()
        return (await call)[0]

    assert_same([run(main)], engine.sample([request(1, 300)]))


def test_a_turn_that_saw_new_weights_says_which_tokens_are_whose(model: Any, fresh: Fresh) -> None:
    engine = endless(model)
    stream, asked = engine.stream(), request(1, 300)
    old = engine.sample([asked])[0]

    async def main() -> Completion:
        call = asyncio.create_task(stream.generate([asked]))
        await underway(stream)
        async with stream.hold():
            with torch.no_grad():
                model.model.norm.weight.mul_(0.5)
            engine.renew(1)
        return (await call)[0]

    done = run(main)
    first, second = done.spans
    assert (first.version, first.start, second.version, second.end) == (0, 0, 1, 300) and first.end == second.start
    assert done.policy_version == 0 and 0 < first.end < 300
    assert done.token_ids[: first.end] == old.token_ids[: first.end] and done.token_ids != old.token_ids
    drawn_from = fresh(model, (*asked.prompt_ids, *done.token_ids))[len(asked.prompt_ids) :]  # the cache is as it was
    new = drawn_from.gather(1, torch.tensor(done.token_ids)[:, None])[:, 0].tolist()
    assert done.logprobs[first.end :] == pytest.approx(new[first.end :], abs=1e-4)


def test_a_paused_stream_lets_requests_join_and_decodes_them_once_resumed(engine: TransformersEngine) -> None:
    stream = engine.stream()

    async def main() -> list[Completion]:
        await stream.pause()
        await stream.pause()
        call = asyncio.create_task(stream.generate([request(1)]))
        await asyncio.sleep(0.02)
        assert not call.done() and stream.live == 1 and stream.steps == 0 and stream.paused
        stream.resume()
        return await call

    assert_same(run(main), engine.sample([request(1)]))


def test_a_caller_that_is_cancelled_frees_its_slots(model: Any) -> None:
    engine = endless(model, slots=2)
    stream = engine.stream()

    async def main() -> list[Completion]:
        first = asyncio.create_task(stream.generate([request(1, LONG), request(2, LONG)]))
        await underway(stream)
        later = asyncio.create_task(stream.generate([request(3, 5)]))
        await asyncio.sleep(0)
        first.cancel()
        done = await later
        assert stream.live == 0
        return done

    assert_same(run(main), engine.sample([request(3, 5)]))


def test_an_error_reaches_every_caller_and_the_stream_goes_on(model: Any) -> None:
    engine = endless(model)
    stream, layer = engine.stream(), model.model.layers[1].mlp.down_proj
    weight = layer.weight

    async def main() -> list[Any]:
        calls = [asyncio.create_task(stream.generate([request(seed, LONG)])) for seed in (1, 2)]
        await underway(stream)
        async with stream.hold():
            layer.weight = torch.nn.Parameter(torch.zeros(3, 5))
        failed = await asyncio.gather(*calls, return_exceptions=True)
        layer.weight = weight
        return [*failed, *await stream.generate([request(3)])]

    first, second, after = run(main)
    assert isinstance(first, RuntimeError) and "shapes" in str(first) and isinstance(second, RuntimeError)
    assert_same([after], engine.sample([request(3)]))


def test_a_request_that_cannot_be_served_stops_nobody_else(engine: TransformersEngine) -> None:
    stream = engine.stream()

    async def main() -> list[Completion]:
        good = asyncio.create_task(stream.generate([request(1)]))
        with pytest.raises(EngineError, match=r"policy\.lora"):
            await stream.generate([request(2, adapter="critic")])
        return await good

    assert_same(run(main), engine.sample([request(1)]))


def test_the_thread_ends_with_the_last_request(engine: TransformersEngine) -> None:
    stream = engine.stream()
    run(lambda: stream.generate([request(1)]))
    assert engine.stream() is stream
    for thread in [thread for thread in threading.enumerate() if thread.name == "decoding"]:
        thread.join(10)
        assert not thread.is_alive()
    assert_same(run(lambda: stream.generate([request(2)])), engine.sample([request(2)]))


def test_closing_tells_who_waits(model: Any) -> None:
    engine = endless(model)
    stream = engine.stream()

    async def main() -> None:
        call = asyncio.create_task(stream.generate([request(1, LONG)]))
        await underway(stream)
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            await call
        with pytest.raises(EngineError, match="closed"):
            await stream.generate([request(1)])

    run(main)
    assert not [thread for thread in threading.enumerate() if thread.name == "decoding"]


def test_a_full_context_ends_a_turn_in_the_stream_too(model: Any) -> None:
    engine = endless(model)
    asked = [request(1, length=1024), request(2, length=1020), request(3, length=1020, tokens=4)]
    done = run(lambda: engine.stream().generate(asked))
    assert [one.finish for one in done] == [Finish.CONTEXT, Finish.CONTEXT, Finish.LENGTH]
    assert_same(done, engine.sample(asked))
    assert run(lambda: engine.stream().generate([])) == []


def test_adapters_speak_side_by_side_each_for_itself(model: Any) -> None:
    adapters = adapt(model, LoraSpec(rank=2), ("critic",))
    with torch.no_grad():
        for at, weight in enumerate(weight for name, weight in model.named_parameters() if ".lora_B." in name):
            weight.fill_(0.01 * (at % 5))
    engine = TransformersEngine(model, ())
    asked = [request(seed, 40, adapter) for seed in range(4) for adapter in ("", "critic")]

    async def main() -> list[list[Completion]]:
        return await asyncio.gather(*(engine.stream().generate([one]) for one in asked))

    done = [one for (one,) in run(main)]
    assert_same(done, engine.sample(asked))
    assert adapters.names == ("default", "critic") and done[0].token_ids != done[1].token_ids


def test_a_model_that_only_its_own_forward_decodes_streams_too() -> None:
    model = make_model()
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.ReLU()
    engine = endless(model, slots=2)
    stream, asked = engine.stream(), [request(seed, 20) for seed in range(5)]

    async def main() -> tuple[list[list[Completion]], Completion]:
        slow = asyncio.create_task(stream.generate([request(7, 200)]))
        await underway(stream)
        async with stream.hold():
            engine.renew(1)
        gone = asyncio.create_task(stream.generate([request(14, LONG)]))
        rest = asyncio.gather(*(stream.generate([one]) for one in asked))
        await underway(stream)
        gone.cancel()
        return await rest, (await slow)[0]

    rest, slow = run(main)
    assert engine.note and [span.version for span in slow.spans] == [0, 1]
    assert_same([*(one for (one,) in rest), slow], engine.sample([*asked, request(7, 200)]))


@pytest.mark.parametrize("lora", [False, True])
def test_a_copy_speaks_as_the_trainer_did_until_it_is_loaded(model: Any, lora: bool) -> None:
    if lora:
        adapt(model, LoraSpec(rank=2), ("critic",))
    asked = [request(1), request(1, adapter="critic" if lora else "")]
    engine = TransformersEngine(model, (), TransformersEngine.Config(copy=True))
    before = engine.sample(asked)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.add_(0.05)
    assert engine.sample(asked) == before and not engine.shares
    run(lambda: engine.load(3, Live(model)))
    after = engine.sample(asked)
    assert_same(after, TransformersEngine(model, ()).sample(asked))
    assert after[0].policy_version == 3 and after[0].logprobs != before[0].logprobs


class Live:
    """Weights of a trainer in this process."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.adapters = ()

    def save(self, version: int) -> Path:
        raise AssertionError("a copy in this process needs no files")


def test_play_goes_on_in_a_copy_through_an_update_and_says_so(model: Any) -> None:
    engine = TransformersEngine(model, (), TransformersEngine.Config(copy=True))
    stream = engine.stream()

    async def main() -> Completion:
        call = asyncio.create_task(stream.generate([request(1, 300)]))
        await underway(stream)
        with torch.no_grad():
            model.model.norm.weight.mul_(0.5)
        await stream.load(7, Live(model))
        return (await call)[0]

    assert [span.version for span in run(main).spans] == [0, 7]


def test_weights_are_read_from_a_folder_or_not_at_all(model: Any, tmp_path: Path) -> None:
    engine, other = endless(model), make_model(1)
    other.save_pretrained(tmp_path / "v2")
    run(lambda: engine.reload(tmp_path / "v2", 2))
    assert engine.policy_version == 2
    assert_same(engine.sample([request(1)]), endless(other).sample([request(1)]))
    (tmp_path / "v3").mkdir()
    (tmp_path / "v4").mkdir()
    (tmp_path / "v4" / "model.safetensors").write_bytes(b"\0" * 40)
    for name in ("v3", "v4"):
        with pytest.raises(EngineError, match=f"{name} does not hold"):
            run(lambda name=name: engine.reload(tmp_path / name, 9))  # type: ignore[misc]  # a default keeps the name
    assert engine.policy_version == 2


def test_adapters_are_read_from_a_folder(model: Any, tmp_path: Path) -> None:
    adapters, other = adapt(model, LoraSpec(rank=2), ("critic",)), make_model()
    theirs = adapt(other, LoraSpec(rank=2), ("critic",))
    with torch.no_grad():
        for weight in (weight for name, weight in other.named_parameters() if ".lora_B." in name):
            weight.fill_(0.02)
    theirs.save(tmp_path)
    engine, asked = endless(model), [request(1), request(1, adapter="critic")]
    run(lambda: engine.reload(tmp_path, 1))
    assert_same(engine.sample(asked), endless(other).sample(asked))
    with pytest.raises(EngineError, match="does not hold"):
        run(lambda: engine.reload(tmp_path / "nowhere", 2))
    assert engine.policy_version == 1 and adapters.names == theirs.names
