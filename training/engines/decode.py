"""A forward pass for decoding that reads the trainer's own tensors: no weight copy, no sync, static key-value slots.

Covers the Llama block family (Llama, Mistral, Qwen2, Qwen3: rotary positions, gated MLP, RMS norms, optional biases and
query-key norms). ``Decoder.verify`` compares it with the model's own forward before it is trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.scenarios.errors import EngineError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # of a layer, its queries, keys and values
FIXED_ANGLES = ("default", "linear", "llama3", "yarn")  # rotations that depend on the position alone


class Joined:
    """Linear layers over one input as one product. Calling it gives what they give, side by side: (..., sum of O).

    Plain layers are laid out in one storage: each layer's ``weight`` (and ``bias``) becomes a row slice of one matrix,
    which this object reads. The parameters stay the trainer's: what an optimiser, ``load_state_dict`` or anything else
    writes in place is in the matrix, and there is no second copy. A second ``Joined`` over the same layers finds the
    matrix and shares it. Layers with adapters, hooks or sharded weights are called one by one; so are, from then on,
    layers that are replaced, hooked or given other memory later (``model.to``).
    """

    def __init__(self, parent: Any, names: Sequence[str]) -> None:
        self.parent, self.names = parent, tuple(names)
        layers = [getattr(parent, name) for name in names]
        biased = {getattr(layer, "bias", None) is not None for layer in layers}
        self._whole: dict[str, Tensor] = {}
        if len(biased) == 1 and all(_plain(layer) for layer in layers):
            parts = ("weight", "bias") if biased.pop() else ("weight",)
            found = {part: _adjoin([getattr(layer, part) for layer in layers]) for part in parts}
            if None not in found.values():
                self._whole = {part: whole for part, whole in found.items() if whole is not None}

    @property
    def one(self) -> bool:
        """Whether the layers are plain ones and their parameters the slices of one matrix, now."""
        layers = [self.parent._modules.get(name) for name in self.names]
        return (
            bool(self._whole)
            and all(_plain(layer) for layer in layers)
            and all(
                _in_place(whole, [layer._parameters.get(part) for layer in layers])
                for part, whole in self._whole.items()
            )
        )

    def __call__(self, x: Tensor) -> Tensor:
        if self.one:
            return F.linear(x, self._whole["weight"], self._whole.get("bias"))
        return torch.cat([getattr(self.parent, name)(x) for name in self.names], dim=-1)


def _plain(layer: Any) -> bool:
    """A linear layer of torch's own whose call does nothing but its product."""
    if type(layer) is not torch.nn.Linear:
        return False
    return not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


def _adjoin(parts: Sequence[Tensor]) -> Tensor | None:
    """The tensor whose slices along the first axis ``parts`` are, made so if need be; ``None`` where that cannot be."""
    first = parts[0]
    alike = {(type(part), part.dtype, part.device, part.shape[1:]) for part in parts}
    if len(alike) > 1 or type(first) is not torch.nn.Parameter or not all(part.is_contiguous() for part in parts):
        return None
    rows = [part.shape[0] for part in parts]
    with torch.inference_mode(False), torch.no_grad():
        if first.untyped_storage().nbytes() - first.storage_offset() * first.element_size() >= sum(
            part.numel() * part.element_size() for part in parts
        ):
            whole = first.detach().as_strided((sum(rows), *first.shape[1:]), first.stride())
            if _in_place(whole, parts):
                return whole
        whole = torch.cat([part.detach() for part in parts])
        for part, piece in zip(parts, torch.split(whole, rows), strict=True):
            part.data = piece
    return whole


def _in_place(whole: Tensor, parts: Sequence[Tensor | None]) -> bool:
    at = whole.data_ptr()
    for part in parts:
        if type(part) is not torch.nn.Parameter or part.dtype != whole.dtype or part.data_ptr() != at:
            return False
        at += part.numel() * part.element_size()
    return True


