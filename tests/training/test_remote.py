"""An engine behind a token server survives what passes, refuses at the door what spoils a run, and mends weights."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.training.fake_openai import Reply
from tests.training.fake_vllm import FakeVllm

from sparring.agents.engine import Request
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError, MissingExtra
from sparring.scenarios.schema import LoraSpec, Sampling
from sparring.training import tiny
from sparring.training.engines import http, untied, vllm
from sparring.training.engines.remote import RemoteEngine
from sparring.training.engines.render import ChatRenderer
from sparring.training.engines.vllm import VllmEngine
from sparring.training.policy import Policy

KEY = "sk-very-secret-0123"
ASK = Request((1, 2, 3), Sampling(max_tokens=8), 7, "solver")


@dataclass
class Folders:
    """Weights that are folders without a model in them."""

    root: Path
    adapters: tuple[str, ...] = ()
    module: Any = None

    def save(self, version: int) -> Path:
        folder = self.root / "run-1" / "served" / f"v{version:06d}"
        folder.mkdir(parents=True)
        return folder


@pytest.fixture
def policy(model: Any) -> Policy:
    """A small policy with the built-in tokenizer."""
    tokenizer = tiny.build_tokenizer()
    return Policy(model, tokenizer, ChatRenderer(tokenizer))


@pytest.fixture
def server(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVllm]:
    """A token server with the policy's tokenizer; waits are milliseconds."""
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.001)
    with FakeVllm(policy.tokenizer) as found:
        yield found


@pytest.fixture
def weights(tmp_path: Path, model: Any) -> Folders:
    """A whole model's folders."""
    return Folders(tmp_path, module=model)


def engine(server: FakeVllm, policy: Policy, **more: Any) -> RemoteEngine:
    found = VllmEngine.serve(VllmEngine.Config(url=server.base, **more), policy)
    assert isinstance(found, RemoteEngine)
    return found


def say(speaking: RemoteEngine, *requests: Request) -> list[Any]:
    return asyncio.run(speaking.generate(requests or [ASK]))


def test_what_is_asked_is_one_seeded_request_per_sequence(server: FakeVllm, policy: Policy) -> None:
    speaking = engine(server, policy)
    server.asked.clear()
    done = say(speaking, ASK, Request((4,), Sampling(max_tokens=2), 8))
    assert [one.token_ids for one in done] == [(5, 6, 7), (5, 6)]
    assert [one.finish for one in done] == [Finish.STOP, Finish.LENGTH]
    assert sorted(body["sampling_params"]["seed"] for body in server.asked) == [7, 8]
    assert {tuple(body["sampling_params"]["stop_token_ids"]) for body in server.asked} == {tuple(speaking.stop_ids)}
    assert speaking.stream() is speaking and "policy" in speaking.note


def test_no_more_than_so_many_requests_are_under_way(server: FakeVllm, policy: Policy) -> None:
    speaking = engine(server, policy, at_once=2)
    most = busy = 0
    plain = speaking.client.post

    async def counted(*given: Any, **more: Any) -> Any:
        nonlocal most, busy
        busy += 1
        most = max(most, busy)
        try:
            return await plain(*given, **more)
        finally:
            busy -= 1

    speaking.client.post = counted  # type: ignore[method-assign]  # it only counts what goes through
    assert len(say(speaking, *[ASK] * 9)) == 9 and most == 2


def test_a_context_that_is_full_is_a_finish_and_no_error(server: FakeVllm, policy: Policy) -> None:
    server.context = 8
    speaking = engine(server, policy)
    full, near = say(speaking, Request((1,) * 8, Sampling(), 0), Request((1,) * 6, Sampling(max_tokens=8), 0))
    assert (full.finish, full.token_ids) == (Finish.CONTEXT, ())
    assert (near.finish, near.token_ids) == (Finish.CONTEXT, (5, 6))


