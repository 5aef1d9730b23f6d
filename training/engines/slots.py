"""The slots of the embedded engine: sequences that are decoded together, each at its own place in its own text.

Sequences own their generators, so what one samples does not depend on what else is in the batch. Calls that wait for
all of theirs are in ``embedded.py``, calls that join in mid-decode in ``stream.py``.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sparring.agents.engine import Completion, Request
from sparring.envs.types import Finish, Span

from .decode import Cache, Decoder
from .graphed import Graphed, Record, length_bucket


class Answer:
    """One request and what has been drawn for it so far. ``whole``: its budget was not cut by the model's context.

    ``told`` hears of every token as it is drawn.
    """

    def __init__(self, request: Request, whole: bool, version: int, told: Callable[[int], None] | None = None) -> None:
        self.request, self.whole, self.told = request, whole, told
        self.uniforms = array("d", uniforms(request).tobytes())
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.marks = [(version, 0)]  # which version speaks from which token on

    @property
    def length(self) -> int:
        """Tokens read and drawn."""
        return len(self.request.prompt_ids) + len(self.token_ids)

    @property
    def level(self) -> float:
        """The number in [0, 1) that decides the next token."""
        return self.uniforms[len(self.token_ids)]

    def add(self, token: int, logprob: float, stop_ids: Collection[int]) -> bool:
        """Take a token; whether it is the last."""
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        if self.told is not None:
            self.told(token)
        return token in stop_ids or len(self.token_ids) >= len(self.uniforms)

    def renew(self, version: int) -> None:
        """From the next token on, ``version`` speaks."""
        if self.marks[-1][1] == len(self.token_ids):
            self.marks.pop()
        self.marks.append((version, len(self.token_ids)))

    def complete(self, stop_ids: Collection[int], engine: str) -> Completion:
        """What it is handed out as once it has ended."""
        stopped = bool(self.token_ids) and self.token_ids[-1] in stop_ids
        finish = Finish.STOP if stopped else Finish.LENGTH if self.whole else Finish.CONTEXT
        ends = [start for _, start in self.marks[1:]] + [len(self.token_ids)]
        spans = tuple(Span(version, start, end) for (version, start), end in zip(self.marks, ends, strict=True))
        told = spans if len(spans) > 1 else ()
        return Completion(tuple(self.token_ids), tuple(self.logprobs), finish, self.marks[0][0], engine, told)


class Batch(Protocol):
    """Sequences that are decoded together; callers know theirs by a ticket."""

    @property
    def busy(self) -> bool:
        """Whether anything is decoded or waits to be."""

    def put(self, ticket: int, answer: Answer) -> None:
        """Have it wait for a place."""

    def drop(self, tickets: Collection[int]) -> None:
        """Forget these, wherever they are."""

    def advance(self) -> list[tuple[int, Answer]]:
        """Admit who waits, draw a token for everybody, and hand out who has ended."""

    def renew(self, version: int) -> None:
        """The weights have changed: what is drawn from now on is said by ``version``."""


class Slots:
    """A batch of the fused decoder. Row s of every tensor belongs to ``seats[s]``; free rows idle at position 0.

    It grows to what its sequences need, up to ``limit`` rows, and only the rows up to the last live one are computed.
    With ``record`` its steps are played from recordings; ``doubt`` is told if they are not trusted.
    """

    def __init__(
        self,
        decoder: Decoder,
        stop_ids: Collection[int],
        limit: int,
        record: Record | None = None,
        doubt: Callable[[str], None] = lambda why: None,
    ) -> None:
        self.decoder, self.stop_ids, self.limit = decoder, stop_ids, limit
        self.graphed = None if record is None else Graphed(self.step, record, doubt)
        self.waiting: dict[int, Answer] = {}
        self.seats: dict[int, tuple[int, Answer]] = {}  # ticket and answer by row
        self.free: list[int] = []  # a heap: low rows first
        self.cache: Cache | None = None
        self.width = self.length = self.needed = 0
        self.greedy = False
        self.ended: list[tuple[int, Answer]] = []
        device = decoder.device
        self.last_S = torch.zeros(0, dtype=torch.long, device=device)
        self.position_S = torch.zeros(0, dtype=torch.long, device=device)
        self.live_S = torch.zeros(0, dtype=torch.long, device=device)
        self.temperature_S = torch.ones(0, device=device)
        self.uniform_S = torch.zeros(0, dtype=torch.float64, device=device)

    @property
    def busy(self) -> bool:
        """Whether anything is decoded or waits to be."""
        return bool(self.seats or self.waiting)

    def put(self, ticket: int, answer: Answer) -> None:
        """Have it wait for a slot."""
        self.waiting[ticket] = answer
        self.needed = max(self.needed, answer.length + len(answer.uniforms))

    def drop(self, tickets: Collection[int]) -> None:
        """Forget these and free their slots."""
        for ticket in tickets:
            self.waiting.pop(ticket, None)
        self._leave([row for row, (ticket, _) in self.seats.items() if ticket in tickets])

    def renew(self, version: int) -> None:
        """The weights have changed; what has been read stays in the cache as the old ones read it."""
        for _, answer in self.seats.values():
            answer.renew(version)
        for answer in self.waiting.values():
            answer.renew(version)
        self.refresh()

    def refresh(self) -> None:
        """Read again what was kept of the weights."""
        if self.cache is not None:
            with torch.inference_mode():  # as the cache was made
                self.cache.renew(self.decoder)

    def advance(self) -> list[tuple[int, Answer]]:
        """Fill free slots, draw one token for every live one, and hand out who has ended."""
        self._admit()
        if self.seats:
            self._draw()
        ended, self.ended = self.ended, []
        return ended

    def step(self, rows: int, longest: int) -> tuple[Tensor, Tensor]:
        """Tokens (S,) and log-probs (S,) of the first ``rows`` slots, none of which is longer than ``longest``."""
        assert self.cache is not None, "nobody was admitted"
        logits = self.decoder.step(self.last_S[:rows], self.position_S[:rows], self.cache.first(rows), longest)
        return choose(logits, self.temperature_S[:rows], self.uniform_S[:rows], self.greedy)

    def _admit(self) -> None:
        """Fill free slots: all who wait, or once an eighth is free; siblings with one prompt share its prefill."""
        if not self.waiting:
            return
        self._grow()
        assert self.cache is not None, "grown above"
        if len(self.free) < min(len(self.waiting), max(1, self.width // 8)):
            return
        tickets = list(islice(self.waiting, len(self.free)))
        rows = [heapq.heappop(self.free) for _ in tickets]
        answers = [self.waiting.pop(ticket) for ticket in tickets]
        unique = {prompt: at for at, prompt in enumerate(dict.fromkeys(one.request.prompt_ids for one in answers))}
        device = self.decoder.device
        lengths = torch.tensor([len(prompt) for prompt in unique])
        ids = torch.zeros((len(unique), int(lengths.max())), dtype=torch.long)
        for prompt, at in unique.items():
            ids[at, : len(prompt)] = torch.tensor(prompt)
        logits, fresh = self.decoder.prefill(ids.to(device), lengths.to(device))
        from_S = torch.tensor([unique[one.request.prompt_ids] for one in answers], device=device)
        row_S = torch.tensor(rows, device=device)
        self.cache.copy_from(fresh, from_S, row_S)
        self.position_S[row_S] = lengths.to(device)[from_S]
        self._seat(rows, tickets, answers, logits[from_S])

    def _seat(self, rows: list[int], tickets: list[int], answers: list[Answer], logits_SV: Tensor) -> None:
        """Give each slot its sequence and draw its first token."""
        device = self.decoder.device
        row_S = torch.tensor(rows, device=device)
        temperature_S = torch.tensor([one.request.sampling.temperature for one in answers], device=device)
        uniform_S = torch.tensor([one.level for one in answers], dtype=torch.float64, device=device)
        self.greedy = self.greedy or any(one.request.sampling.temperature <= 0 for one in answers)
        self.seats |= dict(zip(rows, zip(tickets, answers, strict=True), strict=True))
        self.temperature_S[row_S], self.live_S[row_S] = temperature_S, 1
        token_S, logprob_S = choose(logits_SV, temperature_S, uniform_S, self.greedy)
        self.last_S[row_S] = token_S
        self._tell(rows, token_S, logprob_S)

    def _draw(self) -> None:
        rows = 1 + max(self.seats)
        levels = [self.seats[row][1].level if row in self.seats else 0.5 for row in range(rows)]
        self.uniform_S[:rows] = torch.tensor(levels, dtype=torch.float64)
        longest = max(answer.length for _, answer in self.seats.values())
        if self.graphed is None:
            token_S, logprob_S = self.step(rows, longest)
        else:
            token_S, logprob_S = self.graphed(rows, longest, self.width, self.length, self.greedy)
        self.last_S[:rows] = token_S
        self.position_S += self.live_S
        self._tell(range(rows), token_S, logprob_S)
        if not self.waiting and self.seats and len(self.seats) <= (1 + max(self.seats)) // 2:
            self._close_ranks()

    def _tell(self, rows: Sequence[int], token_S: Tensor, logprob_S: Tensor) -> None:
        """Note what these slots have said; those that have ended leave."""
        left = []
        for row, token, logprob in zip(rows, token_S.tolist(), logprob_S.tolist(), strict=True):
            if row in self.seats:
                ticket, answer = self.seats[row]
                if answer.add(token, logprob, self.stop_ids):
                    self.ended.append((ticket, answer))
                    left.append(row)
        self._leave(left)

    def _leave(self, rows: list[int]) -> None:
        if not rows:
            return
        for row in rows:
            del self.seats[row]
            heapq.heappush(self.free, row)
        self.live_S[rows] = 0
        self.position_S[rows] = 0

    def _grow(self) -> None:
        """Room for everybody who waits: rows up to the limit, and the length that the longest may come to."""
        wanted = len(self.seats) + len(self.waiting)
        width, length = self.width, self.length
        if wanted > width:
            width = min(self.limit, max(wanted, 2 * width))
        if self.needed > length:
            length = min(self.decoder.max_length, max(self._rounded(self.needed), 2 * length))
        if (width, length) == (self.width, self.length):
            return
        grown = Cache(self.decoder, width, length)
        if self.cache is not None:
            grown.take(self.cache)
        for name in ("last_S", "position_S", "live_S", "temperature_S", "uniform_S"):
            old = getattr(self, name)
            setattr(self, name, torch.cat((old, torch.ones(width - self.width, dtype=old.dtype, device=old.device))))
        self.live_S[self.width :], self.position_S[self.width :], self.last_S[self.width :] = 0, 0, 0
        for row in range(self.width, width):
            heapq.heappush(self.free, row)
        self.cache, self.width, self.length = grown, width, length
        if self.graphed is not None:
            self.graphed.clear()

    def _rounded(self, length: int) -> int:
        return length if self.graphed is None else length_bucket(length)

    def _close_ranks(self) -> None:
        """Nothing waits and half the rows idle: the last ones move up, so that fewer are computed."""
        assert self.cache is not None, "somebody sits"
        count = len(self.seats)
        old = sorted(row for row in self.seats if row >= count)
        new = [row for row in range(count) if row not in self.seats]
        used = max(answer.length for _, answer in self.seats.values())
        self.cache.move(
            torch.tensor(old, device=self.live_S.device), torch.tensor(new, device=self.live_S.device), used
        )
        for name in ("last_S", "position_S", "temperature_S"):
            getattr(self, name)[new] = getattr(self, name)[old]
        self.live_S[new], self.live_S[old], self.position_S[old] = 1, 0, 0
        for was, row in zip(old, new, strict=True):
            self.seats[row] = self.seats.pop(was)
        self.free = list(range(count, self.width))  # in order, so a heap


def uniforms(request: Request) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Every number in [0, 1) the request will ever draw, from its own generator."""
    return np.random.Generator(np.random.Philox(request.seed)).random(request.sampling.max_tokens)


def choose(logits_SV: Tensor, temperature_S: Tensor, uniform_S: Tensor, greedy: bool = True) -> tuple[Tensor, Tensor]:
    """Tokens (S,) by inverse distribution function and their log-probs (S,) in nats; temperature 0 is greedy.

    ``greedy`` says whether any temperature may be 0.
    """
    scale = torch.where(temperature_S <= 0, 1.0, temperature_S) if greedy else temperature_S
    logprob_SV = torch.log_softmax(logits_SV.float() / scale[:, None], dim=-1)
    mass_SV = logprob_SV.exp().cumsum(-1)
    level_S = uniform_S.to(mass_SV.dtype).clamp(max=1 - 1e-7) * mass_SV[:, -1]
    token_S = torch.searchsorted(mass_SV, level_S[:, None], right=True)[:, 0].clamp(max=logits_SV.shape[-1] - 1)
    if greedy:
        token_S = torch.where(temperature_S <= 0, logits_SV.argmax(-1), token_S)
    return token_S, logprob_SV.gather(-1, token_S[:, None])[:, 0]
