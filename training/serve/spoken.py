"""What was sampled, as OpenAI's routes tell it: texts cut at stop strings, log-probs, usage, chunks of a stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


def pieces(one: Choice, renderer: Renderer) -> Iterator[str]:
    """The text a token at a time, where tokens are whole characters; together exactly ``one.text``."""
    told = 0
    for count in range(1, len(one.done.token_ids)) if one.done.text is None else ():
        text = clean(renderer.decode(one.done.token_ids[:count]))
        if len(text) > told and not text.endswith(BROKEN) and one.text.startswith(text):
            yield text[told:]
            told = len(text)
    if told < len(one.text):
        yield one.text[told:]