class Cache:
    """Keys and values of ``slots`` sequences, each up to ``length`` tokens: per layer two (S, H_kv, T, D) tensors.

    Where ``decoder.lean``, keys lie in memory as (S, H_kv, D, T), which is how a product with them is read fastest.
    It also holds what stays the same while the weights do: the angles, and the few weights of query-key norms.
    """

    def __init__(self, decoder: Decoder, slots: int, length: int) -> None:
        shape = (slots, decoder.kv_heads, length, decoder.head_dim)
        dtype, device = decoder.dtype, decoder.device
        self.flipped = decoder.lean = dtype == torch.float32 and device.type == "cpu"
        lying = (*shape[:2], *shape[:1:-1]) if self.flipped else shape
        keys = [torch.zeros(lying, dtype=dtype, device=device) for _ in decoder.layers]
        self.keys = [_flip(part, self.flipped) for part in keys]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in decoder.layers]
        self.angles, self.scales = decoder.table(length), decoder.scales()

    def first(self, slots: int) -> Cache:
        """A view of the first so many slots: what is written there is written here."""
        if slots == len(self.keys[0]):
            return self
        view = copy(self)
        view.keys, view.values = [part[:slots] for part in self.keys], [part[:slots] for part in self.values]
        return view

    def take(self, smaller: Cache) -> None:
        """Begin with the slots of a cache that has grown too small."""
        slots, _, length, _ = smaller.keys[0].shape
        for mine, theirs in ((self.keys, smaller.keys), (self.values, smaller.values)):
            for layer, tensor in enumerate(theirs):
                mine[layer][:slots, :, :length] = tensor

    def move(self, old_S: Tensor, new_S: Tensor, length: int) -> None:
        """Put the first ``length`` tokens of slots ``old_S`` where ``new_S`` were."""
        for part in (*self.keys, *self.values):
            part[new_S, :, :length] = part[old_S, :, :length]

    def renew(self, decoder: Decoder) -> None:
        """The weights have changed: so have those it holds, in the same memory."""
        for mine, theirs in zip(self.scales, decoder.scales(), strict=True):
            mine.copy_(theirs)

    def copy_from(self, other: Cache, rows_S: Tensor, slots_S: Tensor) -> None:
        """Fill ``slots_S`` with rows ``rows_S`` of ``other``: siblings share one prefill."""
        length = other.keys[0].shape[2]
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer, tensor in enumerate(theirs):
                mine[layer][slots_S, :, :length] = tensor[rows_S]