def test_a_server_that_fails_and_recovers_is_survived(server: FakeVllm, policy: Policy) -> None:
    speaking = engine(server, policy)
    server.faults.extend(Reply.error(500, "out of memory") for _ in range(3))
    assert say(speaking)[0].finish is Finish.STOP


def test_a_server_that_dies_makes_aborted_turns_and_no_zeros(server: FakeVllm, policy: Policy) -> None:
    speaking = engine(server, policy, patience_s=0.05)
    server.die()
    first, second = say(speaking, ASK, ASK)
    assert first.finish is second.finish is Finish.ABORT and not first.token_ids
    assert "cannot be reached" in first.error


def test_a_server_nobody_started_is_an_error_at_once(server: FakeVllm, policy: Policy, monkeypatch: Any) -> None:
    monkeypatch.setattr("sparring.training.engines.remote.DOOR_S", 0.01)
    server.die()
    with pytest.raises(EngineError, match="Start the server first"):
        engine(server, policy)


def test_a_model_the_server_has_not_is_told_with_those_it_has(server: FakeVllm, policy: Policy) -> None:
    with pytest.raises(EngineError, match=r"no model 'qwen'; it has policy"):
        engine(server, policy, model="qwen")


def test_another_tokenizer_is_told_by_its_first_token(server: FakeVllm, policy: Policy) -> None:
    class Odd:
        def decode(self, ids: list[int]) -> str:
            return "".join("A" if token == 201 else policy.tokenizer.decode([token]) for token in ids)

    class Plain:
        def decode(self, ids: list[int]) -> str:
            return "".join(policy.tokenizer.decode([token]) for token in ids)

        def __len__(self) -> int:
            return len(policy.tokenizer)

    server.tokenizer = Odd()
    spelled = Policy(policy.model, Plain(), policy.renderer)
    with pytest.raises(EngineError, match=r"first token that differs is 201, 'A' there and"):
        engine(server, spelled)


def test_a_server_that_does_not_spell_tokens_is_refused(server: FakeVllm, policy: Policy) -> None:
    server.breaks["/detokenize"] = Reply.json({"detail": "Not Found"}, 404)
    with pytest.raises(EngineError, match="tokenizer"):
        engine(server, policy)


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        ("logprobs", "no log-probs"),
        ("processed", "--logprobs-mode processed_logprobs"),
        ("dev", "VLLM_SERVER_DEV_MODE=1"),
        ("scale_out", "--enable-scale-out"),
    ],
)
def test_a_server_started_without_what_training_needs_is_refused(
    server: FakeVllm, policy: Policy, lacking: str, named: str
) -> None:
    setattr(server, lacking, False)
    with pytest.raises(EngineError, match=named):
        engine(server, policy)


def test_a_role_that_is_not_trained_needs_none_of_it(server: FakeVllm, policy: Policy) -> None:
    server.dev = server.processed = False
    beside = VllmEngine.beside(VllmEngine.Config(url=server.base), policy, None)
    assert asyncio.run(beside.generate([ASK]))[0].token_ids == (5, 6, 7)


def test_log_probs_that_end_in_mid_run_are_an_error(server: FakeVllm, policy: Policy) -> None:
    speaking = engine(server, policy)
    server.logprobs = False
    with pytest.raises(EngineError, match="no log-probs"):
        say(speaking)


