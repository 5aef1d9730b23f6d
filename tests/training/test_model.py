"""What the learner reads off a model is what the model itself says, for any family, chunk, layout and weight type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from sparring.scenarios.errors import EngineError
from sparring.training import attention
from sparring.training.batch import Layout, collate
from sparring.training.head import PLAIN, Against, Final, Vocabulary, read
from sparring.training.model import Model, Scores
from sparring.training.policy import checkpoint_layers
from sparring.training.rows import Row

CPU = torch.device("cpu")
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 128,
    "pad_token_id": 299, "bos_token_id": 1, "eos_token_id": 260,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 8, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 8, "sliding_window": 6},
    "gemma3_text": {"head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 5.0},
    "mistral": {"sliding_window": 6},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16},
    "phi": {},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 3.0},
    "bloom": {"n_layer": 2, "n_head": 4},
    "mamba": {"state_size": 4},
}


def make(family: str, **more: Any) -> Any:
    """A model of this family whose next-token distributions are far from uniform, biases and norms included."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **{**SHAPE, **FAMILIES[family], **more})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(4.0) if weight.dim() > 1 else weight.add_(0.1 * torch.randn(weight.shape))
    return model


def some_rows(temperature: float = 0.8) -> list[Row]:
    """Rows of 9, 14 and 5 tokens: context first, an untrained token in the midst, the last one trained."""
    rows = []
    for length in (9, 14, 5):
        ids = [(at * 31 + length * 7) % 250 for at in range(length)]
        share = [0.0, 0.0] + [1.0] * (length - 2)
        share[length // 2] = 0.0
        rows.append(Row("solver", ids, share, temperature=temperature))
    return rows


def plainly(module: Any, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies of the trained tokens from the model's own logits, row by row."""
    logprobs, entropies = [], []
    for row in rows:
        logits = module(input_ids=torch.tensor([row.token_ids]), use_cache=False).logits[0].float()
        logp = torch.log_softmax(logits[:-1] / row.temperature, -1)
        at = torch.tensor(row.trained) - 1
        logprobs.append(logp[at, torch.tensor(row.token_ids)[at + 1]])
        entropies.append(-(logp.exp() * logp).sum(-1)[at])
    return torch.cat(logprobs), torch.cat(entropies)


def score(model: Model, rows: Sequence[Row], layout: Layout = "padded", **more: Any) -> Scores:
    return model.score(collate(rows, CPU, layout), **more)


def gradient(module: Any, value: torch.Tensor) -> torch.Tensor:
    module.zero_grad()
    value.backward()
    grads = [weight.grad for weight in module.parameters() if weight.grad is not None]
    return torch.cat([grad.float().flatten() for grad in grads])


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read_as_it_reads_itself(family: str) -> None:
    module = make(family)
    rows = some_rows()
    logprob_N, entropy_N = plainly(module, rows)
    expected = gradient(module, logprob_N.sum() + 0.3 * entropy_N.sum())
    model = Model(module)
    assert model.probe.final is not None, model.probe.why
    found = score(model, rows, entropy=True)
    assert found.logprob_N.detach().numpy() == pytest.approx(logprob_N.detach().numpy(), abs=2e-5)
    assert found.entropy_N.detach().numpy() == pytest.approx(entropy_N.detach().numpy(), abs=2e-5)
    assert apart(gradient(module, found.logprob_N.sum() + 0.3 * found.entropy_N.sum()), expected) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_never_see_each_other(family: str) -> None:
    module = make(family)
    model, rows = Model(module), some_rows()
    if not model.probe.packed:
        assert family in ("bloom", "mamba") and "packed rows" in model.probe.why
        with pytest.raises(EngineError, match="packed rows exactly"):
            Model(module, layout="packed")
        return
    apart_N, together_N = score(model, rows).logprob_N, score(model, rows, "packed").logprob_N
    assert together_N.detach().numpy() == pytest.approx(apart_N.detach().numpy(), abs=1e-5)
    first_of_second = len(rows[0].trained)
    assert float((together_N - apart_N)[first_of_second].detach().abs()) < 1e-5
    assert apart(gradient(module, together_N.sum()), gradient(module, apart_N.sum())) < 1e-5


def test_packed_equals_unpacked_to_a_millionth(model: Any) -> None:
    policy, rows = Model(model), some_rows()
    with torch.no_grad():
        gap_N = score(policy, rows).logprob_N - score(policy, rows, "packed").logprob_N
    assert float(gap_N.abs().max()) < 1e-6 * 20  # log-probs here reach -20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "final"), [
    ("gemma2", Final(1.0, 30.0)), ("cohere", Final(0.25)), ("granite", Final(1 / 3.0)), ("llama", PLAIN),
])  # fmt: skip
def test_a_last_word_is_found_where_logits_are_too_small_to_show_it(
    family: str, final: Final, dtype: torch.dtype
) -> None:
    module = make(family)
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(0.05) if weight.dim() > 1 else None
    assert Model(module.to(dtype)).probe.final == final


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the variable-length kernel needs a GPU")
@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gpt2"])
def test_packed_rows_go_through_the_kernel_on_a_gpu(family: str) -> None:
    more = {"head_dim": 16} if family == "qwen3" else {}
    module = make(family, **more).to("cuda", torch.bfloat16)
    assert attention.route("cuda", torch.bfloat16) in ("varlen", "flash")
    model, rows = Model(module), some_rows()
    assert model.layout == "packed" and model.probe.packed == "bounds"
    logs = [model.score(collate(rows, model.device, layout)).logprob_N for layout in ("padded", "packed")]
    assert float((logs[0] - logs[1]).abs().max()) < 0.1
    assert apart(gradient(module, logs[1].sum()), gradient(module, logs[0].sum())) < 0.05


