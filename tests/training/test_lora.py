"""Adapters: only they are trained, each by its own rows; the base under them is the reference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sparring.agents.engine import Request
from sparring.scenarios.errors import EngineError
from sparring.scenarios.schema import LoraSpec, OptimizerSpec, PolicySpec, Sampling, TrainingSpec
from sparring.training import checkpoint
from sparring.training.batch import collate
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.learner import Learner
from sparring.training.losses.presets import Reinforce
from sparring.training.model import Model
from sparring.training.policy import load_policy
from sparring.training.rows import Row
from sparring.training.tiny import build_tokenizer

pytest.importorskip("peft", reason="adapters need the extra `lora`")
from sparring.training.lora import adapt

CPU = torch.device("cpu")
New = Callable[..., Any]
LOSSES: dict[str, Any] = {"policy": Reinforce()}
Rows = Callable[..., Row]


def adapted(module: Any, names: Sequence[str] = (), **more: Any) -> Model:
    adapt(module, LoraSpec(rank=4, alpha=8.0, **more), names)
    return Model(module)


def shaken(model: Model, seed: int = 0) -> Model:
    """The adapters' second halves, which start as zeros, made to matter."""
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.module.named_parameters():
            if ".lora_B." in name:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=drawn))
    return model


def logprobs(model: Model, adapter: str = "") -> torch.Tensor:
    row = Row("r", [5, 9, 200, 13, 77, 31], [0.0] + [1.0] * 5, adapter=adapter)
    with torch.no_grad():
        return model.score(collate([row], CPU)).logprob_N


def test_fresh_adapters_change_nothing_and_the_base_is_frozen(new_model: New) -> None:
    plain = logprobs(Model(new_model()))
    model = adapted(new_model(), ["critic"])
    assert torch.equal(logprobs(model), plain) and torch.equal(logprobs(model, "critic"), plain)
    trained = [name for name, weight in model.module.named_parameters() if weight.requires_grad]
    assert trained and all(".lora_" in name for name in trained)
    assert not any("lm_head" in name for name in trained)


def test_only_the_rows_adapter_moves(new_model: New, row: Rows) -> None:
    model = adapted(new_model(), ["critic", "teacher"])
    learner = Learner(model, LOSSES, TrainingSpec(optimizer=OptimizerSpec(lr=0.01)))
    base = logprobs(model.reference())
    one = row(3, 5, 1.0)
    learner.step([Row(one.role, one.token_ids, one.coefficient_T, one.streams, adapter="critic")])
    assert torch.equal(logprobs(model), base) and torch.equal(logprobs(model, "teacher"), base)
    assert not torch.equal(logprobs(model, "critic"), base)
    learner.step([one])
    assert not torch.equal(logprobs(model), base) and torch.equal(logprobs(model, "teacher"), base)


def test_the_reference_is_the_base_and_costs_no_copy(new_model: New) -> None:
    plain = logprobs(Model(new_model()))
    model = shaken(adapted(new_model()))
    reference = model.reference()
    assert reference.module is model.module
    assert torch.equal(logprobs(reference), plain) and not torch.equal(logprobs(model), plain)
    assert all(weight.requires_grad for weight in model.parameters())  # also after the adapters were off


def test_a_copy_is_the_reference_of_full_weights(model: Any) -> None:
    policy = Model(model)
    reference = policy.reference()
    before = logprobs(reference)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    assert torch.equal(logprobs(reference), before) and not torch.equal(logprobs(policy), before)
    assert not reference.weights()


def test_the_gradient_is_that_of_the_merged_weights(new_model: New) -> None:
    """One step of an adapter is judged against the same low-rank change made by hand."""
    model = shaken(adapted(new_model(), modules=("q_proj",)))
    plain = new_model()
    with torch.no_grad():
        for layer, other in zip(model.module.model.layers, plain.model.layers, strict=True):
            q = layer.self_attn.q_proj
            change = q.lora_B["default"].weight @ q.lora_A["default"].weight * (8.0 / 4)
            other.self_attn.q_proj.weight.add_(change)
    assert logprobs(model).numpy() == pytest.approx(logprobs(Model(plain)).numpy(), abs=1e-4)