def test_a_wrong_key_is_not_shown(server: FakeVllm, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    server.key = "another"
    with pytest.raises(EngineError, match="TEST_KEY") as told:
        engine(server, policy, api_key_env="TEST_KEY")
    assert KEY not in str(told.value) and "401" in str(told.value)


def test_weights_go_in_between_two_tokens_under_their_version(
    server: FakeVllm, policy: Policy, weights: Folders
) -> None:
    speaking = engine(server, policy)
    server.calls.clear()
    asyncio.run(speaking.load(4, weights))
    assert server.calls == ["/pause", "/collective_rpc", "/update_weight_version", "/reset_prefix_cache", "/resume"]
    assert (server.version, speaking.policy_version, say(speaking)[0].policy_version) == ("4", 4, 4)


def test_the_prefix_cache_is_salted_with_the_version(server: FakeVllm, policy: Policy, weights: Folders) -> None:
    speaking, other = engine(server, policy), engine(server, policy)
    server.asked.clear()
    for version in (1, 2):
        asyncio.run(speaking.load(version, weights))
        say(speaking)
    say(other)
    assert len({body["cache_salt"] for body in server.asked}) == 3


def test_weights_that_are_not_taken_are_an_error_and_the_server_goes_on(
    server: FakeVllm, policy: Policy, weights: Folders
) -> None:
    speaking = engine(server, policy)
    server.breaks["/collective_rpc"] = Reply.error(500, "no such folder")
    with pytest.raises(EngineError, match=r"no such folder.*same path"):
        asyncio.run(speaking.load(1, weights))
    assert server.calls[-1] == "/resume" and speaking.policy_version == 0


def test_a_server_started_anew_is_given_the_weights_again(server: FakeVllm, policy: Policy, weights: Folders) -> None:
    speaking = engine(server, policy)
    asyncio.run(speaking.load(3, weights))
    server.version = "default"
    done = say(speaking, *[ASK] * 5)
    assert {one.policy_version for one in done} == {3} and server.version == "3"
    assert server.asked_for("/collective_rpc") == 2


def test_a_server_that_forgets_every_time_makes_aborted_turns(
    server: FakeVllm, policy: Policy, weights: Folders
) -> None:
    speaking = engine(server, policy)
    asyncio.run(speaking.load(3, weights))
    server.version = "default"
    server.breaks["/update_weight_version"] = Reply.json({})
    assert say(speaking)[0].finish is Finish.ABORT


def test_a_tied_policy_sends_its_output_matrix_to_a_server_that_ties_nothing(
    server: FakeVllm, policy: Policy, weights: Folders, tmp_path: Path
) -> None:
    folder = untied.export(policy.model, policy.tokenizer, tmp_path / "start")
    assert untied.tied(policy.model) and not untied.ties(str(folder)) and not untied.ties(str(tmp_path))
    card = {"id": "policy", "root": str(folder), "max_model_len": 64}
    server.breaks["/v1/models"] = Reply.json({"data": [card]})
    asyncio.run(engine(server, policy).load(1, weights))
    sent = load_file(tmp_path / "run-1" / "served" / "v000001" / untied.HEAD)["lm_head.weight"]
    assert sent.equal(policy.model.get_input_embeddings().weight)


# -- adapters ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def adapted(policy: Policy) -> Policy:
    """The policy with adapters."""
    pytest.importorskip("peft", reason="adapters need the extra `lora`")
    from sparring.training.lora import adapt

    adapt(policy.model, LoraSpec(rank=4), ["critic"])
    return policy


def test_adapters_go_by_names_of_version_and_run(server: FakeVllm, adapted: Policy, tmp_path: Path) -> None:
    server.dev = False  # not needed for adapters
    speaking = engine(server, adapted)
    held = Folders(tmp_path, ("", "critic"))
    for version in (1, 2, 3):
        asyncio.run(speaking.load(version, held))
    server.asked.clear()
    own, critic = say(speaking, ASK, Request((1,), Sampling(max_tokens=8), 0, adapter="critic"))
    assert own.policy_version == critic.policy_version == 3
    asked = sorted(body["model"] for body in server.asked)
    assert [name.rpartition("-")[2] for name in asked] == ["v3", "v3"] and all("run-1" in name for name in asked)
    assert {name.rpartition("-")[2] for name in server.adapters} == {"v2", "v3"}  # older ones are dropped
    assert any(root.endswith("v000003/critic") for root in server.adapters.values())
    speaking.close()
    assert not server.adapters


def test_two_runs_do_not_share_an_adapter_s_name(server: FakeVllm, adapted: Policy, tmp_path: Path) -> None:
    first, second = engine(server, adapted), engine(server, adapted)
    for number, one in enumerate((first, second)):
        asyncio.run(one.load(1, Folders(tmp_path / str(number), ("",))))
    assert len(server.adapters) == 2


def test_a_name_that_is_taken_is_an_error(server: FakeVllm, adapted: Policy, tmp_path: Path) -> None:
    speaking = engine(server, adapted)
    server.taken = True
    with pytest.raises(EngineError, match="another run uses that name"):
        asyncio.run(speaking.load(1, Folders(tmp_path, ("",))))


def test_an_adapter_that_came_in_by_a_call_whose_answer_was_lost_is_ours(
    server: FakeVllm, adapted: Policy, tmp_path: Path
) -> None:
    speaking, held = engine(server, adapted), Folders(tmp_path, ("",))
    arrived: list[str] = []
    plain = server._adapter

    def deaf(path: str, body: dict[str, Any]) -> Reply:
        found = plain(path, body)
        arrived.append(path)
        return Reply(200, b"lost", cut=True) if len(arrived) == 1 else found

    server._adapter = deaf  # type: ignore[method-assign]  # a line that drops once the adapter is in
    asyncio.run(speaking.load(1, held))
    assert len(arrived) == 2 and len(server.adapters) == 1 and say(speaking)[0].policy_version == 1


def test_the_url_that_openai_s_clients_are_given_will_do(server: FakeVllm, policy: Policy) -> None:
    config = VllmEngine.Config(url=server.base + "/v1/")
    assert isinstance(VllmEngine.serve(config, policy), RemoteEngine)


def test_a_server_that_lost_its_adapters_is_given_them_again(server: FakeVllm, adapted: Policy, tmp_path: Path) -> None:
    speaking = engine(server, adapted)
    asyncio.run(speaking.load(1, Folders(tmp_path, ("", "critic"))))
    server.adapters.clear()
    assert [one.policy_version for one in say(speaking, ASK, ASK)] == [1, 1]


def test_an_adapter_nobody_trains_is_an_error(server: FakeVllm, policy: Policy, weights: Folders) -> None:
    speaking = engine(server, policy)
    asyncio.run(speaking.load(1, weights))
    with pytest.raises(EngineError, match=r"adapter 'critic'.*policy\.lora"):
        say(speaking, Request((1,), Sampling(), 0, adapter="critic"))


def test_a_server_that_takes_no_adapters_is_refused(server: FakeVllm, adapted: Policy) -> None:
    server.breaks["/v1/load_lora_adapter"] = Reply.json({"detail": "Not Found"}, 404)
    with pytest.raises(EngineError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"):
        engine(server, adapted)


def test_an_engine_can_be_closed_when_its_server_is_gone(server: FakeVllm, adapted: Policy, tmp_path: Path) -> None:
    speaking = engine(server, adapted)
    asyncio.run(speaking.load(1, Folders(tmp_path, ("",))))
    server.die()
    speaking.close()
    assert speaking.policy_version == 1


# -- vLLM in this program ----------------------------------------------------------------------------------------------

Found = Callable[[], str | None]


@pytest.mark.parametrize(
    ("found", "works", "error"),
    [
        (None, "server's url", MissingExtra),
        ("0.19.1", "not supported", EngineError),
        ("0.32.4", "in this program", None),
    ],
)
def test_what_is_installed_decides_what_works(
    monkeypatch: pytest.MonkeyPatch, found: str | None, works: str, error: type[Exception] | None
) -> None:
    monkeypatch.setattr(vllm, "installed", lambda: found)
    assert works in vllm.judgement()
    if error is None:
        return vllm.check()
    with pytest.raises(error, match="pip install vllm"):
        vllm.check()


def test_what_a_program_started_ends_with_it_however_it_ends() -> None:
    sleeper = subprocess.Popen(["sleep", "600"])
    guard = vllm._outlives_nobody([sleeper.pid])
    assert guard.stdin is not None and sleeper.poll() is None
    guard.stdin.close()  # what the end of this program would do
    assert sleeper.wait(60) != 0 and guard.wait(60) == 0