def test_a_last_word_nobody_knows_leaves_the_models_own_logits(model: Any) -> None:
    """Whatever the model does to its logits, what is trained is what it says."""
    own = model.forward

    def shifted(*args: Any, **more: Any) -> Any:
        out = own(*args, **more)
        out.logits = out.logits**3 / 50
        return out

    model.forward = shifted
    policy, rows = Model(model), some_rows()
    assert policy.probe.final is None and "all its logits are made" in policy.probe.why
    found, expected = score(policy, rows).logprob_N, plainly(model, rows)[0]
    assert found.detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-5)
    with pytest.raises(EngineError, match="shows only its logits"):
        Model(model, heads=["value"]).score(collate(rows, CPU), heads=["value"])


def test_heads_read_the_state_a_token_was_drawn_from(model: Any) -> None:
    policy, rows = Model(model, heads=["value"]), some_rows()
    with torch.no_grad():
        for weight in policy.heads.parameters():
            torch.nn.init.normal_(weight)
        value_N = score(policy, rows, "packed", heads=["value"]).heads["value"]
        found = torch.split(value_N, [len(row.trained) for row in rows])
        states = model.model(input_ids=torch.tensor([rows[1].token_ids])).last_hidden_state[0]
        expected = policy.heads["value"](states[torch.tensor(rows[1].trained) - 1])[:, 0]
    assert found[1].numpy() == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_divergence_is_the_whole_sum_over_the_vocabulary(
    model: Any, new_model: Callable[..., Any], direction: Any
) -> None:
    other, rows = Model(new_model(3)), some_rows()
    policy = Model(model)
    found = score(policy, rows, against=other, divergence=direction).divergence_N
    assert found is not None
    logs = []
    for module in (model, other.module):
        logits = [module(input_ids=torch.tensor([row.token_ids])).logits[0] / row.temperature for row in rows]
        at = [torch.tensor(row.trained) - 1 for row in rows]
        logs.append(torch.cat([torch.log_softmax(one[where], -1) for one, where in zip(logits, at, strict=True)]))
    p, q = (logs[0], logs[1].detach())
    expected = (q.exp() * (q - p)).sum(-1) if direction == "forward" else (p.exp() * (p - q)).sum(-1)
    assert found.detach().numpy() == pytest.approx(expected.detach().numpy(), rel=1e-5, abs=1e-5)
    assert apart(gradient(model, found.sum()), gradient(model, expected.sum())) < 1e-5


def test_a_model_says_how_it_is_read(model: Any) -> None:
    assert Model(model).notes() == ["weights are float32", "rows are padded"]
    assert Model(model, layout="packed").notes()[1] == "rows are packed (rows)"
    told = Model(make("bloom").to(torch.bfloat16)).notes()
    assert told[0] == "weights are bfloat16, trained in float32 copies" and "BloomForCausalLM: packed rows" in told[2]


