"""A chat completion as it goes back to the client: whole, or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from sparring.agents.engine import Request

from .asked import ChatAsked
from .recorded import Heard
from .refusals import Refusal
from .served import Hears, Served
from .spoken import Choice, Json, Trickle, chat_logprobs, usage


@dataclass
class Turn:
    """One prompt of a request on its way: whose turn it is where it is recorded, and ``indices`` once it is."""

    requests: list[Request]
    heard: Heard | None = None
    indices: tuple[int, ...] = ()

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """What was read."""
        return self.requests[0].prompt_ids


@dataclass
class ChatAnswer:
    """One chat completion, whole or as a stream."""

    served: Served
    told: ChatAsked
    turn: Turn

    def whole(self, choices: Sequence[Choice]) -> Json:
        """The body of the answer. ``turn`` of a choice is its number in the recorded episode."""
        rows = []
        for index, one in enumerate(choices):
            row: Json = {
                "index": index,
                "message": {"role": "assistant", "content": one.text},
                "finish_reason": one.reason,
                "logprobs": self._logprobs(one),
            }
            rows.append(row | self._more(index, one))
        found = envelope("chatcmpl", "chat.completion", self.told.model, rows)
        if self.told.return_token_ids:
            found["prompt_token_ids"] = list(self.turn.prompt_ids)
        return found | {"usage": usage(len(self.turn.prompt_ids), choices)}

    async def stream(self, work: Callable[[Hears], Awaitable[list[Choice]]]) -> AsyncIterator[str]:
        """Server-sent events: a first chunk at once, words as they are drawn, why it ended, ``[DONE]``.

        An engine that does not tell what it draws has its words come when the turn is whole.
        """
        head = envelope("chatcmpl", "chat.completion.chunk", self.told.model, [])
        prompt = {"prompt_token_ids": list(self.turn.prompt_ids)} if self.told.return_token_ids else {}
        opened = [self._delta(index, {"role": "assistant", "content": ""}) for index in range(self.told.n)]
        yield event(head | {"choices": opened} | prompt)
        trickles = [Trickle(self.served.policy.renderer, self.told.stop) for _ in range(self.told.n)]
        news = asyncio.Event()

        def hear(place: int, token: int) -> None:
            trickles[place].hear(token)
            news.set()

        task = asyncio.ensure_future(work(hear))
        task.add_done_callback(lambda _: news.set())
        try:
            while not task.done():
                await news.wait()
                news.clear()
                for index, trickle in enumerate(trickles):
                    if piece := trickle.piece():
                        yield event(head | {"choices": [self._delta(index, {"content": piece})]})
            for last in self._ends(task.result(), trickles):
                yield event(head | last)
        except Refusal as refusal:  # the status is sent already
            yield event(json.loads(bytes(refusal.response().body)))
            return
        finally:
            task.cancel()
        yield "data: [DONE]\n\n"

    def _ends(self, choices: Sequence[Choice], trickles: Sequence[Trickle]) -> Iterator[Json]:
        """What is left to say of each choice, why it ended, and what all of it took."""
        for index, (one, trickle) in enumerate(zip(choices, trickles, strict=True)):
            if rest := trickle.rest(one):
                yield {"choices": [self._delta(index, {"content": rest})]}
            last = self._delta(index, {}, one.reason) | {"logprobs": self._logprobs(one)} | self._more(index, one)
            yield {"choices": [last]}
        if self.told.stream_options.include_usage:
            yield {"choices": [], "usage": usage(len(self.turn.prompt_ids), choices)}

    def _delta(self, index: int, delta: Json, reason: str | None = None) -> Json:
        return {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}

    def _logprobs(self, one: Choice) -> Json | None:
        return chat_logprobs(one.done, self.served.policy.tokenizer) if self.told.logprobs else None

    def _more(self, index: int, one: Choice) -> Json:
        found: Json = {"token_ids": list(one.done.token_ids)} if self.told.return_token_ids else {}
        return found | ({"turn": self.turn.indices[index]} if self.turn.indices else {})


def envelope(prefix: str, kind: str, model: str | None, choices: Sequence[Json]) -> Json:
    """What every answer begins with."""
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model or "policy",
        "choices": list(choices),
    }  # fmt: skip


def event(data: Json) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(data, allow_nan=False)}\n\n"
