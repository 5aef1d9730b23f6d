"""The token wire keeps every token, log-prob and version on the way there and back, and refuses what it cannot read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.engine import Completion, Request
from sparring.envs.types import Finish, Span
from sparring.scenarios.schema import Sampling
from sparring.training.engines import wire

IDS = st.integers(0, 200_000)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.floats(0, 10),
    max_tokens=st.integers(1, 64),
    top_p=st.none() | st.floats(0.01, 0.99),
    top_k=st.none() | st.integers(1, 50),
    min_p=st.none() | st.floats(0.01, 1),
)
REQUESTS = st.builds(Request, st.lists(IDS, min_size=1, max_size=20).map(tuple), SAMPLINGS, st.integers(0, 2**63 - 1))


@st.composite
def completions(draw: st.DrawFn) -> tuple[Request, Completion]:
    """A request and what may have been sampled for it, in up to three spans."""
    request = draw(REQUESTS)
    budget = request.sampling.max_tokens
    finish = draw(st.sampled_from((Finish.STOP, Finish.LENGTH, Finish.CONTEXT)))
    count = budget if finish is Finish.LENGTH else draw(st.integers(finish is Finish.STOP, budget - 1 or 1))
    if finish is Finish.CONTEXT and count == budget:
        count = 0
    token_ids = tuple(draw(st.lists(IDS, min_size=count, max_size=count)))
    known = draw(st.booleans())
    logprobs = tuple(draw(st.floats(-50, 0)) if known else math.nan for _ in token_ids)
    cuts = sorted(draw(st.sets(st.integers(1, max(count - 1, 1)), max_size=2)))
    edges = [0, *(cut for cut in cuts if cut < count), count]
    oldest = draw(st.integers(0, 1000))
    spans = tuple(Span(oldest + index, start, end) for index, (start, end) in enumerate(pairwise(edges)))
    return request, Completion(token_ids, logprobs, finish, oldest, "vllm", spans if len(spans) > 1 else ())


def over(body: dict[str, Any]) -> dict[str, Any]:
    """What arrives at the other end."""
    found: dict[str, Any] = json.loads(json.dumps(body, allow_nan=False))
    return found


@given(REQUESTS, st.lists(IDS, max_size=4), st.sampled_from(("", "policy")), st.sampled_from(("", "run.3")))
def test_a_request_arrives_as_it_was_sent(request: Request, stops: list[int], model: str, salt: str) -> None:
    asked = wire.read_request(over(wire.ask(request, model, stops, salt, "r1")))
    assert asked == wire.Asked(request, model, tuple(sorted(stops)), False, salt, True, "r1")


@given(completions())
def test_a_completion_arrives_as_it_was_sent(drawn: tuple[Request, Completion]) -> None:
    request, done = drawn
    found = wire.read_answer(over(wire.answer(done, wire.Asked(request))), request, 0, "vllm")
    known = not any(math.isnan(value) for value in done.logprobs)
    assert found == done if known else repr(found) == repr(done)  # NaN is no other NaN's equal


def test_minus_infinity_crosses_as_the_floor() -> None:
    done = Completion((5,), (-math.inf,), Finish.STOP, 1, "vllm")
    body = over(wire.answer(done, wire.Asked(Request((1,), Sampling(), 0))))
    assert wire.read_answer(body, Request((1,), Sampling(), 0), 0, "vllm").logprobs == (wire.FLOOR,)


def test_less_than_the_budget_without_a_stop_means_the_context_ran_out() -> None:
    request = Request((1,), Sampling(max_tokens=8), 0)
    body = wire.answer(Completion((5, 6), (-1.0, -1.0), Finish.LENGTH, 0, ""), wire.Asked(request))
    assert wire.read_answer(body, request, 0, "vllm").finish is Finish.CONTEXT
    short = replace(request, sampling=Sampling(max_tokens=2))
    assert wire.read_answer(body, short, 0, "vllm").finish is Finish.LENGTH


@pytest.mark.parametrize(("label", "versioned", "version"), [("7", True, 7), ("default", True, 3), ("7", False, 3)])
def test_versions_that_are_not_ours_are_not_believed(label: str, versioned: bool, version: int) -> None:
    request = Request((1,), Sampling(max_tokens=1), 0)
    body = wire.answer(Completion((5,), (-1.0,), Finish.STOP, 7, ""), wire.Asked(request))
    body["choices"][0]["weight_versions"][0]["version"] = label
    assert wire.read_answer(body, request, 3, "vllm", versioned=versioned).policy_version == version


def test_a_server_that_tells_no_version_gets_the_one_it_was_given() -> None:
    request = Request((1,), Sampling(max_tokens=1), 0)
    body = wire.answer(Completion((5,), (-1.0,), Finish.STOP, 7, ""), wire.Asked(request))
    del body["choices"][0]["weight_versions"]
    assert wire.read_answer(body, request, 3, "vllm").policy_version == 3


def test_an_aborted_answer_holds_no_tokens() -> None:
    request = Request((1,), Sampling(max_tokens=4), 0)
    body = wire.answer(Completion((5,), (-1.0,), Finish.ABORT, 2, ""), wire.Asked(request))
    found = wire.read_answer(body, request, 0, "vllm")
    assert (found.finish, found.token_ids, found.policy_version) == (Finish.ABORT, (), 2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"token_ids": []}, "token_ids"),
        ({"token_ids": [1, -1]}, "token_ids"),
        ({"token_ids": "12"}, "token_ids"),
        ({"token_ids": [True]}, "token_ids"),
        ({"sampling_params": None}, "sampling_params"),
        ({"sampling_params": {"temperature": -1}}, "temperature"),
        ({"sampling_params": {"max_tokens": 0}}, "max_tokens"),
        ({"sampling_params": {"seed": -5}}, "seed"),
        ({"sampling_params": {"n": 2}}, "stream and n"),
        ({"stream": True}, "stream and n"),
    ],
)
def test_a_request_no_server_could_meet_is_refused_by_the_field(change: dict[str, Any], named: str) -> None:
    body = wire.ask(Request((1, 2), Sampling(), 0), "", ())
    with pytest.raises(wire.Malformed, match=named):
        wire.read_request(body | change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"token_ids": None}, "token_ids"),
        ({"finish_reason": "error"}, "finish_reason"),
        ({"logprobs": {"content": [{"token_id": 9, "logprob": -1.0}]}}, "logprobs"),
        ({"logprobs": {"content": [{"logprob": -1.0}]}}, "logprobs"),
        ({"weight_versions": [{"version": "1", "start": 0, "end": 1}]}, "cover"),
        ({"weight_versions": [{"version": "1"}]}, "weight_versions"),
    ],
)
def test_an_answer_that_does_not_add_up_is_refused_by_the_field(change: dict[str, Any], named: str) -> None:
    request = Request((1,), Sampling(max_tokens=8), 0)
    body = wire.answer(Completion((5, 6), (-1.0, -1.0), Finish.STOP, 1, ""), wire.Asked(request))
    body["choices"][0] |= change
    with pytest.raises(wire.Malformed, match=named):
        wire.read_answer(body, request, 0, "vllm")


def test_truncation_that_is_switched_off_is_no_truncation() -> None:
    body = wire.ask(Request((1,), Sampling(), 0), "", ())
    body["sampling_params"] |= {"top_k": -1, "top_p": 1.0, "min_p": 0.0}
    drawn = wire.read_request(body).request.sampling
    assert (drawn.top_p, drawn.top_k, drawn.min_p) == (None, None, None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (wire.failure("no such model", 404), "no such model"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"error": "bare"}, "bare"),
        (["x"], ""),
    ],
)
def test_the_text_of_an_error_is_found_however_it_is_laid_out(body: Any, said: str) -> None:
    assert wire.told(body) == said