class Decoder:
    """Logits for new tokens given a ``Cache``. Reads the parameters of ``model``; never a copy.

    The query, key and value weights of a layer, and its gate and up weights, are made slices of one storage each
    (``Joined``): still the model's parameters, only adjacent. ``lean``, found whenever a cache is made, is on for
    float32 on a CPU, where a few plain operations beat the library's; elsewhere its kernels are used.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        if config.model_type not in FAMILIES:
            raise EngineError(
                f"the embedded engine cannot decode model type {config.model_type!r}; it covers {', '.join(FAMILIES)}"
            )
        self.model = model
        self.body = model.model
        self.layers = list(model.model.layers)
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.eps: float = config.rms_norm_eps
        self.floor = torch.tensor(self.eps)
        self.lean = False
        window = getattr(config, "sliding_window", None)  # up to its length, a window hides nothing
        self.max_length: int = min(config.max_position_embeddings, window or config.max_position_embeddings)
        self.qkv = [Joined(layer.self_attn, ("q_proj", "k_proj", "v_proj")) for layer in self.layers]
        self.gate_up = [Joined(layer.mlp, ("gate_proj", "up_proj")) for layer in self.layers]

    @property
    def dtype(self) -> torch.dtype:
        """Of the embedding table, hence of the whole pass."""
        weight: Tensor = self.body.embed_tokens.weight
        return weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the trainer's tensors live."""
        weight: Tensor = self.body.embed_tokens.weight
        return weight.device

    def table(self, length: int) -> tuple[Tensor, Tensor] | None:
        """Cosines and signed sines (T, D) of every position; ``None`` for angles that also depend on the length."""
        if getattr(self.body.rotary_emb, "rope_type", None) not in FIXED_ANGLES:
            return None
        cos, sin = self._turns(torch.arange(length, device=self.device)[None])
        return cos[0], sin[0]

    def scales(self) -> list[Tensor]:
        """The weights (H + H_kv, D) of every layer's query and key norms, head by head; none where it has none."""
        found = [layer.self_attn for layer in self.layers if hasattr(layer.self_attn, "q_norm")]
        sizes = (self.heads, 1), (self.kv_heads, 1)
        pairs = [(attention.q_norm.weight, attention.k_norm.weight) for attention in found]
        return [torch.cat([part.repeat(size) for part, size in zip(pair, sizes, strict=True)]) for pair in pairs]

    def prefill(self, ids_ST: Tensor, lengths_S: Tensor) -> tuple[Tensor, Cache]:
        """Read right-padded prompts (S, T) at once; logits (S, V) after each prompt's last token, and the cache."""
        rows, width = ids_ST.shape
        cache = Cache(self, 0, width)
        grouped = self.heads != self.kv_heads

        def attend(index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            query = query.transpose(1, 2)
            key, value = key.transpose(1, 2).contiguous(), value.transpose(1, 2).contiguous()  # or queries stay alive
            cache.keys[index], cache.values[index] = key, value
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
            return mixed.transpose(1, 2).flatten(2)

        positions_ST = torch.arange(width, device=ids_ST.device).expand(rows, width)
        hidden = self._blocks(ids_ST, positions_ST, cache, attend)
        return self._logits(hidden[torch.arange(rows, device=ids_ST.device), lengths_S - 1]), cache

    def step(self, ids_S: Tensor, positions_S: Tensor, cache: Cache, longest: int) -> Tensor:
        """Append one token to every slot at its own position; ``longest`` bounds positions + 1. Logits (S, V)."""
        slots = torch.arange(ids_S.shape[0], device=ids_S.device)
        seen = torch.arange(longest, device=ids_S.device) <= positions_S[:, None]
        mask = torch.where(seen, 0.0, float("-inf")).to(self.dtype)[:, None, None]

        def attend(index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            cache.keys[index][slots, :, positions_S] = key
            cache.values[index][slots, :, positions_S] = value
            return self._look(query, cache.keys[index][:, :, :longest], cache.values[index][:, :, :longest], mask)

        return self._logits(self._blocks(ids_S, positions_S, cache, attend))

    def verify(self, tolerance: float = 1e-4) -> float:
        """Largest log-prob gap to the model's own forward on a probe; ``EngineError`` above ``tolerance``."""
        vocab = int(self.model.config.vocab_size)
        ids = (torch.arange(24, device=self.device) * 37 % min(vocab, 250)).view(2, 12)
        with torch.inference_mode():
            theirs = torch.log_softmax(self.model(input_ids=ids, use_cache=False).logits.float(), -1)
            first, cache = self.prefill(ids[:, :6], torch.tensor([6, 6], device=self.device))
            grown = Cache(self, 2, 12)
            rows = torch.arange(2, device=self.device)
            grown.copy_from(cache, rows, rows)
            gap = (torch.log_softmax(first.float(), -1) - theirs[:, 5]).abs().max()
            for at in range(6, 12):
                mine = self.step(ids[:, at], torch.full((2,), at, device=self.device), grown, at + 1)
                gap = torch.maximum(gap, (torch.log_softmax(mine.float(), -1) - theirs[:, at]).abs().max())
        if not float(gap) <= tolerance:
            raise EngineError(
                f"the embedded engine disagrees with {type(self.model).__name__} by {float(gap):.2e} nats on a probe; "
                f"allowed {tolerance:.0e}. This variant of the architecture is not covered"
            )
        return float(gap)

    def _blocks(self, ids: Tensor, positions: Tensor, cache: Cache, attend: Attend) -> Tensor:
        """Hidden states (..., hidden) of ids (...): (S, T) of prompts or (S,) of one new token each."""
        hidden = F.embedding(ids, self.body.embed_tokens.weight)
        cos, sin = self._turns(positions) if cache.angles is None else (table[positions] for table in cache.angles)
        cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
        turned, shape = self.heads + self.kv_heads, (*ids.shape, self.heads + 2 * self.kv_heads, self.head_dim)
        for index, layer in enumerate(self.layers):
            heads = self.qkv[index](self._norm(hidden, layer.input_layernorm.weight)).view(shape)
            both, value = torch.split(heads, [turned, self.kv_heads], dim=-2)
            if cache.scales:
                both = self._norm(both, cache.scales[index])
            both = torch.addcmul(both * cos, both.roll(self.head_dim // 2, -1), sin)
            query, key = torch.split(both, [self.heads, self.kv_heads], dim=-2)
            hidden += layer.self_attn.o_proj(attend(index, query, key, value))
            gate, up = self.gate_up[index](self._norm(hidden, layer.post_attention_layernorm.weight)).chunk(2, dim=-1)
            hidden += layer.mlp.down_proj(F.silu(gate).mul_(up))
        return hidden

    def _turns(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines (..., D), and sines whose first half is negative: what the rotated-half form multiplies with."""
        cos, sin = self.body.rotary_emb(self.body.embed_tokens.weight, positions.reshape(len(positions), -1))
        half = self.head_dim // 2
        signed = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        return cos.view(*positions.shape, -1), signed.view(*positions.shape, -1)

    def _look(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """What one new token (S, H, D) takes from its slot's keys and values (S, H_kv, T, D): (S, H * D).

        The query heads that share a key head are folded into the query length, so no key is repeated.
        """
        folded = query.reshape(len(query), self.kv_heads, self.heads // self.kv_heads, self.head_dim)
        if not self.lean:
            return F.scaled_dot_product_attention(folded, key, value, attn_mask=mask).flatten(1)
        score = torch.bmm(folded.flatten(0, 1), key.flatten(0, 1).transpose(1, 2)).view(*folded.shape[:3], -1)
        share = torch.add(mask, score, alpha=self.head_dim**-0.5).softmax(-1)
        return torch.bmm(share.flatten(0, 1), value.flatten(0, 1)).view(len(query), -1)

    def _norm(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Root-mean-square norm over the last axis; ``weight`` may differ from head to head."""
        width = hidden.shape[-1]
        if self.lean:
            length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
            return (hidden * torch.addcmul(self.floor, length, length, value=1 / width).rsqrt_()).mul_(weight)
        if weight.dim() == 1:
            return F.rms_norm(hidden, (width,), weight, self.eps)
        return F.rms_norm(hidden, (width,), None, self.eps) * weight

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.model.lm_head(self._norm(hidden, self.body.norm.weight))
        return logits


def _flip(keys: Tensor, flipped: bool) -> Tensor:
    return keys.transpose(2, 3) if flipped else keys
