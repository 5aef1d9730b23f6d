"""The token wire: the JSON of vLLM's ``POST /inference/v1/generate`` (0.32), in both directions.

Clients build a body from a request and read a completion from the answer; servers do the converse. No network here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sparring.agents.engine import Completion, Request
from sparring.envs.types import Finish, Span
from sparring.scenarios.schema import Sampling

GENERATE = "/inference/v1/generate"
FLOOR = -9999.0  # what stands for a log-prob of minus infinity, which JSON cannot say
TRUNCATING = ("top_p", "top_k", "min_p")
Json = dict[str, Any]


class Malformed(ValueError):
    """A body is not what the wire says; the message names the field."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a server reads: ``request`` without tag and adapter, and what only the wire knows.

    ``model`` may name the policy, an adapter or nothing; ``stop_ids`` end the turn in place of the server's own where
    ``own_stops`` is false; ``salt`` tells prefix caches apart; ``logprobs`` says whether they are wanted.
    """

    request: Request
    model: str = ""
    stop_ids: tuple[int, ...] = ()
    own_stops: bool = False
    salt: str = ""
    logprobs: bool = True
    request_id: str = ""


def ask(request: Request, model: str, stop_ids: Sequence[int], salt: str = "", request_id: str = "") -> Json:
    """The body a client posts: the sampled token's log-prob alone, and the turn ends at ``stop_ids``, no others."""
    body: Json = {
        "token_ids": list(request.prompt_ids),
        "sampling_params": parameters(request, stop_ids),
        "stream": False,
        "model": model or None,
        "cache_salt": salt or None,
        "request_id": request_id or None,
    }
    return {key: value for key, value in body.items() if value is not None}


def parameters(request: Request, stop_ids: Sequence[int]) -> Json:
    """vLLM's ``SamplingParams`` as keywords. ``ignore_eos`` leaves ``stop_ids`` as the only tokens that end a turn."""
    drawn = request.sampling
    found: Json = {
        "temperature": float(drawn.temperature),
        "max_tokens": int(drawn.max_tokens),
        "seed": request.seed,
        "logprobs": 0,
        "stop_token_ids": sorted(stop_ids),
        "ignore_eos": True,
        "detokenize": False,
    }
    return found | {key: getattr(drawn, key) for key in TRUNCATING if getattr(drawn, key) is not None}


def read_request(body: Mapping[str, Any]) -> Asked:
    """What a client asked a server for. Raises ``Malformed``."""
    drawn = body.get("sampling_params")
    if not isinstance(drawn, Mapping):
        raise Malformed("sampling_params: a mapping is needed")
    if body.get("stream") or drawn.get("n", 1) != 1:
        raise Malformed("stream and n: one whole answer per request is all this route gives")
    given = {key: drawn[key] for key in ("temperature", "max_tokens", *TRUNCATING) if drawn.get(key) is not None}
    off = {"top_k": (0, -1), "top_p": (1, 1.0), "min_p": (0, 0.0)}  # how vLLM's clients say "not at all"
    given = {key: value for key, value in given.items() if value not in off.get(key, ())}
    try:
        sampling = Sampling.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise Malformed(f"sampling_params.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return Asked(
        Request(_ids(body.get("token_ids"), "token_ids", least=1), sampling, _seed(drawn.get("seed"))),
        str(body.get("model") or ""),
        _ids(drawn.get("stop_token_ids") or (), "sampling_params.stop_token_ids"),
        not drawn.get("ignore_eos", False),
        str(body.get("cache_salt") or ""),
        drawn.get("logprobs") is not None,
        str(body.get("request_id") or ""),
    )


def answer(done: Completion, asked: Asked, request_id: str = "") -> Json:
    """The body a server sends for one completion. Log-probs are left out where they are not known or not wanted."""
    known = asked.logprobs and not any(math.isnan(value) for value in done.logprobs)
    spans = done.spans or (Span(done.policy_version, 0, len(done.token_ids)),)
    content: list[Json] = [
        {"token_id": token, "logprob": max(value, FLOOR), "rank": None, "top_logprobs": []}
        for token, value in zip(done.token_ids, done.logprobs, strict=True)
    ]
    stopped = done.finish is Finish.STOP
    choice = {
        "index": 0,
        "finish_reason": "length" if done.finish is Finish.CONTEXT else done.finish.value,
        "stop_reason": done.token_ids[-1] if stopped and done.token_ids else None,
        "token_ids": list(done.token_ids),
        "logprobs": {"content": content} if known else None,
        "weight_versions": [{"version": str(span.version), "start": span.start, "end": span.end} for span in spans],
    }
    prompt, said = len(asked.request.prompt_ids), len(done.token_ids)
    usage = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
    name = request_id or asked.request_id
    return {"request_id": name, "model": asked.model or None, "choices": [choice], "usage": usage}


