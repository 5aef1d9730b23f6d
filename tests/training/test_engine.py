"""The embedded engine samples from the model's own distribution, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sparring.agents.engine import Completion, Request
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError
from sparring.scenarios.schema import Sampling
from sparring.training.engines.decode import Decoder
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.engines.generic import Generic

END = 260
Fresh = Callable[..., torch.Tensor]


def request(seed: int, prompt: tuple[int, ...] = (), tokens: int = 12, temperature: float = 1.0) -> Request:
    prompt = prompt or tuple((seed * 13 + 5 * at) % 250 for at in range(3 + seed % 7))
    return Request(prompt, Sampling(max_tokens=tokens, temperature=temperature), seed)


def with_slots(model: Any, slots: int) -> TransformersEngine:
    return TransformersEngine(model, [END], TransformersEngine.Config(slots=slots))


def assert_same(left: list[Completion], right: list[Completion]) -> None:
    assert [done.token_ids for done in left] == [done.token_ids for done in right]
    for one, other in zip(left, right, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
def test_log_probs_equal_a_fresh_forward(engine: Any, model: Any, fresh: Fresh, temperature: float) -> None:
    requests = [request(seed, temperature=temperature) for seed in range(20)]
    for asked, done in zip(requests, engine.sample(requests), strict=True):
        drawn_from = fresh(model, asked.prompt_ids + done.token_ids, temperature)[len(asked.prompt_ids) :]
        expected = drawn_from.gather(1, torch.tensor(done.token_ids)[:, None])[:, 0].tolist()
        assert done.logprobs == pytest.approx(expected, abs=1e-5)


def test_the_whole_distribution_equals_a_fresh_forward(engine: Any, model: Any, fresh: Fresh) -> None:
    prompts = [(1, 2, 3), (4,), (9, 8, 7, 6, 5, 4)]
    ids = torch.zeros((3, 6), dtype=torch.long)
    for at, prompt in enumerate(prompts):
        ids[at, : len(prompt)] = torch.tensor(prompt)
    with torch.inference_mode():
        logits, _ = engine.decoder.prefill(ids, torch.tensor([len(prompt) for prompt in prompts]))
    for at, prompt in enumerate(prompts):
        torch.testing.assert_close(logits[at].log_softmax(-1), fresh(model, (*prompt, 0))[-1], atol=1e-5, rtol=0)


def test_every_family_is_decoded_exactly() -> None:
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    shape: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 300, "initializer_range": 0.2,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models: list[Any] = [
            LlamaForCausalLM(LlamaConfig(**shape, attention_bias=True)),
            MistralForCausalLM(MistralConfig(**shape, sliding_window=100)),
            Qwen2ForCausalLM(Qwen2Config(**shape)),
        ]
    for model in models:
        assert with_slots(model.eval(), 2).decoder.verify(1e-5) <= 1e-5
    over = with_slots(models[1], 2).sample([request(0, tokens=100)])[0]  # beyond its window a model would forget
    assert len(request(0).prompt_ids) + len(over.token_ids) <= 100


def test_what_else_is_in_the_batch_changes_nothing(model: Any) -> None:
    requests = [request(seed) for seed in range(9)]
    alone = [with_slots(model, 4).sample([one])[0] for one in requests]
    assert_same(with_slots(model, 64).sample(requests), alone)
    assert_same(with_slots(model, 64).sample(requests[::-1])[::-1], alone)


@pytest.mark.parametrize("slots", [1, 2, 5, 16])
def test_slots_are_refilled_until_all_requests_are_done(model: Any, slots: int) -> None:
    requests = [request(seed, tokens=3 + seed % 9) for seed in range(23)]
    done = with_slots(model, slots).sample(requests)
    assert_same(done, with_slots(model, 64).sample(requests))
    assert all(len(one.token_ids) <= 3 + seed % 9 for seed, one in enumerate(done))


def test_a_stop_token_is_kept_and_a_spent_budget_has_none(engine: Any) -> None:
    done = engine.sample([request(seed) for seed in range(60)])
    stopped = [one for one in done if one.finish is Finish.STOP]
    cut = [one for one in done if one.finish is Finish.LENGTH]
    assert stopped and cut and len(stopped) + len(cut) == 60
    assert all(one.token_ids[-1] == END and END not in one.token_ids[:-1] for one in stopped)
    assert all(len(one.token_ids) == 12 and END not in one.token_ids for one in cut)


def test_any_of_several_stop_tokens_ends_a_turn(model: Any) -> None:
    stops = set(range(100))
    done = TransformersEngine(model, sorted(stops)).sample([request(seed, tokens=40) for seed in range(20)])
    assert {one.token_ids[-1] for one in done if one.finish is Finish.STOP} - {END}
    assert all(not stops & set(one.token_ids[:-1]) for one in done)


def test_temperature_zero_takes_the_likeliest_token(engine: Any, model: Any, fresh: Fresh) -> None:
    asked = [request(seed, temperature=0.0) for seed in range(4)] + [request(9)]
    for one, done in zip(asked[:4], engine.sample(asked), strict=False):
        likeliest = fresh(model, one.prompt_ids + done.token_ids)[len(one.prompt_ids) :].argmax(-1)
        assert list(done.token_ids) == likeliest.tolist()


def test_siblings_share_a_prompt_and_still_differ(engine: Any) -> None:
    siblings = [request(seed, prompt=(1, 2, 3)) for seed in range(8)]
    done = engine.sample(siblings)
    assert len({one.token_ids for one in done}) > 4
    assert_same(done, [engine.sample([one])[0] for one in siblings])


def test_one_seed_draws_one_completion(engine: Any) -> None:
    first, second = engine.sample([request(3, prompt=(1, 2, 3)), request(3, prompt=(1, 2, 3))])
    assert first == second


def test_first_tokens_follow_the_distribution(engine: Any, model: Any, fresh: Fresh) -> None:
    count = 6000
    done = engine.sample([request(seed, prompt=(1, 2, 3), tokens=1) for seed in range(count)])
    expected = fresh(model, (1, 2, 3, 0))[-1].exp().double() * count
    seen = torch.bincount(torch.tensor([one.token_ids[0] for one in done]), minlength=len(expected)).double()
    often = expected >= 5
    seen = torch.cat([seen[often], seen[~often].sum()[None]])
    expected = torch.cat([expected[often], expected[~often].sum()[None]])
    freedom = len(seen) - 1
    assert float(((seen - expected) ** 2 / expected).sum()) < freedom + 4 * (2 * freedom) ** 0.5


def test_new_weights_are_seen_at_once(engine: Any, model: Any, fresh: Fresh) -> None:
    before = engine.sample([request(1)])[0]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.ones_like(weight))
    after = engine.sample([request(1)])[0]
    drawn_from = fresh(model, request(1).prompt_ids + after.token_ids)[len(request(1).prompt_ids) :]
    expected = drawn_from.gather(1, torch.tensor(after.token_ids)[:, None])[:, 0].tolist()
    assert after.logprobs == pytest.approx(expected, abs=1e-5) and after.logprobs != before.logprobs


def assert_reads(engine: TransformersEngine, model: Any, fresh: Fresh) -> None:
    """What the engine says has the log-probs of the model's own forward as it is now."""
    asked = [request(seed) for seed in range(6)]
    for one, done in zip(asked, engine.sample(asked), strict=True):
        drawn_from = fresh(model, one.prompt_ids + done.token_ids)[len(one.prompt_ids) :]
        expected = drawn_from.gather(1, torch.tensor(done.token_ids)[:, None])[:, 0].tolist()
        assert done.logprobs == pytest.approx(expected, abs=1e-5)


