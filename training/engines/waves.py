"""Requests in waves: prompts of one length start together, and the next wave starts once all of them have stopped."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from .generic import Generic, Reading
from .slots import Answer, choose


@dataclass
class _Wave:
    """Rows of one reading: ticket and answer of each, and the tokens (S,) that it has not read yet."""

    rows: list[tuple[int, Answer]]
    reading: Reading
    token_S: Tensor


class Waves:
    """A batch of the generic decoder (``slots.Batch``); rows that have ended are dropped."""

    def __init__(self, decoder: Generic, stop_ids: Collection[int], limit: int) -> None:
        self.decoder, self.stop_ids, self.limit = decoder, stop_ids, limit
        self.waiting: dict[int, Answer] = {}
        self._wave: _Wave | None = None
        self._dropped: set[int] = set()

    @property
    def busy(self) -> bool:
        """Whether anything is decoded or waits to be."""
        return bool(self.waiting) or self._wave is not None

    def put(self, ticket: int, answer: Answer) -> None:
        """Have it wait for a wave."""
        self.waiting[ticket] = answer

    def drop(self, tickets: Collection[int]) -> None:
        """Forget these; rows of a running wave leave it with the next token."""
        for ticket in tickets:
            self.waiting.pop(ticket, None)
        if self._wave is not None:
            self._dropped |= {ticket for ticket, _ in self._wave.rows if ticket in tickets}

    def renew(self, version: int) -> None:
        """The weights have changed; what has been read stays as the old ones read it."""
        for _, answer in [*self.waiting.items(), *(self._wave.rows if self._wave else ())]:
            answer.renew(version)

    def advance(self) -> list[tuple[int, Answer]]:
        """Start a wave if none runs, draw a token for each of its rows, and hand out who has ended."""
        if self._wave is not None:  # read only now: what is drawn next is said by the weights as they are now
            self._leave(self._wave, self._dropped)
        if self._wave is not None:
            wave, logits = self._wave, self._wave.reading.step(self._wave.token_S)
        elif self.waiting:
            wave, logits = self._open()
        else:
            return []
        self._wave = wave
        ended = self._draw(wave, logits)
        self._leave(wave, {ticket for ticket, _ in ended})
        return ended

    def _leave(self, wave: _Wave, gone: Collection[int]) -> None:
        """Go on without these rows."""
        self._dropped = set()
        going = [at for at, (ticket, _) in enumerate(wave.rows) if ticket not in gone]
        if not going:
            self._wave = None
        elif len(going) < len(wave.rows):
            keep_S = torch.tensor(going, device=self.decoder.device)
            wave.rows = [wave.rows[at] for at in going]
            wave.token_S = wave.token_S[keep_S]
            wave.reading.keep(keep_S)

    def _open(self) -> tuple[_Wave, Tensor]:
        """Read the prompts of who waits longest, and of others of that length; siblings share one reading."""
        length = len(next(iter(self.waiting.values())).request.prompt_ids)
        alike = [(ticket, one) for ticket, one in self.waiting.items() if len(one.request.prompt_ids) == length]
        rows = alike[: self.limit]
        for ticket, _ in rows:
            del self.waiting[ticket]
        prompts = [answer.request.prompt_ids for _, answer in rows]
        unique = {prompt: at for at, prompt in enumerate(dict.fromkeys(prompts))}
        ids_ST = torch.tensor(list(unique), device=self.decoder.device)
        logits, reading = self.decoder.open(ids_ST)
        row_S = torch.tensor([unique[prompt] for prompt in prompts], device=self.decoder.device)
        reading.keep(row_S)
        return _Wave(rows, reading, ids_ST[row_S, -1]), logits[row_S]

    def _draw(self, wave: _Wave, logits_SV: Tensor) -> list[tuple[int, Answer]]:
        """One token for every row; who has ended with it."""
        device = self.decoder.device
        answers = [answer for _, answer in wave.rows]
        temperature = torch.tensor([one.request.sampling.temperature for one in answers], device=device)
        level = torch.tensor([one.level for one in answers], dtype=torch.float64, device=device)
        wave.token_S, logprob_S = choose(logits_SV, temperature, level)
        told = zip(wave.rows, wave.token_S.tolist(), logprob_S.tolist(), strict=True)
        return [row for row, token, logprob in told if row[1].add(token, logprob, self.stop_ids)]
