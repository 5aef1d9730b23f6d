"""The token wire over HTTP: what a client of a vLLM server gets here, with weights and adapters that come and go."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from sparring.agents.engine import Request
from sparring.envs.types import Finish
from sparring.scenarios.schema import LoraSpec, Sampling
from sparring.training import tiny
from sparring.training.engines import wire
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.engines.http import Client
from sparring.training.engines.remote import RemoteEngine
from sparring.training.lora import adapt
from sparring.training.serve.app import build
from sparring.training.serve.listen import background
from sparring.training.serve.served import Served
from sparring.training.serve.source import of_model

STOPS = (260,)


def requests(count: int, tokens: int = 12, seed: int = 0) -> list[Request]:
    rng = np.random.Generator(np.random.Philox(seed))
    return [
        Request(tuple(map(int, rng.integers(0, 250, 4 + at))), Sampling(temperature=0.9, max_tokens=tokens), seed + at)
        for at in range(count)
    ]


@pytest.fixture
def other(tmp_path: Path, new_model: Callable[..., Any]) -> Path:
    """A folder with other weights of the same model."""
    where = tmp_path / "other"
    new_model(7).save_pretrained(where)
    tiny.build_tokenizer().save_pretrained(where)
    return where


@pytest.fixture
def adapter(tmp_path: Path, new_model: Callable[..., Any]) -> Path:
    """A folder with a LoRA adapter that says something else, as a run publishes it."""
    import torch

    model = new_model()
    adapters = adapt(model, LoraSpec(rank=4, alpha=8.0))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn_like(weight))
    where = tmp_path / "adapter"
    where.mkdir()
    adapters.save(where)
    return where


def over(server: Any, request: Request, model: str = "policy", stops: tuple[int, ...] = STOPS) -> Any:
    body = server.post(wire.GENERATE, wire.ask(request, model, stops))
    return wire.read_answer(body, request, -1, "test")


def test_the_wire_gives_what_the_engine_samples_token_by_token(server: Any) -> None:
    asked = requests(6, tokens=30)
    alone = server.served.engine.sample(asked)
    for request, one in zip(asked, alone, strict=True):
        told = over(server, request)
        assert (told.token_ids, told.finish) == (one.token_ids, one.finish)
        assert told.logprobs == pytest.approx(one.logprobs, abs=1e-5)


def test_requests_that_join_in_mid_decode_change_nothing(server: Any) -> None:
    asked = requests(8, tokens=40)
    found: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda at=at: found.update({at: over(server, asked[at])})) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = server.served.engine.sample(asked)
    assert [found[at].token_ids for at in range(8)] == [one.token_ids for one in alone]


def test_other_ends_than_the_tokenizers_own_are_kept_too(server: Any) -> None:
    request = requests(1, tokens=60, seed=5)[0]
    usual = over(server, request)
    early = over(server, request, stops=(*STOPS, usual.token_ids[3]))
    at = usual.token_ids.index(usual.token_ids[3])
    assert early.token_ids == usual.token_ids[: at + 1] and early.finish is Finish.STOP
    endless = over(server, request, stops=())
    assert len(endless.token_ids) == 60 and endless.finish is Finish.LENGTH
    shared = len(usual.token_ids)
    assert endless.token_ids[:shared] == usual.token_ids


def test_a_pause_keeps_what_is_sampled_and_new_weights_go_on_with_it(server: Any, other: Path) -> None:
    server.post("/update_weight_version", {"new_version": "0"})
    request, found = requests(1, tokens=900)[0], list[Any]()
    thread = threading.Thread(target=lambda: found.append(over(server, request, stops=())))
    thread.start()
    while server.served.stream.live == 0:
        pass
    server.post("/pause", mode="keep")
    assert server.http.get("/is_paused").json() == {"is_paused": True}
    reload = {"method": "reload_weights", "kwargs": {"weights_path": str(other)}}
    assert server.post("/collective_rpc", reload) == {"results": [None]}
    server.post("/update_weight_version", {"new_version": "1"})
    assert thread.is_alive()
    server.post("/resume")
    thread.join()
    done = found[0]
    assert len(done.token_ids) == 900
    spans = done.spans or (done.policy_version,)
    assert done.policy_version == 1 or [span.version for span in spans] == [0, 1]
    assert server.http.get("/weight_info").json() == {"weight_version": "1"}
    fresh = TransformersEngine(_model_at(other), STOPS).sample(requests(3))
    assert [over(server, one).token_ids for one in requests(3)] == [one.token_ids for one in fresh]


def _model_at(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("mode", ["abort", "wait"])
def test_a_pause_may_also_end_or_await_what_is_sampled(server: Any, mode: str) -> None:
    request, found = requests(1, tokens=900)[0], list[Any]()
    thread = threading.Thread(target=lambda: found.append(over(server, request, stops=())))
    thread.start()
    while server.served.stream.live == 0:
        pass
    server.post("/pause", mode=mode)
    thread.join()
    assert found[0].finish is (Finish.ABORT if mode == "abort" else Finish.LENGTH)
    later = threading.Thread(target=lambda: found.append(over(server, requests(1)[0])))
    later.start()
    assert server.refused("/pause?mode=never", None, 400)
    assert later.is_alive()
    server.post("/resume")
    later.join()
    assert found[1].finish in (Finish.STOP, Finish.LENGTH)


def test_changes_come_one_at_a_time(server: Any, other: Path) -> None:
    home = Path(server.served.policy.model.name_or_path)
    calls = [{"method": "reload_weights", "kwargs": {"weights_path": str(at)}} for at in [home, other] * 4]
    threads = [threading.Thread(target=server.post, args=("/collective_rpc", call)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = requests(3)
    alone = [TransformersEngine(_model_at(at), STOPS).sample(asked) for at in (home, other)]
    assert [over(server, one).token_ids for one in asked] in [[one.token_ids for one in each] for each in alone]


def test_weights_that_do_not_fit_change_nothing(server: Any, other: Path, tmp_path: Path) -> None:
    before = over(server, requests(1)[0])
    small = tmp_path / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "SHAPE", tiny.SHAPE | {"hidden_size": 32, "num_hidden_layers": 1})
        tiny.build_model(0).save_pretrained(small)
    torn = tmp_path / "torn"
    shutil.copytree(other, torn)
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:1000])
    for folder, word in ((small, "another model's"), (torn, "cannot be read"), (tmp_path / "absent", "no weights")):
        call = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        assert word in server.refused("/collective_rpc", call, 400)
    assert "reload_weights is" in server.refused("/collective_rpc", {"method": "shutdown"}, 400)
    assert "whole number" in server.refused("/update_weight_version", {"new_version": "latest"}, 400)
    assert over(server, requests(1)[0]).token_ids == before.token_ids


def test_an_adapter_speaks_under_its_name_until_it_is_unloaded(server: Any, adapter: Path) -> None:
    request = requests(1, tokens=30)[0]
    plain = over(server, request)
    server.post("/v1/load_lora_adapter", {"lora_name": "r1-policy-v1", "lora_path": str(adapter)})
    spoken = over(server, request, "r1-policy-v1")
    model: Any = _model_at(Path(server.served.policy.model.name_or_path))
    from sparring.training.lora import Adapters

    adapt(model, LoraSpec(rank=4, alpha=8.0))
    found = Adapters.of(model)
    assert found is not None
    found.load(adapter)
    alone = TransformersEngine(model, STOPS).sample([request])[0]
    assert spoken.token_ids == alone.token_ids != plain.token_ids
    assert over(server, request).token_ids == plain.token_ids
    server.post("/v1/unload_lora_adapter", {"lora_name": "r1-policy-v1"})
    assert "not served here" in server.refused(wire.GENERATE, wire.ask(request, "r1-policy-v1", STOPS), 404)
    assert over(server, request).token_ids == plain.token_ids


def test_two_adapters_cannot_have_one_name(server: Any, adapter: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    shutil.copytree(adapter, second)
    server.post("/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": str(adapter)})
    told = server.refused("/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": str(second)}, 400)
    assert "loaded already" in told and str(adapter) in told
    assert "already" in server.refused("/v1/load_lora_adapter", {"lora_name": "policy", "lora_path": str(second)}, 400)
    server.post("/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": str(second), "load_inplace": True})
    assert server.served.loaded == {"mine": second}
    assert "no adapter 'other' is loaded" in server.refused("/v1/unload_lora_adapter", {"lora_name": "other"}, 404)


def test_a_folder_with_a_pickle_is_no_adapter(server: Any, adapter: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile"
    shutil.copytree(adapter, hostile)
    (hostile / "adapter_model.safetensors").rename(hostile / "adapter_model.bin")
    told = server.refused("/v1/load_lora_adapter", {"lora_name": "bad", "lora_path": str(hostile)}, 400)
    assert "holds no LoRA adapter" in told and "bad" not in server.served.names


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"token_ids": [], "sampling_params": {}}, "token_ids"),
        ({"token_ids": [10**6], "sampling_params": {}}, "no token of this model"),
        ({"token_ids": [1] * 5000, "sampling_params": {}}, "at most"),
        ({"token_ids": [1]}, "sampling_params"),
        ({"token_ids": [1], "sampling_params": {"temperature": -1}}, "temperature"),
        ({"token_ids": [1], "sampling_params": {"top_p": 0.5}}, "whole distribution"),
        ({"token_ids": [True], "sampling_params": {}}, "token_ids"),
    ],
)
def test_a_body_that_the_wire_does_not_know_is_refused(server: Any, body: Any, word: str) -> None:
    assert word in server.refused(wire.GENERATE, body, 400)


def test_texts_become_tokens_and_tokens_texts(server: Any) -> None:
    told = server.post("/tokenize", {"model": "policy", "prompt": "abc", "return_token_strs": True})
    assert (told["tokens"], told["count"], told["max_model_len"]) == ([97, 98, 99], 3, server.served.context)
    assert server.post("/detokenize", {"tokens": [97, 98, 99]}) == {"prompt": "abc"}
    chat = server.post("/tokenize", {"messages": [{"role": "user", "content": "a"}]})
    assert chat["tokens"] == list(server.served.policy.renderer.open([_user("a")]).token_ids)
    assert "no token of this model" in server.refused("/detokenize", {"tokens": [-1]}, 400)


def _user(text: str) -> Any:
    from sparring.agents.engine import Message

    return Message("user", text)


@dataclass
class Lying:
    """Weights of a trainer that lie in a folder."""

    folder: Path
    adapters: tuple[str, ...] = ()
    module: Any = None

    def save(self, version: int) -> Path:
        return self.folder


@pytest.fixture
def remote(server: Any) -> Iterator[RemoteEngine]:
    engine = RemoteEngine.connect(Client(server.url, "vllm", None, 60.0, 5.0), server.served.policy)
    yield engine
    engine.close()


def test_an_engine_in_another_program_samples_and_brings_weights_here(
    server: Any, remote: RemoteEngine, other: Path
) -> None:
    asked = requests(5, tokens=20)

    async def both() -> tuple[Any, Any]:
        before = await remote.generate(asked)
        await remote.load(4, Lying(other))
        return before, await remote.generate(asked)

    alone = server.served.engine.sample(asked)
    before, after = asyncio.run(both())
    assert [one.token_ids for one in before] == [one.token_ids for one in alone]
    fresh = TransformersEngine(_model_at(other), STOPS).sample(asked)
    assert [one.token_ids for one in after] == [one.token_ids for one in fresh]
    assert {one.policy_version for one in after} == {4} and not server.served.paused


def test_a_server_that_was_started_anew_is_given_the_weights_again(folder: Path, other: Path) -> None:
    request = requests(1, tokens=30)[0]

    def started() -> Served:
        return of_model(str(folder), ["policy.dtype=float32"])

    first, second = started(), started()
    with background(build(first)) as url:
        assert httpx.get(f"{url}/weight_info").json() == {"weight_version": "initial"}
        engine = RemoteEngine.connect(Client(url, "vllm", None, 60.0, 20.0), first.policy)
        asyncio.run(engine.load(0, Lying(other)))
        assert httpx.get(f"{url}/weight_info").json() == {"weight_version": "0"}
        before = asyncio.run(engine.generate([request]))[0]
    with background(build(second), urlsplit(url).port or 0):
        after = asyncio.run(engine.generate([request]))[0]
    fresh = TransformersEngine(_model_at(other), STOPS).sample([request])[0]
    assert before.token_ids == after.token_ids == fresh.token_ids
    first.close()
    second.close()


def test_an_engine_in_another_program_brings_adapters_here(server: Any, adapter: Path) -> None:
    policy = server.served.policy
    trainer: Any = _model_at(Path(policy.model.name_or_path))
    adapt(trainer, LoraSpec(rank=4, alpha=8.0))
    from sparring.training.policy import Policy

    mine = Policy(trainer, policy.tokenizer, policy.renderer)
    engine = RemoteEngine.connect(Client(server.url, "vllm", None, 60.0, 5.0), mine)
    request = requests(1, tokens=30)[0]

    async def spoken() -> Any:
        await engine.load(1, Lying(adapter, ("",)))
        first = (await engine.generate([request]))[0]
        await engine.load(2, Lying(adapter, ("",)))
        await engine.load(3, Lying(adapter, ("",)))
        return first, (await engine.generate([request]))[0]

    first, last = asyncio.run(spoken())
    assert first.token_ids == last.token_ids != server.served.engine.sample([request])[0].token_ids
    assert (first.policy_version, last.policy_version) == (1, 3)
    assert len(server.served.loaded) == 2  # what may still be spoken with, and the newest
    engine.close()
    assert server.served.loaded == {}
