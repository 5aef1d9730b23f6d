"""The embedded engine: continuous batching over slots, on the trainer's own tensors.

Sequences own their generators, so what one samples does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sparring.agents.engine import Completion, Request, Weights
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sparring.training.policy import Policy

    from .decode import Decoder
    from .generic import Generic


class TransformersEngine:
    """Samples from a Hugging Face model in this process, sharing the trainer's tensors (no copy, no sync).

    Log-probs are nats of the whole distribution at the sampling temperature; the stop token is kept with its log-prob.
    """

    class Config(BaseModel):
        """``slots``: sequences decoded at once."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        slots: int = Field(default=64, ge=1, le=1024)

    name = "transformers"

    def __init__(self, model: Any, stop_ids: Sequence[int], config: Config | None = None) -> None:
        from sparring.training.lora import Adapters

        self.config = config or self.Config()
        self.adapters = Adapters.of(model)
        self.decoder, self.note = decoder_for(model)
        self.stop_ids = frozenset(stop_ids)
        self.policy_version = 0
        self.sampled_tokens = 0

    @classmethod
    def serve(cls, config: Config, policy: Policy) -> TransformersEngine:
        """The engine for the shared policy."""
        return cls(policy.model, policy.renderer.stop_ids, config)

    async def load(self, version: int, weights: Weights) -> None:
        """Take the number: the tensors are the trainer's own, so the weights are in already."""
        self.policy_version = version

    def close(self) -> None:
        """Nothing to give back."""

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order."""
        return self.sample(requests)

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """The same without awaiting: decode until every request has stopped or spent its budget."""
        import torch

        if not requests:
            return []
        longest = self._longest(requests)
        found: dict[int, Completion] = {}
        for adapter in dict.fromkeys(request.adapter for request in requests):
            places = [index for index, request in enumerate(requests) if request.adapter == adapter]
            self._speak_with(adapter)
            with torch.inference_mode():
                done = self._decode([requests[index] for index in places], longest)
            found |= {places[index]: completion for index, completion in done.items()}
        self.sampled_tokens += sum(len(done.token_ids) for done in found.values())
        return [found[index] for index in range(len(requests))]

    def complete(self, token_ids: Sequence[int], logprobs: Sequence[float]) -> Completion:
        """What a sequence that has ended is handed out as."""
        finish = Finish.STOP if token_ids[-1] in self.stop_ids else Finish.LENGTH
        return Completion(tuple(token_ids), tuple(logprobs), finish, self.policy_version, self.name)

    def _decode(self, requests: Sequence[Request], longest: int) -> dict[int, Completion]:
        from .generic import Generic
        from .waves import Wave, waves

        if isinstance(self.decoder, Generic):
            done: dict[int, Completion] = {}
            for places in waves(requests, self.config.slots):
                done |= Wave(self, self.decoder, requests, places).run()
            return done
        batch = _Batch(self, self.decoder, requests, longest)
        while batch.live or batch.waiting:
            batch.admit()
            batch.advance()
        return batch.done

    def _speak_with(self, adapter: str) -> None:
        if self.adapters is not None:
            self.adapters.use(adapter)
        elif adapter:
            raise EngineError(f"adapter {adapter!r} is asked for and the policy has none; set policy.lora")

    def _longest(self, requests: Sequence[Request]) -> int:
        """Tokens the longest request may grow to; raises ``EngineError`` for a request that cannot be served."""
        for request in requests:
            drawn = request.sampling
            if (drawn.top_p, drawn.top_k, drawn.min_p) != (None, None, None):
                raise EngineError(
                    f"role {request.tag!r}: the embedded engine draws from the whole distribution; "
                    "remove top_p, top_k and min_p from its sampling"
                )
            if not request.prompt_ids:
                raise EngineError(f"role {request.tag!r}: its prompt holds no token, so there is nothing to go on from")
        longest = max(len(request.prompt_ids) + request.sampling.max_tokens for request in requests)
        if longest > self.decoder.max_length:
            raise EngineError(
                f"a prompt plus its budget is {longest} tokens; the model reads {self.decoder.max_length}. "
                "Lower sampling.max_tokens or shorten the prompt"
            )
        return longest


@dataclass(slots=True)
class _Sequence:
    """One request while it is being decoded: ``lead`` is its slot's position less the batch's clock, which is fixed."""

    index: int
    lead: int


class _Batch:
    """The slots of one ``sample`` call. Row s of every tensor belongs to ``live[s]``; free rows idle at position 0.

    What is drawn stays on the device until its sequence ends; a step asks it only which sequences have ended.
    """

    def __init__(self, engine: TransformersEngine, decoder: Decoder, requests: Sequence[Request], longest: int) -> None:
        import torch

        from .decode import Cache

        self.engine, self.decoder, self.requests = engine, decoder, requests
        self.waiting = deque(range(len(requests)))
        self.live: dict[int, _Sequence] = {}
        self.done: dict[int, Completion] = {}
        width, device = min(engine.config.slots, len(requests)), decoder.device
        budget = max(request.sampling.max_tokens for request in requests)
        self.width = width
        self.free = list(range(width))
        self.cache = Cache(decoder, width, longest)
        self.last_S = torch.zeros(width, dtype=torch.long, device=device)
        self.position_S = torch.zeros(width, dtype=torch.long, device=device)
        self.drawn_S = torch.zeros(width, dtype=torch.long, device=device)
        self.limit_S = torch.ones(width, dtype=torch.long, device=device)
        self.live_S = torch.zeros(width, dtype=torch.bool, device=device)
        self.temperature_S = torch.ones(width, device=device)
        self.uniform_ST = torch.zeros((width, budget), dtype=torch.float64, device=device)
        self.token_ST = torch.zeros((width, budget), dtype=torch.int32, device=device)
        self.logprob_ST = torch.zeros((width, budget), device=device)
        self.stop_V: Tensor | None = None
        self.greedy = any(request.sampling.temperature <= 0 for request in requests)
        self.clock = 0

    def admit(self) -> None:
        """Fill free slots once an eighth of them is free; siblings with one prompt share its prefill."""
        import torch

        if not self.waiting or len(self.free) < max(1, self.width // 8):
            return
        chosen = [self.waiting.popleft() for _ in range(min(len(self.free), len(self.waiting)))]
        slots, self.free = self.free[: len(chosen)], self.free[len(chosen) :]
        unique = {prompt: row for row, prompt in enumerate(dict.fromkeys(self._prompt(index) for index in chosen))}
        device = self.decoder.device
        lengths = torch.tensor([len(prompt) for prompt in unique])
        ids = torch.zeros((len(unique), int(lengths.max())), dtype=torch.long)
        for prompt, row in unique.items():
            ids[row, : len(prompt)] = torch.tensor(prompt)
        logits, fresh = self.decoder.prefill(ids.to(device), lengths.to(device))
        row_S = torch.tensor([unique[self._prompt(index)] for index in chosen], device=device)
        slot_S = torch.tensor(slots, device=device)
        self.cache.copy_from(fresh, row_S, slot_S)
        self.position_S[slot_S] = lengths.to(device)[row_S]
        self._seat(chosen, slots)
        self._draw(logits[row_S], slot_S)

    def _prompt(self, index: int) -> tuple[int, ...]:
        return self.requests[index].prompt_ids

    def _seat(self, chosen: list[int], slots: list[int]) -> None:
        """Give each slot its request: temperature, and every uniform it will ever draw, from its own generator."""
        import torch

        for slot, index in zip(slots, chosen, strict=True):
            request = self.requests[index]
            limit = request.sampling.max_tokens
            self.live[slot] = _Sequence(index, len(request.prompt_ids) - self.clock)
            self.uniform_ST[slot, :limit] = torch.from_numpy(uniforms(request))
            self.temperature_S[slot] = request.sampling.temperature
            self.limit_S[slot] = limit
        self.drawn_S[slots] = 0
        self.live_S[slots] = True

    def advance(self) -> None:
        """One token for every live slot."""
        if not self.live:
            return
        longest = self.clock + max(sequence.lead for sequence in self.live.values()) + 1
        logits = self.decoder.step(self.last_S, self.position_S, self.cache, longest)
        self.clock += 1
        self.position_S += self.live_S
        self._draw(logits, None)

    def _draw(self, logits_SV: Tensor, slot_S: Tensor | None) -> None:
        """Sample one token for these slots (all when ``None``) from their own uniforms, then retire the finished."""
        import torch

        if self.stop_V is None:
            stops = [token for token in self.engine.stop_ids if token < logits_SV.shape[-1]]
            self.stop_V = torch.zeros(logits_SV.shape[-1], dtype=torch.bool, device=logits_SV.device)
            self.stop_V[stops] = True
        where_S = torch.arange(self.width, device=logits_SV.device) if slot_S is None else slot_S
        drawn_S = self.drawn_S[where_S]
        uniform_S = self.uniform_ST[where_S, drawn_S]
        token_S, logprob_S = choose(logits_SV, self.temperature_S[where_S], uniform_S, self.greedy)
        self.token_ST[where_S, drawn_S] = token_S.int()
        self.logprob_ST[where_S, drawn_S] = logprob_S
        live_S = self.live_S[where_S]
        drawn_S += live_S
        self.last_S[where_S], self.drawn_S[where_S] = token_S, drawn_S
        ended_S = (self.stop_V[token_S] | (drawn_S >= self.limit_S[where_S])) & live_S
        self._retire(where_S[ended_S])

    def _retire(self, slot_S: Tensor) -> None:
        """Hand out what these slots have said and free them; they idle at position 0."""
        slots = slot_S.tolist()
        if not slots:
            return
        counts, token_ST, logprob_ST = self.drawn_S[slot_S].tolist(), self.token_ST[slot_S], self.logprob_ST[slot_S]
        for slot, count, token_T, logprob_T in zip(slots, counts, token_ST, logprob_ST, strict=True):
            index = self.live.pop(slot).index
            self.done[index] = self.engine.complete(token_T[:count].tolist(), logprob_T[:count].tolist())
        self.free += slots
        self.live_S[slot_S] = False
        self.position_S[slot_S], self.drawn_S[slot_S] = 0, 0
        if not self.waiting and self.live and len(self.live) <= self.width // 2:
            self._shrink()

    def _shrink(self) -> None:
        """Nothing waits and half the slots idle: go on with the live ones alone."""
        import torch

        slots = sorted(self.live)
        keep = torch.tensor(slots, device=self.position_S.device)
        self.cache.keep(keep)
        for name, value in vars(self).items():
            if name.endswith(("_S", "_ST")):
                setattr(self, name, value[keep])
        self.live = {row: self.live[slot] for row, slot in enumerate(slots)}
        self.width, self.free = len(slots), []


def decoder_for(model: Any) -> tuple[Decoder | Generic, str]:
    """The fastest decoder that agrees with the model on a probe, and what to know of it ("" for the fused one).

    Raises ``EngineError`` when none does.
    """
    from .decode import FAMILIES, Decoder
    from .generic import Generic

    family = model.config.model_type
    why = f"the fused decoder covers {', '.join(FAMILIES)}"
    if family in FAMILIES:
        fused = Decoder(model)
        try:
            fused.verify(_tolerance(fused.dtype))
            return fused, ""
        except EngineError as error:
            why = str(error)
    generic = Generic(model)
    generic.verify(_tolerance(generic.dtype))
    how = "with its own cache" if generic.cached else "reading everything again for each token"
    return generic, f"{family} is decoded by its own forward pass {how}, which is slower: {why}"


def _tolerance(dtype: torch.dtype) -> float:
    return 1e-4 if dtype.itemsize >= 4 else 0.25


def uniforms(request: Request) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Every number in [0, 1) the request will ever draw, from its own generator."""
    return np.random.Generator(np.random.Philox(request.seed)).random(request.sampling.max_tokens)


def choose(logits_SV: Tensor, temperature_S: Tensor, uniform_S: Tensor, greedy: bool = True) -> tuple[Tensor, Tensor]:
    """Tokens (S,) by inverse distribution function and their log-probs (S,) in nats; temperature 0 is greedy.

    ``greedy`` says whether any temperature may be 0.
    """
    import torch

    scale = torch.where(temperature_S <= 0, 1.0, temperature_S) if greedy else temperature_S
    logprob_SV = torch.log_softmax(logits_SV.float() / scale[:, None], dim=-1)
    mass_SV = logprob_SV.exp().cumsum(-1)
    level_S = uniform_S.to(mass_SV.dtype).clamp(max=1 - 1e-7) * mass_SV[:, -1]
    token_S = torch.searchsorted(mass_SV, level_S[:, None], right=True)[:, 0].clamp(max=logits_SV.shape[-1] - 1)
    if greedy:
        token_S = torch.where(temperature_S <= 0, logits_SV.argmax(-1), token_S)
    return token_S, logprob_SV.gather(-1, token_S[:, None])[:, 0]
