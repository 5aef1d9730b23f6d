"""Decoding for models the fused decoder does not know: their own forward pass, in waves of prompts of one length.

Exact for any causal model, since nothing is padded; slower, since a wave lasts as long as its longest answer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparring.scenarios.errors import EngineError

LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
UNBOUNDED = 1 << 20  # for models that name no longest input


class Generic:
    """The model's own forward as a decoder. ``cached`` is off where its cache is of no use: all is read again then."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.cached = True
        config = model.config.get_text_config()
        longest = [getattr(config, name, None) for name in LENGTHS]
        self.max_length = int(next((n for n in longest if isinstance(n, int) and n > 0), UNBOUNDED))

    @property
    def dtype(self) -> torch.dtype:
        """Of the embedding table."""
        found: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return found

    @property
    def device(self) -> torch.device:
        """Where the trainer's tensors live."""
        found: torch.device = self.model.get_input_embeddings().weight.device
        return found

    def open(self, ids_ST: Tensor) -> tuple[Tensor, Reading]:
        """Read prompts (S, T) of one length; logits (S, V) after the last token of each, and what reads on."""
        reading = Reading(self, ids_ST)
        return reading.read(ids_ST), reading

    def verify(self, tolerance: float = 1e-4) -> float:
        """Largest log-prob gap to a whole forward on a probe, with a cache if it can be used, else without.

        Raises ``EngineError`` above ``tolerance``: the model is not causal, or not the same twice.
        """
        why = ""
        for cached in (True, False):
            self.cached = cached
            try:
                gap = self._gap()
            except (AttributeError, TypeError, ValueError, RuntimeError, IndexError, NotImplementedError) as error:
                gap, why = float("inf"), f" ({error})"
            if gap <= tolerance:
                return gap
        raise EngineError(
            f"{type(self.model).__name__} cannot be decoded: token by token it differs from a whole pass by "
            f"{gap:.2e} nats on a probe; allowed {tolerance:.0e}{why}"
        )

    def _gap(self) -> float:
        size = min(int(self.model.config.get_text_config().vocab_size), 250)
        ids = torch.arange(24, device=self.device).view(2, 12) * 37 % size
        with torch.inference_mode():
            whole = torch.log_softmax(self.model(input_ids=ids, use_cache=False).logits.float(), -1)
            first = torch.log_softmax(self.open(ids[:1, :6])[0].float(), -1)
            gap = (first - whole[:1, 5]).abs().max()
            _, reading = self.open(ids[:, :6])
            reading.keep(torch.tensor([1, 0, 1], device=self.device))
            for at in range(6, 12):
                mine = torch.log_softmax(reading.step(ids[[1, 0, 1], at]).float(), -1)
                gap = torch.maximum(gap, (mine - whole[[1, 0, 1], at]).abs().max())
        return float(gap) if bool(gap == gap) else float("inf")


class Reading:
    """The rows of one wave as far as the model has read them."""

    def __init__(self, decoder: Generic, ids_ST: Tensor) -> None:
        self.decoder, self._ids_ST = decoder, ids_ST
        self._cache: Any = None

    def step(self, token_S: Tensor) -> Tensor:
        """Append one token to every row; logits (S, V)."""
        self._ids_ST = torch.cat((self._ids_ST, token_S[:, None]), 1)
        return self.read(token_S[:, None] if self.decoder.cached else self._ids_ST)

    def keep(self, row_S: Tensor) -> None:
        """Go on with these rows, in this order; a row may be named several times."""
        self._ids_ST = self._ids_ST[row_S]
        if self.decoder.cached:
            self._cache.batch_select_indices(row_S)

    def read(self, ids_ST: Tensor) -> Tensor:
        """Logits (S, V) after the last of these tokens."""
        cached = self.decoder.cached
        more = {"use_cache": True, "past_key_values": self._cache} if cached else {"use_cache": False}
        out = self.decoder.model(input_ids=ids_ST, **more)
        if cached:
            self._cache = out.past_key_values
        logits: Tensor = out.logits[:, -1]
        return logits
