"""The engine ``openai`` against this server: the ids of the same model are kept, and a run learns beside it."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.engine import Message, Request
from sparring.envs.types import Finish
from sparring.scenarios.load import load
from sparring.scenarios.schema import Sampling
from sparring.storage.queries import stored_episodes
from sparring.storage.store import Store
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.engines.openai import OpenAiEngine
from sparring.training.session import start


def test_the_same_model_behind_a_server_says_what_the_embedded_engine_says(server: Any, alone: Any) -> None:
    renderer = alone.policy.renderer
    config = OpenAiEngine.Config(url=f"{server.url}/v1", model=next(iter(server.served.names)), logprobs=True)
    remote = OpenAiEngine(config, renderer)
    asyncio.run(remote.ready())
    messages = (Message("user", "Say something."),)
    requests = [
        Request(renderer.open(messages).token_ids, Sampling(max_tokens=12), seed, messages=messages)
        for seed in range(16)
    ]
    there = asyncio.run(remote.generate(requests))
    here = TransformersEngine(alone.policy.model, renderer.stop_ids).sample(requests)
    same = [one for one, other in zip(there, here, strict=True) if one.token_ids == other.token_ids]
    known = [one for one in same if not math.isnan(one.logprobs[0])]
    by_seed = {one.token_ids: one for one in here}
    assert len(known) == 16 and {one.finish for one in there} <= {Finish.STOP, Finish.LENGTH}
    assert all(one.logprobs == pytest.approx(by_seed[one.token_ids].logprobs, abs=1e-4) for one in known)


def test_a_run_whose_critic_speaks_through_a_served_model(
    server: Any, scenario: Path, ran: Any, tmp_path: Path
) -> None:
    engine = {"kind": "openai", "url": f"{server.url}/v1", "model": next(iter(server.served.names))}
    more = ["roles.critic.trainable=false", f"roles.critic.engine={json.dumps(engine)}", "rollout.max_broken=1"]
    more += ["roles.critic.refuse_empty=false"]  # it is to speak of every answer, of empty ones too
    done = ran(start(load(scenario, [*more, "training.steps=2"]), Store(tmp_path / "beside.db")))
    with Store(done.path) as store:
        episodes = [one.episode for one in stored_episodes(store, "r1")]
    spoken = [turn for episode in episodes for turn in episode.turns if turn.author == "critic"]
    assert done.status == "done" and {turn.engine for turn in spoken} == {f"openai:{engine['model']}"}
