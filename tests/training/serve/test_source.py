"""What a word on the command line serves: a run's checkpoints as they come, a scenario's policy, a model, a proxy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from sparring.agents.engine import Request
from sparring.scenarios.errors import EngineError, RunNotFound, ScenarioError
from sparring.scenarios.load import load
from sparring.scenarios.schema import Sampling
from sparring.storage import queries
from sparring.storage.store import Store
from sparring.training.engines import wire
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.loop import learn
from sparring.training.serve.served import Served
from sparring.training.serve.source import is_run, is_scenario, of_model, of_run, of_scenario, points
from sparring.training.session import resume, start

QUICK = ("training.steps=2", "training.checkpoint.keep=9", "evaluation.every=0", "training.optimizer.lr=0.05")
ASK = Request((1, 2, 3, 4), Sampling(max_tokens=24), 5)


@pytest.fixture
def stored(scenario: Path, tmp_path: Path, ran: Any) -> Store:
    """A database with a whole run of two steps in it, made with large steps."""
    path = tmp_path / "sparring.db"
    ran(start(load(scenario, QUICK), Store(path)))
    return Store(path, create=False)


def spoken(served: Served) -> tuple[int, ...]:
    return tuple(served.engine.sample([ASK])[0].token_ids)


def at(folder: Path) -> tuple[int, ...]:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    return tuple(TransformersEngine(model.eval(), (260,)).sample([ASK])[0].token_ids)


def test_a_run_is_served_as_its_checkpoints_say(stored: Store) -> None:
    with stored:
        kept = points(stored, "r1")
        assert [point.step for point in kept][-1] == 2 and len(kept) > 1
        for point in kept:
            with closing(of_run(stored, "r1", point.step, (), False)) as served:
                assert spoken(served) == at(point.folder)
                assert (served.version, served.weights_sha) == (point.step, point.weights_sha)
        with closing(of_run(stored, "latest", None, (), True)) as newest:
            assert (newest.about, newest.following) == ("r1/2", "r1")
        with pytest.raises(RunNotFound, match=r"keeps no checkpoint of step 9; it keeps those of .*2"):
            of_run(stored, "r1", 9, (), False)
        with pytest.raises(RunNotFound):
            of_run(stored, "r7", None, (), False)


def test_a_damaged_checkpoint_is_not_served(stored: Store) -> None:
    with stored:
        weights = points(stored, "r1")[-1].folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
        with pytest.raises(EngineError, match="damaged"):
            of_run(stored, "r1", None, (), False)


@pytest.mark.parametrize("version", [1, 99])  # a run that was resumed further back has lower numbers again
def test_newer_checkpoints_are_taken_up_as_they_come(stored: Store, serve: Callable[..., Any], version: int) -> None:
    with stored:
        first, last = points(stored, "r1")[0], points(stored, "r1")[-1]
        served = of_run(stored, "r1", first.step, (), True)
        served.version = version
        behind = serve(served, store=stored, poll_s=0.02)
        until = time.monotonic() + 30
        while served.version != 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert behind.http.get("/weight_info").json() == {"weight_version": "2"}
        told = behind.post(wire.GENERATE, wire.ask(ASK, "policy", (260,)))
        done = wire.read_answer(told, ASK, -1, "test")
        assert (done.token_ids, done.policy_version) == (at(last.folder), 2)
        assert behind.told == ["now serving r1/2"]
        assert "follows run r1" in behind.refused("/update_weight_version", {"new_version": "3"}, 409)
        assert behind.http.get("/v1/models").json()["data"][0]["root"] == "r1/2"


def test_a_checkpoint_that_cannot_be_read_leaves_the_one_before_it(stored: Store, serve: Callable[..., Any]) -> None:
    with stored:
        first, last = points(stored, "r1")[0], points(stored, "r1")[-1]
        (last.folder / "model.safetensors").unlink()
        served = of_run(stored, "r1", first.step, (), True)
        behind = serve(served, store=stored, poll_s=0.02)
        until = time.monotonic() + 30
        while not behind.told and time.monotonic() < until:
            time.sleep(0.02)
        assert behind.told[0].startswith(f"still serving r1/{first.step}: ")
        assert spoken(served) == at(first.folder)


@pytest.mark.slow
def test_a_run_of_adapters_is_served_with_every_one(
    scenario: Path, tmp_path: Path, ran: Any, serve: Callable[..., Any]
) -> None:
    pytest.importorskip("peft", reason="adapters need the extra `lora`")
    lora = (*QUICK, "policy.lora={rank: 4}", "roles.critic.adapter=judge")
    ran(start(load(scenario, lora), Store(tmp_path / "lora.db")))
    with Store(tmp_path / "lora.db", create=False) as store:
        first, last = points(store, "r1")[0], points(store, "r1")[-1]
        served = of_run(store, "r1", first.step, (), False)
        behind = serve(served)
        body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 20, "seed": 1, "temperature": 1}
        texts = {name: _text(behind, {**body, "model": name}) for name in ("policy", "policy:solver", "policy:critic")}
        assert texts["policy"] == texts["policy:solver"]
        assert "already" in behind.refused("/v1/load_lora_adapter", {"lora_name": "judge", "lora_path": "x"}, 400)
        newest = of_run(store, "r1", last.step, (), False)
        with closing(newest):
            assert spoken(newest) != spoken(served)


def _text(behind: Any, body: Any) -> str:
    text: str = behind.post("/v1/chat/completions", body)["choices"][0]["message"]["content"]
    return text


def test_scenarios_and_models_are_told_apart(scenario: Path, folder: Path) -> None:
    assert is_run("r12") and is_run("latest") and not is_run("run")
    assert is_scenario(str(scenario)) and is_scenario("smoke") and not is_scenario(str(folder))
    with closing(of_scenario(str(scenario), ["engine.slots=3"])) as served:
        assert (served.about, served.version, list(served.roles)) == ("echo", 0, ["solver", "critic"])
        assert served.engine.config.slots == 3
    with closing(of_model("builtin:tiny", [])) as served:
        assert list(served.names) == ["policy", "policy:solver"]
    with pytest.raises(EngineError, match="builtin:huge"):
        of_model("builtin:huge", [])
    with pytest.raises(ScenarioError):
        of_model("builtin:tiny", ["policy.nothing=1"])


def test_a_proxy_records_what_the_server_behind_it_samples(
    server: Any, serve: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    proxied = of_model(str(folder), ["engine.kind=vllm", f"engine.url={server.url}"])
    assert not proxied.here and next(proxied.policy.model.parameters()).device.type == "meta"
    with Store(tmp_path / "proxy.db") as store:
        behind = serve(proxied, store=store, record=True)
        key = behind.post("/episodes", {})["key"]
        held = [{"role": "user", "content": "Say a word"}]
        client = behind.openai(key)
        for _ in range(2):
            answer = client.chat.completions.create(model="policy", messages=held, max_tokens=9)
            said = {"role": "assistant", "content": answer.choices[0].message.content}
            held += [said, {"role": "user", "content": "on"}]
        behind.post(f"/episodes/{key}/end", {"scores": {"verifier": 1.0}})
        episode = queries.stored_episodes(store, "r1", range(1, 2))[0].episode
        assert [turn.follows for turn in episode.turns] == [None, 0]
        prompt: tuple[int, ...] = ()
        for turn in episode.turns:
            assert turn.context is not None
            prompt += turn.context.token_ids
            sampling = Sampling(max_tokens=9)
            alone = server.served.engine.sample([Request(prompt, sampling, turn.seed)])[0]
            assert turn.token_ids == alone.token_ids and turn.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
            prompt += turn.token_ids
        assert "the server behind this one" in behind.refused("/pause", None, 501)


def test_a_scenario_trains_through_the_wire_as_it_does_at_home(
    server: Any, scenario: Path, folder: Path, tmp_path: Path
) -> None:
    def rows(name: str, *overrides: str) -> list[Any]:
        (tmp_path / name).mkdir()
        session = start(load(scenario, [*QUICK, *overrides]), Store(tmp_path / name / "sparring.db"))
        asyncio.run(learn(session))
        with closing(session):
            found = queries.stored_episodes(session.store, session.run, range(1, 3))
            return [[turn.token_ids for turn in one.episode.turns] for one in found]

    # Sampling the same tokens twice takes the same weights to the last bit of a choice: both are float32 on one CPU.
    home = rows("home", "engine={kind: transformers}")
    with Store(tmp_path / "home" / "sparring.db") as store, closing(of_run(store, "r1", None, (), False)) as served:
        at_home = spoken(served)
    away = rows("away", f"engine={{kind: vllm, url: '{server.url}'}}")
    assert home == away
    assert httpx.get(f"{server.url}/weight_info").json() == {"weight_version": "2"}
    with Store(tmp_path / "away" / "sparring.db") as store, closing(of_run(store, "r1", None, (), False)) as served:
        assert served.here and spoken(served) == at_home  # its checkpoint, wherever it sampled


def test_a_role_that_is_not_trained_speaks_through_a_server(
    server: Any, scenario: Path, tmp_path: Path, ran: Any
) -> None:
    engine = f"roles.critic.engine={{kind: openai, url: '{server.url}/v1', model: policy}}"
    critic = ("roles.critic.trainable=false", "roles.critic.refuse_empty=false", engine)
    finished = ran(start(load(scenario, [*QUICK, *critic]), Store(tmp_path / "mixed.db")))
    assert finished.status == "done"
    rows = finished.rows("SELECT DISTINCT author, engine FROM turns WHERE author != 'environment' ORDER BY author")
    assert [row[0] for row in rows] == ["critic", "solver"] and rows[0][1] != rows[1][1] == "transformers"
    assert server.served.engine.sampled_tokens > 0


def test_a_resumed_run_gives_the_server_its_weights_again(
    server: Any, scenario: Path, tmp_path: Path, stop_after: Callable[[int], Callable[[], bool]]
) -> None:
    overrides = [*QUICK, f"engine={{kind: vllm, url: '{server.url}'}}"]
    with Store(tmp_path / "away.db") as store:
        session = start(load(scenario, overrides), store)
        asyncio.run(learn(session, stop=stop_after(1)))
        point = store.resume_point("r1")
        server.post("/update_weight_version", {"new_version": "77"})  # somebody else had it meanwhile
        again = resume(load(scenario, overrides), store, point)
        assert asyncio.run(learn(again)) == "done"
        turns = [turn for one in queries.stored_episodes(store, "r1", range(1, 3)) for turn in one.episode.turns]
        assert {turn.policy_version for turn in turns if turn.token_ids} == {0, 1}
        again.gate.close()
        again.engine.close()