def read_answer(
    body: Mapping[str, Any], request: Request, version: int, engine: str, *, versioned: bool = True
) -> Completion:
    """The completion in a server's answer to ``request``, as it was before its budget was cut to the context.

    Log-probs the server left out are NaN. The versions that sampled it are the server's where it names them by number
    and ``versioned`` says that they are ours; else ``version``. Raises ``Malformed``.
    """
    choices = body.get("choices")
    if not isinstance(choices, Sequence) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        raise Malformed("choices: a list with one answer is needed")
    choice = choices[0]
    token_ids = _ids(choice.get("token_ids"), "choices[0].token_ids")
    spans = _spans(choice.get("weight_versions") or (), len(token_ids)) if versioned else ()
    oldest = min((span.version for span in spans), default=version)
    finish = _finish(choice.get("finish_reason"), len(token_ids) < request.sampling.max_tokens)
    if finish is Finish.ABORT:
        return Completion.aborted("the server ended the request without finishing it", oldest, engine)
    logprobs = _logprobs(choice.get("logprobs"), token_ids)
    return Completion(token_ids, logprobs, finish, oldest, engine, spans if len(spans) > 1 else ())


def failure(message: str, code: int, kind: str = "BadRequestError") -> Json:
    """The body of an HTTP error ``code`` as vLLM and OpenAI lay it out."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def told(body: Any) -> str:
    """What the body of an HTTP error says, "" when it says nothing readable."""
    if isinstance(body, Mapping):
        found = body.get("error", body.get("detail", body.get("message", "")))
        if isinstance(found, Mapping):
            found = found.get("message", "")
        return found if isinstance(found, str) else str(found)
    return ""


def _ids(value: Any, name: str, least: int = 0) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Malformed(f"{name}: a list of token ids is needed")
    if len(value) < least:
        raise Malformed(f"{name}: at least {least} token is needed")
    if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value):
        raise Malformed(f"{name}: whole numbers from 0 are needed")
    return tuple(value)


def _seed(value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise Malformed("sampling_params.seed: a whole number from 0 to 2**64 - 1 is needed")
    return value


def _finish(reason: Any, unspent: bool) -> Finish:
    """``unspent``: it said less than it was allowed to, so what ran out was the context."""
    if reason == "stop":
        return Finish.STOP
    if reason == "length":
        return Finish.CONTEXT if unspent else Finish.LENGTH
    if reason == "abort":
        return Finish.ABORT
    raise Malformed(f"choices[0].finish_reason: {reason!r} is none of stop, length, abort")


def _logprobs(value: Any, token_ids: Sequence[int]) -> tuple[float, ...]:
    content = value.get("content") if isinstance(value, Mapping) else None
    if content is None:
        return (math.nan,) * len(token_ids)
    try:
        found = [(item["token_id"], float(item["logprob"])) for item in content]
    except (TypeError, KeyError, ValueError) as error:
        raise Malformed("choices[0].logprobs.content: a token_id and a logprob per token are needed") from error
    if [token for token, _ in found] != list(token_ids):
        raise Malformed(f"choices[0].logprobs: {len(found)} of them do not name the {len(token_ids)} tokens in order")
    return tuple(logprob for _, logprob in found)


def _spans(value: Sequence[Any], count: int) -> tuple[Span, ...]:
    """Spans of ours: versions are numbers, and together they cover every token. Other labels are not ours: none."""
    try:
        labels = [(str(item["version"]), int(item["start"]), int(item["end"])) for item in value]
    except (TypeError, KeyError, ValueError) as error:
        raise Malformed("choices[0].weight_versions: version, start and end are needed") from error
    if not labels or not all(label.isdecimal() for label, _, _ in labels):
        return ()
    if [0, *(end for _, _, end in labels)] != [*(start for _, start, _ in labels), count]:
        raise Malformed(f"choices[0].weight_versions: they do not cover {count} tokens without a gap")
    return tuple(Span(int(label), start, end) for label, start, end in labels)