def is_joined(engine: TransformersEngine) -> bool:
    assert isinstance(engine.decoder, Decoder)
    return all(joined.one for joined in (*engine.decoder.qkv, *engine.decoder.gate_up))


def test_joined_weights_are_the_parameters_an_optimiser_moves(engine: Any, model: Any, fresh: Fresh) -> None:
    before = engine.sample([request(1)])[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    model(input_ids=torch.arange(20)[None], use_cache=False).logits.logsumexp(-1).mean().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    optimizer.step()
    assert is_joined(engine) and engine.sample([request(1)])[0].logprobs != before.logprobs
    assert_reads(engine, model, fresh)


def test_joined_weights_are_saved_and_loaded_as_ever(
    new_model: Callable[..., Any], fresh: Fresh, tmp_path: Any
) -> None:
    model, other = new_model(0), new_model(1)
    untouched, engine = new_model(1).state_dict(), with_slots(model, 4)
    with_slots(other, 4).decoder.model.save_pretrained(tmp_path)
    loaded = type(other).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in untouched.items())
    model.load_state_dict(loaded)
    assert is_joined(engine)
    assert_reads(engine, model, fresh)
    assert_same(engine.sample([request(3)]), with_slots(new_model(1), 4).sample([request(3)]))


def test_two_engines_on_one_model_share_its_joined_weights(model: Any) -> None:
    weights = {name: id(weight) for name, weight in model.named_parameters()}
    first, second = with_slots(model, 4), with_slots(model, 8)
    assert is_joined(first) and is_joined(second)
    assert {name: id(weight) for name, weight in model.named_parameters()} == weights
    attention = model.model.layers[0].self_attn
    storages = {getattr(attention, name).weight.untyped_storage().data_ptr() for name in ("q_proj", "k_proj", "v_proj")}
    assert len(storages) == 1


