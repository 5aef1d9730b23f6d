"""A real vLLM server as the engine: exact tokens, weights in sync to the last digit, faults survived."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx
import pytest

from sparring.agents.engine import Completion
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError
from sparring.scenarios.schema import LoraSpec
from sparring.training.engines import wire
from sparring.training.engines.remote import RemoteEngine
from sparring.training.engines.vllm import VllmEngine, installed
from sparring.training.lora import adapt
from sparring.training.policy import Policy

from .conftest import FIGURES, Live, VllmServer, asks, gaps, mean, measured, new_policy, shift, told_apart

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(installed() is None, reason="vLLM is not in this environment: make test-vllm makes one"),
]
EXACT = 1e-5  # nats, float32


def engine(server: VllmServer, policy: Policy, **more: Any) -> RemoteEngine:
    found = VllmEngine.serve(VllmEngine.Config(url=server.url, **more), policy)
    assert isinstance(found, RemoteEngine)
    return found


def test_every_token_id_arrives_as_it_was_sent(server: VllmServer, policy: Policy) -> None:
    ids = (*range(267), 260, 260, 0, 255, 254, 195, 40)  # control tokens and bytes that are no UTF-8 among them
    body = wire.ask(asks(1)[0], "policy", ()) | {"token_ids": list(ids), "return_token_ids": True}
    answer = httpx.post(server.url + wire.GENERATE, json=body, timeout=120).json()
    assert tuple(answer["prompt_token_ids"]) == ids
    assert len(answer["choices"][0]["token_ids"]) == len(answer["choices"][0]["logprobs"]["content"]) == 48


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_log_probs_are_the_trainer_s(server: VllmServer, policy: Policy, tmp_path: Path, temperature: float) -> None:
    speaking, requests = engine(server, policy), asks(16, temperature=temperature)

    async def say() -> list[Completion]:
        await speaking.load(1, Live(policy, tmp_path))
        return await speaking.generate(requests)

    said = asyncio.run(say())
    gap = mean(gaps(policy.model, requests, said))
    FIGURES[f"server: gap at temperature {temperature}"] = f"{gap:.2g} nats"
    assert gap < EXACT
    assert {done.policy_version for done in said} == {1} and len({done.token_ids for done in said}) > 8
    assert any(done.finish is Finish.STOP and done.token_ids[-1] in speaking.stop_ids for done in said) or all(
        done.finish is Finish.LENGTH for done in said
    )


def test_old_weights_are_far_away_and_new_ones_exact(server: VllmServer, policy: Policy, tmp_path: Path) -> None:
    speaking, requests, live = engine(server, policy), asks(8), Live(policy, tmp_path)

    async def say() -> tuple[float, float]:
        await speaking.load(1, live)
        shift(policy.model)
        stale = mean(gaps(policy.model, requests, await speaking.generate(requests)))
        with measured("server: reload of all weights, saving included"):
            await speaking.load(2, live)
        return stale, mean(gaps(policy.model, requests, await speaking.generate(requests)))

    stale, fresh = asyncio.run(say())
    FIGURES["server: gap of old weights, of new ones"] = f"{stale:.2g}, {fresh:.2g} nats"
    assert stale > 1e-2 and fresh < EXACT


def test_new_weights_in_mid_generation_are_told_apart_to_the_token(
    server: VllmServer, policy: Policy, tmp_path: Path
) -> None:
    speaking = engine(server, policy)
    speaking.stop_ids = ()
    found = asyncio.run(told_apart(speaking, Live(policy, tmp_path)))
    FIGURES["server: worst mean gap of a span, weights changed in mid-generation"] = (
        f"{max(map(fmean, found)):.2g} nats"
    )
    assert max(map(fmean, found)) < EXACT


def test_tokens_per_second(server: VllmServer, policy: Policy) -> None:
    speaking = engine(server, policy)
    speaking.stop_ids = ()
    asyncio.run(speaking.generate(asks(32, tokens=8)))
    began = time.monotonic()
    said = asyncio.run(speaking.generate(asks(32, tokens=256)))
    count = sum(len(done.token_ids) for done in said)
    FIGURES["server: 32 sequences of 256 tokens"] = f"{count / (time.monotonic() - began):.0f} tokens/s"
    assert count == 32 * 256


def test_adapters_follow_their_versions(server: VllmServer, policy: Policy, tmp_path: Path) -> None:
    asyncio.run(engine(server, policy).load(1, Live(policy, tmp_path / "base")))  # whatever tests before put in
    adapt(policy.model, LoraSpec(rank=8, alpha=16.0), ["critic"])
    speaking, live = engine(server, policy), Live(policy, tmp_path / "lora", ("", "critic"))
    requests = [*asks(6), *asks(6, adapter="critic")]

    async def say() -> list[float]:
        found = []
        for version in (1, 2, 3):
            shift(policy.model, 1.5)
            _wake(policy.model)
            if version > 1:
                found.append(mean(gaps(policy.model, requests, await speaking.generate(requests))))
            await speaking.load(version, live)
            said = await speaking.generate(requests)
            assert {done.policy_version for done in said} == {version}
            found.append(mean(gaps(policy.model, requests, said)))
        return found

    first, stale, second, stale_again, third = asyncio.run(say())
    assert max(first, second, third) < EXACT and min(stale, stale_again) > 1e-3
    assert "an adapter" not in speaking.note
    speaking.close()
    names = [card["id"] for card in httpx.get(f"{server.url}/v1/models", timeout=10).json()["data"]]
    assert names == ["policy"]


def _wake(module: Any) -> None:
    """The halves of adapters that start as zeros, made to matter."""
    import torch

    drawn = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if ".lora_B." in name:
                weight.add_(0.02 * torch.randn(weight.shape, generator=drawn))


def test_a_full_context_is_a_finish(server: VllmServer, policy: Policy) -> None:
    speaking = engine(server, policy)
    speaking.stop_ids = ()
    near = asks(1)[0]
    near = type(near)(tuple(40 + at % 60 for at in range(1020)), near.sampling, 1)
    full = type(near)((*near.prompt_ids, 1, 2, 3, 4), near.sampling, 1)
    cut, none = asyncio.run(speaking.generate([near, full]))
    assert (cut.finish, len(cut.token_ids), none.finish) == (Finish.CONTEXT, 4, Finish.CONTEXT)


def test_a_server_killed_and_started_again_in_mid_rollout_goes_on_with_our_weights(
    server: VllmServer, policy: Policy, tmp_path: Path
) -> None:
    shift(policy.model, 1.1)  # not what the server's own folder holds
    speaking, requests = engine(server, policy, patience_s=240), asks(12, tokens=700)  # more than 0.4 s can hold
    speaking.stop_ids = ()

    async def say() -> list[Completion]:
        await speaking.load(5, Live(policy, tmp_path))
        running = asyncio.ensure_future(speaking.generate(requests))
        await asyncio.sleep(0.4)
        assert not running.done()
        server.kill()
        server.start(wait=False)
        return await running

    with measured("server: killed and started again in mid-rollout, all answers there"):
        said = asyncio.run(say())
    server.wait()  # it is there again for the next test, whenever the answers came
    assert {done.finish for done in said} == {Finish.LENGTH} and {done.policy_version for done in said} == {5}
    assert mean(gaps(policy.model, requests, said)) < EXACT


def test_a_server_that_stays_down_makes_aborted_turns(tmp_path: Path, server: VllmServer, policy: Policy) -> None:
    speaking = engine(server, policy, patience_s=0.5)
    server.kill()
    try:
        said = asyncio.run(speaking.generate(asks(4)))
        with pytest.raises(EngineError, match="version 1"):
            asyncio.run(speaking.load(1, Live(new_policy(), tmp_path)))
    finally:
        server.start()
    assert {done.finish for done in said} == {Finish.ABORT} and "cannot be reached" in said[0].error
