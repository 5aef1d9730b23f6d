"""What was sampled, as OpenAI's routes tell it: texts cut at stop strings, log-probs, usage, chunks of a stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparring.agents.engine import Completion, Renderer
from sparring.agents.stage import clean
from sparring.envs.types import Finish, Span

Json = dict[str, Any]
BROKEN = "\ufffd"  # what half of a character decodes to


@dataclass(frozen=True)
class Choice:
    """One answer: ``done`` up to where it was cut, ``text`` as the client reads it, ``reason`` why it ended."""

    done: Completion
    text: str
    reason: str


def choice(done: Completion, stops: Sequence[str], renderer: Renderer) -> Choice:
    """What a completion says. A stop string ends it: tokens go on to the one that completes the string, text does not.

    Such a turn counts as cut short, for the model did not end it.
    """
    text = clean(renderer.decode(done.token_ids) if done.text is None else done.text)
    at = min((text.index(stop) for stop in stops if stop and stop in text), default=None)
    if at is None:
        return Choice(done, text, "stop" if done.finish is Finish.STOP else "length")
    count = len(done.token_ids)
    if done.text is None:
        low, high = 1, count
        while low < high:  # text only grows with tokens
            middle = (low + high) // 2
            found = clean(renderer.decode(done.token_ids[:middle]))
            low, high = (low, middle) if any(stop in found for stop in stops if stop) else (middle + 1, high)
        count = low
    return Choice(shortened(done, count), text[:at], "stop")


def shortened(done: Completion, count: int) -> Completion:
    """The first ``count`` tokens of a completion, cut off there; itself when that is all of it."""
    if count == len(done.token_ids):
        return done
    spans = tuple(Span(one.version, one.start, min(one.end, count)) for one in done.spans if one.start < count)
    return replace(
        done,
        token_ids=done.token_ids[:count],
        logprobs=done.logprobs[:count],
        finish=Finish.LENGTH,
        spans=spans if len(spans) > 1 else (),
    )


def usage(prompt_tokens: int, choices: Sequence[Choice]) -> Json:
    """How many tokens were read and said."""
    said = sum(len(one.done.token_ids) for one in choices)
    return {"prompt_tokens": prompt_tokens, "completion_tokens": said, "total_tokens": prompt_tokens + said}


def chat_logprobs(done: Completion, tokenizer: Any) -> Json:
    """One entry per sampled token, the one that ends the turn included."""
    rows = []
    for token, value in zip(done.token_ids, done.logprobs, strict=True):
        text = clean(tokenizer.decode([token]))
        row = {"token": text, "logprob": number(value), "bytes": list(text.encode()), "top_logprobs": []}
        rows.append(row)
    return {"content": rows}


def text_logprobs(done: Completion, tokenizer: Any) -> Json:
    """The same in the older shape; offsets are where each token begins in the text they make together."""
    tokens = [clean(tokenizer.decode([token])) for token in done.token_ids]
    offsets, at = [], 0
    for token in tokens:
        offsets.append(at)
        at += len(token)
    logprobs = [number(value) for value in done.logprobs]
    return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": None, "text_offset": offsets}


def number(value: float) -> float | None:
    """A log-prob as JSON says it: ``None`` where it is not known."""
    return value if math.isfinite(value) else None


class Trickle:
    """The text of one choice while its tokens come: never a word that its end could take back."""

    def __init__(self, renderer: Renderer, stops: Sequence[str]) -> None:
        self.renderer, self.stops = renderer, [stop for stop in stops if stop]
        self.behind = max(map(len, self.stops), default=1) - 1  # characters that may be the beginning of a stop string
        self.token_ids: list[int] = []
        self.said = self.read = 0
        self.over = False

    def hear(self, token: int) -> None:
        """Take a token."""
        self.token_ids.append(token)

    def piece(self) -> str:
        """What can be said now and has not been said yet."""
        if self.over or self.read == len(self.token_ids):
            return ""
        self.read = len(self.token_ids)
        text = clean(self.renderer.decode(self.token_ids))
        at = min((text.index(stop) for stop in self.stops if stop in text), default=None)
        self.over = at is not None
        sure = len(text) - self.behind if at is None else at
        if text.endswith(BROKEN) or sure <= self.said:  # half a character may become a whole one
            return ""
        piece, self.said = text[self.said : sure], sure
        return piece

    def rest(self, one: Choice) -> str:
        """What is left once the choice is whole."""
        return one.text[self.said :]