def test_a_parameter_put_elsewhere_is_noticed(engine: Any, model: Any, fresh: Fresh) -> None:
    layers = model.model.layers
    layers[0].self_attn.k_proj.weight.data = layers[0].self_attn.k_proj.weight.detach() * 0.5
    layers[1].mlp.up_proj.weight = torch.nn.Parameter(layers[1].mlp.up_proj.weight.detach() * 2.0)
    assert not is_joined(engine)
    assert_reads(engine, model, fresh)


def test_a_layer_that_does_more_than_its_product_is_called(model: Any, fresh: Fresh) -> None:
    model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda layer, seen, out: out * 1.5)
    engine = with_slots(model, 4)
    assert not is_joined(engine)
    assert_reads(engine, model, fresh)


def test_layers_replaced_or_hooked_later_are_called(engine: Any, model: Any, fresh: Fresh) -> None:
    first, second = model.model.layers
    first.self_attn.v_proj = torch.nn.Sequential(first.self_attn.v_proj, torch.nn.Hardtanh())  # as an adapter would be
    second.mlp.gate_proj.register_forward_hook(lambda layer, seen, out: out * 1.5)
    assert not engine.decoder.qkv[0].one and not engine.decoder.gate_up[1].one
    assert_reads(engine, model, fresh)


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float64, 1e-5), (torch.bfloat16, 0.25)])
def test_other_types_are_decoded_by_the_same_pass(model: Any, dtype: torch.dtype, gap: float) -> None:
    decoder = with_slots(model, 2).decoder
    model.to(dtype)
    assert isinstance(decoder, Decoder) and decoder.verify(gap) <= gap
    assert isinstance(with_slots(model, 2).decoder, Decoder)


def test_angles_that_depend_on_the_length_are_asked_for_anew(new_model: Callable[..., Any], fresh: Fresh) -> None:
    model, plain = new_model(), with_slots(new_model(), 4)
    model.model.rotary_emb.rope_type = "dynamic of another kind"
    engine = with_slots(model, 4)
    assert isinstance(engine.decoder, Decoder) and isinstance(plain.decoder, Decoder)
    assert engine.decoder.table(8) is None and plain.decoder.table(8) is not None
    assert_same(engine.sample([request(2)]), plain.sample([request(2)]))