def test_a_missing_module_is_named_with_its_nearest(model: Any) -> None:
    with pytest.raises(EngineError, match=r"no linear layer 'q_porj'; the nearest are q_proj"):
        adapt(model, LoraSpec(modules=("q_porj", "k_proj")))


def test_an_unknown_adapter_is_named(new_model: New) -> None:
    with pytest.raises(EngineError, match="adapter 'critc' is unknown; the policy has default, critic"):
        logprobs(adapted(new_model(), ["critic"]), "critc")


def test_the_engine_speaks_with_each_requests_adapter(new_model: New) -> None:
    model = shaken(adapted(new_model(), ["critic"]))
    engine = TransformersEngine(model.module, [260])
    sampling = Sampling(max_tokens=6)
    asked = [Request((5, 9, 200), sampling, seed, "r", adapter) for seed in range(6) for adapter in ("", "critic")]
    for one, done in zip(asked, engine.sample(asked), strict=True):
        said = len(done.token_ids)
        ids = [*one.prompt_ids, *done.token_ids]
        row = Row("r", ids, [0.0] * 3 + [1.0] * said, adapter=one.adapter)
        with torch.no_grad():
            found = model.score(collate([row], CPU)).logprob_N.tolist()
        assert list(done.logprobs) == pytest.approx(found, abs=1e-4)
    apart = [done.logprobs[0] for done in engine.sample(asked[:2])]
    assert apart[0] != apart[1]
    with pytest.raises(EngineError, match="adapter 'judge' is unknown"):
        engine.sample([Request((5,), sampling, 0, "r", "judge")])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_of_adapters_goes_on_and_peft_loads_it(
    folder: Path, row: Rows, tmp_path: Path, dtype: Any
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    spec = PolicySpec(model=str(folder), dtype=dtype, lora=LoraSpec(rank=4, alpha=8.0))
    runs = []
    for _ in range(2):
        policy = load_policy(spec, folder, adapters=["critic"])
        settings = TrainingSpec(optimizer=OptimizerSpec(lr=0.01))
        runs.append(Learner(Model(policy.model), LOSSES, settings))
    first, second = runs
    one = row(3, 5, 1.0)
    critic = Row(one.role, one.token_ids, one.coefficient_T, one.streams, adapter="critic")
    first.step([one, critic])
    saved = checkpoint.write(tmp_path / "step-1", first.model, build_tokenizer(), first.optimizer, {})
    checkpoint.read(Path(saved.path), saved.sha, second.model, second.optimizer)
    for learner in runs:
        learner.step([critic, one])
    assert checkpoint.weights_sha(first.model) == checkpoint.weights_sha(second.model)
    checkpoint.read(Path(saved.path), saved.sha, second.model, second.optimizer)
    for where, adapter in ((tmp_path / "step-1", ""), (tmp_path / "step-1" / "critic", "critic")):
        base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")  # PEFT's, about transformers
        loaded: Any = PeftModel.from_pretrained(base, where, adapter_name=adapter or "default")
        loaded.set_adapter(adapter or "default")
        ids = torch.tensor([[5, 9, 200, 13, 77, 31]])
        with torch.no_grad():
            logp = loaded(ids).logits[0].float().log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
        assert logp.numpy() == pytest.approx(
            logprobs(second.model, adapter).numpy(), abs=1e-5 if dtype == "float32" else 0.05
        )
    assert not (tmp_path / "step-1" / "model.safetensors").exists()


def test_conv_layers_of_gpt2_carry_adapters_too() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    module: Any = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=300)).eval()
    plain = logprobs(Model(module))
    model = adapted(module)
    assert logprobs(model).numpy() == pytest.approx(plain.numpy(), abs=1e-6)
    assert not torch.equal(logprobs(shaken(model)), plain)
