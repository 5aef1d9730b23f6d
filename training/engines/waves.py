"""Requests in waves: prompts of one length start together and each goes on until it stops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sparring.agents.engine import Completion, Request

from .embedded import choose, uniforms

if TYPE_CHECKING:
    from .embedded import TransformersEngine
    from .generic import Generic


def waves(requests: Sequence[Request], slots: int) -> Iterator[list[int]]:
    """Places of at most ``slots`` requests whose prompts have one length; budgets of like size together."""
    order = sorted(
        range(len(requests)), key=lambda at: (len(requests[at].prompt_ids), requests[at].sampling.max_tokens, at)
    )
    wave: list[int] = []
    for at in order:
        if wave and (len(wave) == slots or len(requests[at].prompt_ids) != len(requests[wave[0]].prompt_ids)):
            yield wave
            wave = []
        wave.append(at)
    if wave:
        yield wave


class Wave:
    """One wave while it is decoded; rows that have ended are dropped."""

    def __init__(
        self, engine: TransformersEngine, decoder: Generic, requests: Sequence[Request], places: Sequence[int]
    ) -> None:
        self.engine, self.decoder, self.requests = engine, decoder, requests
        self.places = list(places)
        self.token_ids: dict[int, list[int]] = {place: [] for place in places}
        self.logprobs: dict[int, list[float]] = {place: [] for place in places}
        self.uniforms = {place: uniforms(requests[place]) for place in places}

    def run(self) -> dict[int, Completion]:
        """Completions by place; siblings with one prompt share its reading."""
        device = self.decoder.device
        unique = {prompt: row for row, prompt in enumerate(dict.fromkeys(self._prompt(place) for place in self.places))}
        logits = self.decoder.open(torch.tensor(list(unique), device=device))
        row_S = torch.tensor([unique[self._prompt(place)] for place in self.places], device=device)
        self.decoder.keep(row_S)
        logits = logits[row_S]
        done: dict[int, Completion] = {}
        while True:
            token_S = self._draw(logits)
            going = [row for row, place in enumerate(self.places) if not self._ended(place)]
            for place in self.places:
                if self._ended(place):
                    done[place] = self.engine.complete(self.token_ids[place], self.logprobs[place])
            if not going:
                return done
            if len(going) < len(self.places):
                self.places = [self.places[row] for row in going]
                keep_S = torch.tensor(going, device=device)
                self.decoder.keep(keep_S)
                token_S = token_S[keep_S]
            logits = self.decoder.step(token_S)

    def _prompt(self, place: int) -> tuple[int, ...]:
        return self.requests[place].prompt_ids

    def _draw(self, logits_SV: torch.Tensor) -> torch.Tensor:
        device = logits_SV.device
        temperature = [self.requests[place].sampling.temperature for place in self.places]
        level = np.array([self.uniforms[place][len(self.token_ids[place])] for place in self.places])
        token_S, logprob_S = choose(
            logits_SV, torch.tensor(temperature, device=device), torch.from_numpy(level).to(device)
        )
        for place, token, logprob in zip(self.places, token_S.tolist(), logprob_S.tolist(), strict=True):
            self.token_ids[place].append(token)
            self.logprobs[place].append(logprob)
        return token_S

    def _ended(self, place: int) -> bool:
        said = self.token_ids[place]
        return said[-1] in self.engine.stop_ids or len(said) >= self.requests[place].sampling.max_tokens
