"""A forward pass for decoding that reads the trainer's own tensors: no weight copy, no sync, static key-value slots.

Covers the Llama block family (Llama, Mistral, Qwen2, Qwen3: rotary positions, gated MLP, RMS norms, optional biases and
query-key norms). ``Decoder.verify`` compares it with the model's own forward before it is trusted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.scenarios.errors import EngineError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


class Cache:
    """Keys and values of ``slots`` sequences, each up to ``length`` tokens: per layer two (S, H_kv, T, D) tensors."""

    def __init__(self, decoder: Decoder, slots: int, length: int) -> None:
        shape = (slots, decoder.kv_heads, length, decoder.head_dim)
        self.keys = [torch.zeros(shape, dtype=decoder.dtype, device=decoder.device) for _ in decoder.layers]
        self.values = [torch.zeros(shape, dtype=decoder.dtype, device=decoder.device) for _ in decoder.layers]

    def keep(self, slots_S: Tensor) -> None:
        """Shrink to these slots, in this order."""
        self.keys = [keys[slots_S] for keys in self.keys]
        self.values = [values[slots_S] for values in self.values]

    def copy_from(self, other: Cache, rows_S: Tensor, slots_S: Tensor) -> None:
        """Fill ``slots_S`` with rows ``rows_S`` of ``other``: siblings share one prefill."""
        length = other.keys[0].shape[2]
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer, tensor in enumerate(theirs):
                mine[layer][slots_S, :, :length] = tensor[rows_S]


class Decoder:
    """Logits for new tokens given a ``Cache``. Holds references into ``model``; never a copy."""

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
        window = getattr(config, "sliding_window", None)  # up to its length, a window hides nothing
        self.max_length: int = min(config.max_position_embeddings, window or config.max_position_embeddings)

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

    def prefill(self, ids_ST: Tensor, lengths_S: Tensor) -> tuple[Tensor, Cache]:
        """Read right-padded prompts (S, T) at once; logits (S, V) after each prompt's last token, and the cache."""
        rows, width = ids_ST.shape
        cache = Cache(self, rows, width)
        positions_ST = torch.arange(width, device=ids_ST.device).expand(rows, width)
        hidden = self._blocks(ids_ST, positions_ST, cache, None, 0)
        last = hidden[torch.arange(rows, device=ids_ST.device), lengths_S - 1]
        return self._logits(last), cache

    def step(self, ids_S: Tensor, positions_S: Tensor, cache: Cache, longest: int) -> Tensor:
        """Append one token to every slot at its own position; ``longest`` bounds positions + 1. Logits (S, V)."""
        seen = torch.arange(longest, device=ids_S.device)[None, :] <= positions_S[:, None]
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=ids_S.device).masked_fill_(~seen, float("-inf"))
        hidden = self._blocks(ids_S[:, None], positions_S[:, None], cache, mask[:, None, None, :], longest)
        return self._logits(hidden[:, 0])

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

    def _blocks(self, ids_ST: Tensor, positions_ST: Tensor, cache: Cache, mask: Tensor | None, longest: int) -> Tensor:
        hidden = F.embedding(ids_ST, self.body.embed_tokens.weight)
        cos, sin = self.body.rotary_emb(hidden, positions_ST)
        cos, sin = cos[:, None], sin[:, None]
        slots = torch.arange(ids_ST.shape[0], device=ids_ST.device)
        for index, layer in enumerate(self.layers):
            normed = self._norm(hidden, layer.input_layernorm.weight)
            query, key, value = self._project(layer.self_attn, normed, cos, sin)
            if mask is None:
                cache.keys[index], cache.values[index] = key, value
            else:
                at = positions_ST[:, 0]
                cache.keys[index][slots, :, at] = key[:, :, 0]
                cache.values[index][slots, :, at] = value[:, :, 0]
                key, value = cache.keys[index][:, :, :longest], cache.values[index][:, :, :longest]
            mixed = self._attend(query, key, value, mask)
            hidden = hidden + layer.self_attn.o_proj(mixed)
            normed = self._norm(hidden, layer.post_attention_layernorm.weight)
            mlp = layer.mlp
            hidden = hidden + mlp.down_proj(F.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))
        return hidden

    def _project(self, attention: Any, normed: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, width, _ = normed.shape
        query = attention.q_proj(normed).view(rows, width, self.heads, self.head_dim)
        key = attention.k_proj(normed).view(rows, width, self.kv_heads, self.head_dim)
        value = attention.v_proj(normed).view(rows, width, self.kv_heads, self.head_dim)
        if hasattr(attention, "q_norm"):
            query, key = self._norm(query, attention.q_norm.weight), self._norm(key, attention.k_norm.weight)
        query, key = query.transpose(1, 2), key.transpose(1, 2)
        return _rotate(query, cos, sin), _rotate(key, cos, sin), value.transpose(1, 2)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        rows, _, width, _ = query.shape
        if mask is None:
            grouped = self.heads != self.kv_heads
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
            return mixed.transpose(1, 2).reshape(rows, width, self.heads * self.head_dim)
        # one new token: fold the query heads that share a key head into the query length, so no key is repeated
        folded = query.view(rows, self.kv_heads, self.heads // self.kv_heads, self.head_dim)
        mixed = F.scaled_dot_product_attention(folded, key, value, attn_mask=mask)
        return mixed.reshape(rows, 1, self.heads * self.head_dim)

    def _norm(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(hidden, (hidden.shape[-1],), weight, self.eps)

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.model.lm_head(self._norm(hidden, self.body.norm.weight))
        return logits


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin
