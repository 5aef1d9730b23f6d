"""The chat wire: a request as the JSON of ``POST /chat/completions``, and what an answer to it says. No network here.

Answers are hostile: whatever JSON a server sends, ``read`` returns what was said or raises ``Malformed`` with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sparring.agents.engine import Request
from sparring.envs.types import Finish

from .wire import TRUNCATING, Json, Malformed, told

ROUTE, MODELS = "/chat/completions", "/models"
OWN = frozenset({
    "model", "messages", "temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "min_p", "seed", "n",
    "stream", "stream_options", "logprobs", "top_logprobs", "return_token_ids", "tools", "tool_choice", "functions",
})  # fmt: skip
CUT = frozenset({"length", "max_tokens", "model_length"})
FAILED = frozenset({"abort", "content_filter", "error", "function_call", "safety", "tool_calls"})
FULL = ("context_length_exceeded", "context length", "context window", "context size", "maximum model length")
Limit = Literal["max_tokens", "max_completion_tokens"]
WORDS = 256  # characters a token may stand for; an answer longer than its budget allows is no answer to the request
MOST = 1 << 53  # counts above this are no counts


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says. ``token_ids``, ``prompt_ids`` and ``logprobs`` are as the server gives them, ``()`` else."""

    text: str
    finish: Finish
    token_ids: tuple[int, ...] = ()
    prompt_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


def ask(request: Request, model: str, limit: Limit = "max_tokens", seeded: bool = True, tokens: bool = False) -> Json:
    """The body that asks for ``request``. ``tokens``: also for ids and log-probs, as vLLM gives them."""
    drawn = request.sampling
    body: Json = {
        "model": model,
        "messages": [{"role": message.role, "content": clean(message.content)} for message in request.messages],
        "temperature": float(drawn.temperature),
        limit: int(drawn.max_tokens),
        "stream": False,
    }
    body |= {key: getattr(drawn, key) for key in TRUNCATING if getattr(drawn, key) is not None}
    if seeded:
        body["seed"] = request.seed & 0x7FFFFFFF  # 31 bits: what every server takes
    if tokens:
        body |= {"logprobs": True, "return_token_ids": True}
    return body


def clean(text: str) -> str:
    """``text`` without lone surrogates, which JSON in UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


def read(body: Any, budget: int) -> Said:
    """What the answer to a request for at most ``budget`` tokens says. Raises ``Malformed`` where it says nothing."""
    if not isinstance(body, Mapping):
        raise Malformed(f"the answer is {_kind(body)}, not an object")
    if body.get("error"):
        raise Malformed(f"an error in place of an answer: {told(body)}")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise Malformed("choices: a list with one answer is needed")
    choice = choices[0]
    reason, message = choice.get("finish_reason"), choice.get("message")
    if isinstance(reason, str) and reason in FAILED:
        raise Malformed(f"the server ended the answer with finish_reason {reason}")
    if not isinstance(message, Mapping):
        raise Malformed("choices[0].message: an object is needed")
    text = _text(message, reason, budget)
    if len(text) > WORDS * (budget + 16):
        raise Malformed(f"{len(text)} characters in answer to a request for at most {budget} tokens")
    ids = _ids(choice.get("token_ids"))
    finish = _finish(reason, usage(body).said, budget)
    return Said(text, finish, ids, _ids(body.get("prompt_token_ids")), _logprobs(choice.get("logprobs"), len(ids)))


def full(code: int, message: str) -> bool:
    """Whether an HTTP error says that the conversation does not fit into the model's context."""
    return code in (400, 413, 422) and any(words in message.lower() for words in FULL)


class Usage(NamedTuple):
    """Tokens that a server counts: those it read and those it said; ``None`` where it does not count."""

    read: int | None
    said: int | None

    @property
    def whole(self) -> int | None:
        """Both together, where both are told."""
        return None if self.read is None or self.said is None else self.read + self.said


def usage(body: Any) -> Usage:
    """``usage`` of an answer, whatever the answer is; what is no whole number from 0 counts as not told."""
    found = body.get("usage") if isinstance(body, Mapping) else None
    counts = found if isinstance(found, Mapping) else {}
    return Usage(_count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")))


def listed(body: Any) -> list[str]:
    """The names in an answer to ``GET /models``, whatever it is."""
    rows = body.get("data") if isinstance(body, Mapping) else None
    names = [row.get("id") for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    return [clean(name)[:200] for name in names if isinstance(name, str)]


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST else None


def _text(message: Mapping[str, Any], reason: Any, budget: int) -> str:
    content = message.get("content")
    if isinstance(content, list):  # some servers send it in parts
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        content = "".join(part for part in parts if isinstance(part, str))
    if isinstance(content, str) and content:
        return clean(content)
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        raise Malformed(f"the model refused: {clean(refusal)[:200]}")
    if message.get("tool_calls") or message.get("function_call"):
        raise Malformed("the answer calls a tool and says nothing")
    if content not in (None, "", []):
        raise Malformed(f"the answer's content is {_kind(content)}, not text")
    if isinstance(reason, str) and reason in CUT:
        raise Malformed(f"all of its {budget} tokens went before a word was said; raise sampling.max_tokens")
    raise Malformed("the answer is empty")


def _finish(reason: Any, said: int | None, budget: int) -> Finish:
    """Every word but those for a cut is a stop: servers have many (``eos``, ``end_turn``, none at all)."""
    if not (isinstance(reason, str) and reason in CUT):
        return Finish.STOP
    unspent = said is not None and said < budget  # what ran out was the model's context
    return Finish.CONTEXT if unspent else Finish.LENGTH


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or any(_count(item) is None for item in value):
        return ()
    return tuple(value)


def _logprobs(value: Any, count: int) -> tuple[float, ...]:
    """One finite number per token, or nothing."""
    content = value.get("content") if isinstance(value, Mapping) else None
    if not isinstance(content, list) or len(content) != count:
        return ()
    found = [item.get("logprob") if isinstance(item, Mapping) else None for item in content]
    exact = [0.0 if one == 0 else one for one in found]  # a sure token may come as the whole number 0
    numbers = [one for one in exact if isinstance(one, float) and math.isfinite(one) and one <= 0]
    return tuple(numbers) if len(numbers) == count else ()


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")
