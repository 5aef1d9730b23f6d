"""Turns that end at other tokens than the engine's own: cut earlier, or gone on with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from sparring.agents.engine import Completion, Request
from sparring.envs.types import Finish, Span
from sparring.scenarios.seeds import derive

from .spoken import shortened

Generate = Callable[[Sequence[Request]], Awaitable[list[Completion]]]


async def ended_at(generate: Generate, request: Request, stops: Collection[int]) -> Completion:
    """Sample a request whose turn ends at ``stops``, whatever ends turns for the engine behind ``generate``.

    Where both are the same, it is what the engine samples.
    """
    done = (await generate([request]))[0]
    while done.finish is Finish.STOP and done.token_ids[-1] not in stops:
        said = len(done.token_ids)
        if said >= request.sampling.max_tokens:
            return replace(done, finish=Finish.LENGTH)
        left = request.sampling.model_copy(update={"max_tokens": request.sampling.max_tokens - said})
        seed = derive(request.seed, "on", said)  # from its own seed it would draw the same numbers again
        further = replace(request, prompt_ids=request.prompt_ids + done.token_ids, sampling=left, seed=seed)
        done = joined(done, (await generate([further]))[0])
    at = next((place for place, token in enumerate(done.token_ids) if token in stops), len(done.token_ids) - 1)
    cut = shortened(done, at + 1)
    return cut if cut is done else replace(cut, finish=Finish.STOP)


def joined(first: Completion, second: Completion) -> Completion:
    """Two completions as one, where the second goes on from the first. One that was not served is the whole's fate."""
    if second.finish is Finish.ABORT:
        return second
    count = len(first.token_ids)
    spans = first.spans or (Span(first.policy_version, 0, count),)
    for one in second.spans or (Span(second.policy_version, 0, len(second.token_ids)),):
        moved = Span(one.version, one.start + count, one.end + count)
        if moved.version == spans[-1].version:
            spans = (*spans[:-1], replace(spans[-1], end=moved.end))
        else:
            spans = (*spans, moved)
    return replace(
        first,
        token_ids=first.token_ids + second.token_ids,
        logprobs=first.logprobs + second.logprobs,
        finish=second.finish,
        spans=spans if len(spans) > 1 else (),
    )
