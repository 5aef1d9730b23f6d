"""vLLM inside this program: exact, in sync, told apart to the token, and a whole run of the quickstart through it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest

from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError
from sparring.scenarios.schema import LoraSpec
from sparring.storage.queries import select_rows
from sparring.storage.store import Store
from sparring.training.engines.vllm import VllmEngine, installed
from sparring.training.lora import adapt
from sparring.training.policy import Policy

from .conftest import FIGURES, SMALL, Live, asks, gaps, mean, measured, new_policy, shift, told_apart

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(installed() is None, reason="vLLM is not in this environment: make test-vllm makes one"),
    pytest.mark.filterwarnings("default"),  # vLLM's own modules warn while they are imported
]
EXACT = 1e-5  # nats, float32
CANARY = """select json_extract(metrics, '$."canary/gap"') from v_steps"""
RUN = (sys.executable, "-m", "sparring", "run", "quickstart", "-s", "engine.kind=vllm")
LORA = LoraSpec(rank=8, alpha=16.0)


@pytest.fixture(scope="module")
def held() -> Iterator[tuple[VllmEngine, Policy]]:
    """One engine and its policy for the tests of this file."""
    os.environ.update(SMALL)
    policy = new_policy()
    with measured("inside: start"):
        engine = VllmEngine.serve(VllmEngine.Config(max_num_seqs=32), policy)
    assert isinstance(engine, VllmEngine)
    yield engine, policy
    engine.close()
    engine.close()  # twice is once


def test_log_probs_are_the_trainer_s_before_and_after_an_update(
    held: tuple[VllmEngine, Policy], tmp_path: Path
) -> None:
    engine, policy = held
    live, requests = Live(policy, tmp_path), asks(16, temperature=1.3)
    said = asyncio.run(engine.generate(requests))
    assert mean(gaps(policy.model, requests, said)) < EXACT
    shift(policy.model)
    stale = asyncio.run(engine.generate(requests))  # another event loop
    assert mean(gaps(policy.model, requests, stale)) > 1e-2
    with measured("inside: reload of all weights, saving included"):
        asyncio.run(engine.load(1, live))
    fresh = asyncio.run(engine.generate(requests))
    assert mean(gaps(policy.model, requests, fresh)) < EXACT and {done.policy_version for done in fresh} == {1}


def test_new_weights_in_mid_generation_are_told_apart_to_the_token(
    held: tuple[VllmEngine, Policy], tmp_path: Path
) -> None:
    engine, policy = held
    stops, engine.stop_ids = engine.stop_ids, ()
    found = asyncio.run(told_apart(engine, Live(policy, tmp_path)))
    engine.stop_ids = stops
    FIGURES["inside: worst mean gap of a span, weights changed in mid-generation"] = (
        f"{max(map(fmean, found)):.2g} nats"
    )
    assert max(map(fmean, found)) < EXACT


def test_a_full_context_and_an_unknown_adapter(held: tuple[VllmEngine, Policy]) -> None:
    engine, _ = held
    one = asks(1)[0]
    full = type(one)((40,) * 1024, one.sampling, 1)
    assert asyncio.run(engine.generate([full]))[0].finish is Finish.CONTEXT
    with pytest.raises(EngineError, match=r"policy\.lora"):
        asyncio.run(engine.generate(asks(1, adapter="critic")))


def test_adapters_follow_their_versions_and_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    policy = new_policy()
    adapt(policy.model, LORA, ["critic"])
    engine = VllmEngine.serve(VllmEngine.Config(max_num_seqs=16), policy)
    assert isinstance(engine, VllmEngine)
    live, requests = Live(policy, tmp_path, ("", "critic")), [*asks(4), *asks(4, adapter="critic")]
    try:
        for version in (1, 2, 3):
            shift(policy.model, 1.3)
            asyncio.run(engine.load(version, live))
            said = asyncio.run(engine.generate(requests))
            assert mean(gaps(policy.model, requests, said)) < EXACT
            assert {done.policy_version for done in said} == {version}
        with pytest.raises(EngineError, match="nowhere"):
            asyncio.run(engine.load(4, _Nowhere(policy, tmp_path, ("",))))
    finally:
        engine.close()


class _Nowhere(Live):
    def save(self, version: int) -> Path:
        return self.root / "nowhere"


def test_the_quickstart_learns_through_vllm(tmp_path: Path) -> None:
    done = subprocess.run(
        RUN, cwd=tmp_path, env=os.environ | SMALL | {"PYTHONSAFEPATH": "1"}, capture_output=True, timeout=280
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()[-3000:]
    told = re.search(r"held-out accuracy ([0-9.]+) -> ([0-9.]+)", done.stdout.decode())
    assert told is not None, done.stdout.decode()[-3000:]
    FIGURES["quickstart through vLLM: held-out accuracy before, after"] = f"{told[1]}, {told[2]}"
    assert float(told[2]) > float(told[1]) + 0.1  # from 0.53 to 0.85 where it was measured
    with Store(f"sqlite:///{tmp_path / 'sparring.db'}") as store:
        heard = [gap for (gap,) in select_rows(store, CANARY).rows]
    FIGURES["quickstart through vLLM: worst mean gap of 13 canaries"] = f"{max(heard):.2g} nats"
    assert len(heard) == 13 and max(heard) < EXACT


def test_ctrl_c_reaches_vllm_s_processes_too_and_the_step_is_finished_all_the_same(tmp_path: Path) -> None:
    command = [*RUN, "-s", "evaluation.every=0"]
    told = tmp_path / "told.txt"
    with told.open("wb") as out:
        run = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | SMALL | {"PYTHONSAFEPATH": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while run.poll() is None and "step 1/12" not in told.read_text():
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        assert run.wait(60) == 130, told.read_text()[-3000:]
    finally:
        run.kill()
    assert "is stopped after step" in told.read_text()