def test_a_budget_is_cut_to_the_room_the_context_has(model: Any) -> None:
    engine = TransformersEngine(model, ())
    full, cut, own = engine.sample(
        [request(0, prompt=(1,) * length, tokens=tokens) for length, tokens in ((1024, 12), (1020, 12), (1020, 4))]
    )
    assert (full.finish, full.token_ids) == (Finish.CONTEXT, ())
    assert (cut.finish, len(cut.token_ids)) == (Finish.CONTEXT, 4)
    assert (own.finish, own.token_ids) == (Finish.LENGTH, cut.token_ids)


def test_an_empty_prompt_is_refused(engine: Any) -> None:
    with pytest.raises(EngineError, match="no token"):
        engine.sample([Request((), Sampling(), 0, "solver")])


def test_truncated_sampling_is_refused_rather_than_ignored(engine: Any) -> None:
    with pytest.raises(EngineError, match=r"'judge'.*top_p"):
        engine.sample([Request((1,), Sampling(top_p=0.9), 0, "judge")])


def test_no_requests_are_no_work(engine: Any) -> None:
    assert engine.sample([]) == []


def test_a_variant_of_the_block_is_noticed_and_decoded_by_itself(new_model: Callable[..., Any], fresh: Fresh) -> None:
    model = new_model()
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.ReLU()
    engine = with_slots(model, 2)
    assert "disagrees with Qwen3ForCausalLM" in engine.note and isinstance(engine.decoder, Generic)
    assert_exact(engine, model, fresh)


SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "pad_token_id": 299, "bos_token_id": 1, "eos_token_id": END,
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {},
    "gemma2": {"head_dim": 8, "sliding_window": 6},
    "cohere": {},
    "mixtral": {"num_local_experts": 4},
    "bloom": {"n_layer": 2, "n_head": 4},
    "mamba": {"state_size": 4},
    "rwkv": {},
}


def other_model(family: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **SHAPE, **OTHERS[family])
        model: Any = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(4.0)
    return model


def assert_exact(engine: TransformersEngine, model: Any, fresh: Fresh) -> None:
    """Log-probs are those of a fresh forward, and neither slots nor company change what is said."""
    requests = [request(seed, tokens=3 + seed % 6, temperature=0.8) for seed in range(9)]
    requests += [request(seed, prompt=(1, 2, 3)) for seed in range(3)]
    told = engine.sample(requests)
    for asked, done in zip(requests, told, strict=True):
        drawn_from = fresh(model, asked.prompt_ids + done.token_ids, asked.sampling.temperature)
        expected = drawn_from[len(asked.prompt_ids) :].gather(1, torch.tensor(done.token_ids)[:, None])[:, 0].tolist()
        assert done.logprobs == pytest.approx(expected, abs=1e-4)
        assert len(done.token_ids) <= asked.sampling.max_tokens
    assert_same(told, [engine.sample([one])[0] for one in requests])


@pytest.mark.parametrize("family", OTHERS)
def test_any_other_family_is_decoded_by_its_own_forward(family: str, fresh: Fresh) -> None:
    model = other_model(family)
    engine = with_slots(model, 4)
    assert isinstance(engine.decoder, Generic) and family in engine.note and "slower" in engine.note
    assert_exact(engine, model, fresh)


def test_a_model_that_looks_ahead_is_refused(model: Any) -> None:
    """What it says of a token depends on later ones, so it cannot be sampled from."""
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.ReLU()
    own = model.forward

    def ahead(*args: Any, **more: Any) -> Any:
        out = own(*args, **more)
        out.logits = out.logits + out.logits.mean(1, keepdim=True)
        return out

    model.forward = ahead
    with pytest.raises(EngineError, match="cannot be decoded"):
        with_slots(model, 2)


def test_an_adapter_the_policy_does_not_have_is_named(engine: Any) -> None:
    with pytest.raises(EngineError, match=r"adapter 'critic'.*policy\.lora"):
        engine.sample([Request((1,), Sampling(), 0, "critic", "critic")])