def test_another_vocabulary_is_refused(model: Any) -> None:
    with pytest.raises(EngineError, match="272 and 300 tokens cannot be compared"):
        score(Model(model), some_rows(), against=Model(make("llama")))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 13),
    chunk=st.integers(1, 400),
    final=st.sampled_from([PLAIN, Final(0.5), Final(1.0, 5.0), Final(3.0, 2.0)]),
    bias=st.booleans(),
    forward=st.booleans(),
    module=st.booleans(),
    seed=st.integers(0, 99),
)
def test_chunks_change_neither_value_nor_gradient(
    n: int, chunk: int, final: Final, bias: bool, forward: bool, module: bool, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)

    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=drawn, dtype=torch.float64).requires_grad_()

    hidden, weight, offset, other = tensor(n, 6), tensor(29, 6), tensor(29), tensor(n, 6)
    target = torch.randint(29, (n,), generator=drawn)
    temperature = torch.rand(n, generator=drawn) + 0.5
    pull = torch.randn((3, n), generator=drawn)
    leaves = [hidden, weight, *([offset] if bias else [])]
    vocabulary = Vocabulary(weight, offset if bias else None, final)
    if module:
        layer = torch.nn.functional.linear
        vocabulary = Vocabulary(weight, None, final, lambda x: layer(x, weight, offset if bias else None))
    teacher = Vocabulary(tensor(29, 6).detach())
    found = read(hidden, vocabulary, target, temperature, True, Against(other.detach(), teacher, forward), chunk)
    z = hidden @ weight.t() + (offset if bias else 0)
    z = z * final.scale
    z = final.cap * torch.tanh(z / final.cap) if final.cap else z
    p = torch.log_softmax(z / temperature[:, None], -1)
    q = torch.log_softmax(teacher.logits(other.detach()) / temperature[:, None], -1)
    apart_N = (q.exp() * (q - p)).sum(-1) if forward else (p.exp() * (p - q)).sum(-1)
    expected = (p[torch.arange(n), target], -(p.exp() * p).sum(-1), apart_N)
    assert found.divergence_N is not None
    columns = (found.logprob_N, found.entropy_N, found.divergence_N)
    for mine, theirs in zip(columns, expected, strict=True):
        assert mine.detach().numpy() == pytest.approx(theirs.detach().numpy(), rel=2e-6, abs=2e-6)
    mine_all = torch.autograd.grad(sum((a * b).sum() for a, b in zip(pull, columns, strict=True)), leaves)
    theirs_all = torch.autograd.grad(sum((a * b).sum() for a, b in zip(pull, expected, strict=True)), leaves)
    for mine, theirs in zip(mine_all, theirs_all, strict=True):
        assert mine.numpy() == pytest.approx(theirs.numpy(), rel=1e-5, abs=1e-5)


class Largest(TorchDispatchMode):
    """Records the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, torch.Tensor) and one.untyped_storage().nbytes() // one.element_size() == one.numel():
                self.most = max(self.most, one.numel())
        return out


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_tokens_by_vocabulary_never_exists(layout: Layout) -> None:
    vocabulary = 20_000
    model = Model(make("llama", vocab_size=vocabulary, num_hidden_layers=1))
    model.chunk = 8 * vocabulary
    rows = [Row("r", list(range(40)), [0.0] + [1.0] * 39) for _ in range(8)]
    table = vocabulary * 32
    with Largest() as seen:
        found = score(model, rows, layout, entropy=True, against=model)
        assert found.divergence_N is not None
        (found.logprob_N.sum() + found.entropy_N.sum() + found.divergence_N.sum()).backward()
    assert seen.most == table  # the embedding's own gradient; 312 tokens x 20,000 would be ten times that
    model.chunk = 0
    with Largest() as seen:
        score(model, rows, layout)
    assert seen.most == 312 * vocabulary  # what fits one chunk is made at once: the measure bites


def kept(model: Model, rows: Sequence[Row], layout: Layout) -> tuple[torch.Tensor, int]:
    """The gradient, and how many numbers were kept for it."""
    sizes: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total = score(model, rows, layout).logprob_N.sum()
    return gradient(model.module, total), sum(sizes)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_checkpointing_changes_only_memory(model: Any, layout: Layout) -> None:
    plain, many = kept(Model(model), some_rows(), layout)
    checkpoint_layers(model)
    again, few = kept(Model(model), some_rows(), layout)
    assert apart(again, plain) < 1e-6 and few < 0.6 * many
    assert not any(layer.training for layer in model.modules())  # else decoding would lose its cache
