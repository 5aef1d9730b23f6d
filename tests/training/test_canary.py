"""The canary hears every way in which an engine can serve other weights than those that are trained."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from sparring.agents.engine import Completion, Weights
from sparring.scenarios.errors import TrainingStopped
from sparring.scenarios.registry import engines
from sparring.scenarios.schema import CanarySpec, LoraSpec
from sparring.storage import queries
from sparring.storage.store import Store
from sparring.training.canary import Canary
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.engines.render import ChatRenderer
from sparring.training.lora import adapt
from sparring.training.policy import Policy

Run = Callable[..., Any]
New = Callable[..., Any]


@dataclass
class Live:
    """The weights of a model in this process."""

    module: Any
    adapters: tuple[str, ...] = ()

    def save(self, version: int) -> Path:
        raise NotImplementedError  # nothing here reads folders


class Apart(TransformersEngine):
    """An engine over a copy of the policy. ``forgets``: what its weight update leaves out, from version 1 on."""

    forgets = ""

    @classmethod
    def serve(cls, config: Any, policy: Policy) -> Apart:
        return cls(copy.deepcopy(policy.model), policy.renderer.stop_ids, config)

    async def load(self, version: int, weights: Weights) -> None:
        late = version >= 1
        held = dict(self.decoder.model.named_parameters())
        with torch.no_grad():
            for name, weight in weights.module.named_parameters():
                if not (late and self.forgets and self.forgets in name):
                    held[name].copy_(weight)
        if not (late and self.forgets == "version"):
            self.policy_version = version


class Forgetful(Apart):
    forgets = "layers.1.mlp.down_proj"


class Uncounted(Apart):
    forgets = "version"


engines("apart")(Apart)
engines("forgetful")(Forgetful)
engines("uncounted")(Uncounted)


def checked(engine: Any, weights: Any, renderer: ChatRenderer, folder: Path, version: int = 1) -> dict[str, Any]:
    canary = Canary(CanarySpec(), renderer, 0)
    return asyncio.run(canary.check(engine, weights, version, folder))


def test_every_single_tensor_that_differs_is_heard(new_model: New, renderer: ChatRenderer, tmp_path: Path) -> None:
    policy, unheard = new_model(), []
    for name, _ in policy.named_parameters():
        other = copy.deepcopy(policy)
        weight = other.get_parameter(name)
        drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            weight.add_(0.05 * weight.norm() * drawn / drawn.norm())
        engine = TransformersEngine(other, renderer.stop_ids)
        engine.policy_version = 1
        try:
            checked(engine, Live(policy), renderer, tmp_path)
            unheard.append(name)
        except TrainingStopped:
            pass
    assert unheard == []


def test_equal_weights_differ_by_rounding_alone(new_model: New, renderer: ChatRenderer, tmp_path: Path) -> None:
    engine = TransformersEngine(new_model(), renderer.stop_ids)
    engine.policy_version = 7
    found = checked(engine, Live(new_model()), renderer, tmp_path, version=7)
    assert 0 <= found["canary/gap"] <= found["canary/worst"] < 1e-5
    assert not list(tmp_path.iterdir())


def test_one_adapter_that_did_not_arrive_is_named(new_model: New, renderer: ChatRenderer, tmp_path: Path) -> None:
    policy = new_model()
    adapt(policy, LoraSpec(rank=2), ["critic"])
    served = copy.deepcopy(policy)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name)))
                weight.add_(drawn, alpha=0.05)
                if ".default." in name:  # the policy's own arrives, the critic's does not
                    served.get_parameter(name).copy_(weight)
    engine = TransformersEngine(served, renderer.stop_ids)
    engine.policy_version = 1
    with pytest.raises(TrainingStopped, match="with adapter 'critic' its log-probs differ"):
        checked(engine, Live(policy, ("", "critic")), renderer, tmp_path)


def test_an_engine_that_gives_no_logprobs_is_refused(new_model: New, renderer: ChatRenderer, tmp_path: Path) -> None:
    class Silent(TransformersEngine):
        async def generate(self, requests: Any) -> list[Completion]:
            done = await super().generate(requests)
            return [Completion(one.token_ids, (float("nan"),) * len(one.token_ids), one.finish, 1) for one in done]

    with pytest.raises(TrainingStopped, match="differ from the trainer's by inf nats"):
        checked(Silent(new_model(), renderer.stop_ids), Live(new_model()), renderer, tmp_path)


def test_a_right_copy_trains_as_the_shared_tensors_do(run: Run, unbroken: Any) -> None:
    apart = run("b", "engine.kind=apart")
    assert apart.status == "done" and apart.weights == unbroken.weights
    assert all(told.figures["canary/gap"] < 1e-5 for told in apart.told)


@pytest.mark.parametrize(("kind", "problem"), [("forgetful", "log-probs differ"), ("uncounted", "version 0 is speak")])
def test_a_run_stops_at_the_step_whose_weights_did_not_arrive(
    run: Run, tmp_path: Path, kind: str, problem: str
) -> None:
    with pytest.raises(TrainingStopped, match=rf"policy version 1: .*{problem}.*sparring resume"):
        run("run", f"engine.kind={kind}")
    with Store(tmp_path / "run" / "sparring.db") as store:
        assert [step.step for step in queries.steps(store, "r1")] == [0]
    (evidence,) = (tmp_path / "run").rglob("canary-v000001.json")
    told = json.loads(evidence.read_text())
    assert len(told["probes"]) == 4 and len(told["tokens"]) >= 4


def test_the_canary_speaks_every_so_often_or_never(run: Run) -> None:
    often = run("a", "canary.every=2")
    assert ["canary/gap" in told.figures for told in often.told] == [True, False, True, False]
    never = run("b", "canary.every=0", "engine.kind=uncounted")
    assert never.status == "done" and not any("canary/gap" in told.figures for told in never.told)
