"""A role that speaks through an OpenAI-compatible server: what is asked, what any answer becomes, what stays unsaid."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.fake_openai import FakeOpenAI, Reply, completion

from sparring.agents.engine import ByteRenderer, Completion, Message, Request
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError, ScenarioError
from sparring.scenarios.load import load
from sparring.scenarios.schema import Sampling, Scenario
from sparring.training.engines import chat
from sparring.training.engines.http import Reply as Answered
from sparring.training.engines.openai import OpenAiEngine, policy_tokens
from sparring.training.engines.wire import Malformed

KEY, VARIABLE = "sk-very-secret-0123456789", "SPARRING_TEST_KEY"
RENDERER = ByteRenderer()
ANY = st.text(st.characters())  # lone surrogates among them
NOWHERE = OpenAiEngine(OpenAiEngine.Config(url="http://127.0.0.1:9/v1", model="m", logprobs=True), RENDERER)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as running:
        yield running


def engine(server: FakeOpenAI, **options: Any) -> OpenAiEngine:
    hurried = {"timeout_s": 20, "patience_s": 20, "retries": 8}
    given = {"url": server.url, "model": "m"} | hurried | options
    return OpenAiEngine(OpenAiEngine.Config.model_validate(given), RENDERER)


def request(text: str = "hi", seed: int = 7, **sampling: Any) -> Request:
    messages = (Message("user", text),)
    drawn = Sampling.model_validate({"max_tokens": 50} | sampling)
    return Request(RENDERER.open(messages).token_ids, drawn, seed, "critic", messages=messages)


def ask(made: OpenAiEngine, *requests: Request) -> list[Completion]:
    return asyncio.run(made.generate(requests or [request()]))


def only(made: OpenAiEngine, *requests: Request) -> Completion:
    (done,) = ask(made, *requests)
    return done


# -- what is asked -----------------------------------------------------------------------------------------------------


def test_a_request_is_asked_as_messages_with_its_sampling_and_a_seed_of_its_own(server: FakeOpenAI) -> None:
    talk = (Message("system", "be kind"), Message("user", "hi"), Message("assistant", "oh"), Message("user", "so?"))
    drawn = Sampling(temperature=0.5, max_tokens=9, top_p=0.9)
    ask(engine(server, extra={"reasoning_effort": "low"}), Request((1,), drawn, (1 << 62) + 5, messages=talk))
    assert server.asked == [
        {
            "model": "m", "temperature": 0.5, "max_tokens": 9, "top_p": 0.9, "seed": 5, "stream": False,
            "messages": [{"role": one.role, "content": one.content} for one in talk], "reasoning_effort": "low",
        }
    ]  # fmt: skip


def test_the_budget_has_the_name_the_server_knows_and_the_seed_can_be_left_out(server: FakeOpenAI) -> None:
    ask(engine(server, limit="max_completion_tokens", seed=False))
    assert server.asked[0]["max_completion_tokens"] == 50 and not {"max_tokens", "seed"} & set(server.asked[0])


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), ANY)), st.integers(0, 2**63 - 1))
def test_any_conversation_becomes_a_body_that_utf8_can_carry(talk: Sequence[tuple[Any, str]], seed: int) -> None:
    messages = tuple(Message(role, text) for role, text in talk)
    body = chat.ask(Request((1,), Sampling(), seed, messages=messages), "m")
    again = json.loads(json.dumps(body, ensure_ascii=False, allow_nan=False).encode())
    assert [(one["role"], len(one["content"])) for one in again["messages"]] == [(r, len(t)) for r, t in talk]
    assert 0 <= again["seed"] < 1 << 31


def test_a_request_without_messages_cannot_be_asked(server: FakeOpenAI) -> None:
    with pytest.raises(EngineError, match="gave no messages"):
        ask(engine(server), Request((1, 2), Sampling(), 0, "critic"))


def test_many_requests_are_under_way_at_once_up_to_the_limit_and_answers_keep_their_order(server: FakeOpenAI) -> None:
    together = threading.Barrier(4)

    def slowly(body: Any) -> str:
        together.wait(10)
        return str(body["messages"][0]["content"])

    server.answer = slowly
    done = ask(engine(server, concurrency=4), *(request(f"number {n}") for n in range(12)))
    assert [one.text for one in done] == [f"number {n}" for n in range(12)] and server.most_at_once == 4


# -- what is made of an answer -----------------------------------------------------------------------------------------


def test_an_answer_is_stored_as_said_in_the_policys_tokens_with_log_probs_unknown(server: FakeOpenAI) -> None:
    server.answer = "<verdict>right</verdict> \u00e9\U0001f600 <|end|>"
    made = engine(server)
    made.policy_version = 4
    done = only(made)
    assert done.text == server.answer and done.finish is Finish.STOP and done.token_ids[-1] == ByteRenderer.END
    assert RENDERER.decode(done.token_ids).replace(" |", "|") == done.text.replace(" |", "|")
    assert len(done.logprobs) == len(done.token_ids) and all(map(math.isnan, done.logprobs))
    assert (done.engine, done.policy_version, done.spans) == ("openai:m", 4, ())


@pytest.mark.parametrize(("reason", "said", "finish"), [
    ("stop", 5, Finish.STOP), ("eos", 5, Finish.STOP), (None, 5, Finish.STOP), (7, 5, Finish.STOP),
    ("length", 50, Finish.LENGTH), ("length", None, Finish.LENGTH), ("length", 31, Finish.CONTEXT),
])  # fmt: skip
def test_why_the_server_stopped_is_told_apart(server: FakeOpenAI, reason: Any, said: Any, finish: Finish) -> None:
    server.answer = lambda body: completion("hello", reason, None if said is None else (3, said))
    done = only(engine(server))
    assert done.finish is finish and done.text == "hello"
    assert RENDERER.decode(done.token_ids) == "hello" and (done.token_ids[-1] == 260) is (finish is Finish.STOP)


@pytest.mark.parametrize(("answer", "reason"), [
    (completion(""), "the answer is empty"),
    (completion(None), "the answer is empty"),
    (completion("", "length"), "all of its 50 tokens went before a word was said; raise sampling.max_tokens"),
    (completion("half", "content_filter"), "finish_reason content_filter"),
    (completion(None, "tool_calls"), "finish_reason tool_calls"),
    (completion({"a": 1}), "content is an object, not text"),
    (completion(3.5), "content is a number, not text"),
    (completion("long" * 9000), "36000 characters in answer to a request for at most 50 tokens"),
    ({"choices": [{"message": {"content": None, "refusal": "I will not"}}]}, "the model refused: I will not"),
    ({"choices": [{"message": {"content": None, "tool_calls": [{"id": 1}]}}]}, "calls a tool and says nothing"),
    ({"choices": []}, "choices: a list with one answer"),
    ({"choices": [{"text": "old route"}]}, "choices[0].message: an object"),
    ({"error": {"message": "upstream died", "code": 502}}, "an error in place of an answer: upstream died"),
    ({}, "choices: a list"),
    (Reply.json([1]), "the answer is a list, not an object"),
    (Reply.json("x"), "the answer is text, not an object"),
    (Reply(200, b"{'choices': oh"), "the answer is no JSON: \"{'choices': oh\""),
    (Reply(200, b"<html>a page</html>", {"Content-Type": "text/html"}), "the answer is no JSON: '<html>a page</html>'"),
    (Reply(200, b"\xff\xfe\x00"), "the answer is no JSON"),
    (Reply(200, b"[" * 200_000), "the answer is no JSON: '["),
    (Reply(200, b"{}", {"Content-Encoding": "gzip"}), "the answer is no JSON: '(cannot be read: Error -3"),
    (Reply.error(400, "'temperature' is not supported"), "(HTTP 400: 'temperature' is not supported)"),
    (Reply.error(422, "min_p: extra field"), "(HTTP 422: min_p: extra field)"),
])  # fmt: skip
def test_an_answer_that_says_nothing_is_an_aborted_turn_with_the_reason(
    server: FakeOpenAI, answer: Any, reason: str
) -> None:
    server.answer = lambda body: answer
    done = only(engine(server))
    assert (done.finish, done.token_ids, done.text) == (Finish.ABORT, (), None) and reason in done.error


def test_text_in_parts_is_put_together(server: FakeOpenAI) -> None:
    server.answer = lambda body: completion(
        [{"type": "text", "text": "a"}, {"type": "x"}, {"type": "text", "text": "b"}]
    )
    assert only(engine(server)).text == "ab"


def test_a_conversation_too_long_for_the_model_is_cut_and_no_error(server: FakeOpenAI) -> None:
    server.answer = lambda body: Reply.error(400, "This model's maximum context length is 8192 tokens, however ...")
    done = only(engine(server))
    assert (done.finish, done.token_ids, done.text, done.error) == (Finish.CONTEXT, (), "", "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NEARLY = st.fixed_dictionaries({}, optional={
    "choices": st.lists(st.fixed_dictionaries({}, optional={
        "message": JSON | st.fixed_dictionaries({}, optional={"content": JSON, "refusal": JSON, "tool_calls": JSON}),
        "finish_reason": st.sampled_from(["stop", "length", "content_filter", "tool_calls"]) | JSON,
        "token_ids": st.lists(st.integers()) | JSON,
        "logprobs": st.fixed_dictionaries({"content": st.lists(st.fixed_dictionaries({"logprob": JSON}))}) | JSON,
    }), max_size=2) | JSON,
    "usage": st.fixed_dictionaries({}, optional={"prompt_tokens": JSON, "completion_tokens": JSON}) | JSON,
    "prompt_token_ids": JSON, "error": JSON, "data": st.lists(st.fixed_dictionaries({"id": JSON})) | JSON,
})  # fmt: skip


@given(JSON | NEARLY)
def test_no_answer_whatever_it_is_makes_an_error_of_ours(answer: Any) -> None:
    done = NOWHERE._heard(request(), Answered(200, answer))
    assert len(done.token_ids) == len(done.logprobs)
    assert (done.finish is Finish.ABORT) == bool(done.error) and (done.finish is Finish.ABORT or done.text)
    assert done.text is None or done.text.encode()
    assert (chat.usage(answer).whole or 0) >= 0
    assert all(isinstance(name, str) for name in chat.listed(answer))


@given(NEARLY, st.integers(1, 60))
def test_reading_an_answer_gives_words_or_a_reason(answer: Any, budget: int) -> None:
    try:
        said = chat.read(answer, budget)
    except Malformed as problem:
        assert str(problem)
    else:
        assert said.text and said.finish is not Finish.ABORT and len(said.logprobs) in (0, len(said.token_ids))


@given(st.text(min_size=1), st.sampled_from([Finish.STOP, Finish.LENGTH, Finish.CONTEXT]))
def test_the_policys_tokens_of_a_text_go_on_to_the_next_prompt_as_if_sampled(text: str, finish: Finish) -> None:
    ids = policy_tokens(text, finish, RENDERER)
    whole = RENDERER.open([Message("user", "?"), Message("assistant", text), Message("user", "!")]).token_ids
    parts = (
        RENDERER.open([Message("user", "?")]).token_ids
        + ids
        + RENDERER.extend(finish, [Message("user", "!")]).token_ids
    )
    assert parts == whole


# -- token ids and log-probs -------------------------------------------------------------------------------------------


def vllm(body: Any, **changes: Any) -> Any:
    """What a vLLM server of the policy's own tokenizer says."""
    ids = [*b"yes", ByteRenderer.END]
    talk = [Message(one["role"], one["content"]) for one in body["messages"]]
    found = completion("yes", token_ids=ids, logprobs={"content": [{"logprob": -0.5}] * 3 + [{"logprob": 0}]})
    return found | {"prompt_token_ids": list(RENDERER.open(talk).token_ids)} | changes


def test_ids_and_log_probs_are_kept_where_they_are_the_policys_own(server: FakeOpenAI) -> None:
    server.answer = vllm
    done = only(engine(server, logprobs=True))
    assert (done.token_ids, done.logprobs) == ((*b"yes", 260), (-0.5, -0.5, -0.5, 0.0))
    assert server.asked[0]["return_token_ids"] is True and server.asked[0]["logprobs"] is True


@pytest.mark.parametrize("changes", [{"prompt_token_ids": [1, 2]}, {"prompt_token_ids": None}])
def test_ids_of_another_tokenizer_are_not_taken_for_the_policys(server: FakeOpenAI, changes: Any) -> None:
    server.answer = lambda body: vllm(body, **changes)
    assert all(map(math.isnan, only(engine(server, logprobs=True)).logprobs))


@pytest.mark.parametrize("odd", [0.5, math.inf, math.nan, None, "-1", True, 10**400])
def test_log_probs_that_are_none_are_unknown(server: FakeOpenAI, odd: Any) -> None:
    ids = [*b"yes", ByteRenderer.END]
    choice: dict[str, Any] = {"token_ids": ids, "logprobs": {"content": [{"logprob": -0.5}] * 3 + [{"logprob": odd}]}}
    server.answer = lambda body: vllm(body) | completion("yes", **choice)
    done = only(engine(server, logprobs=True))
    assert done.token_ids == tuple(ids) and all(map(math.isnan, done.logprobs))


@pytest.mark.parametrize("sampling", [{"temperature": 0.7}, {"top_p": 0.9}])
def test_log_probs_of_another_distribution_are_unknown(server: FakeOpenAI, sampling: Any) -> None:
    server.answer = vllm
    done = only(engine(server, logprobs=True), request(**sampling))
    assert done.token_ids == (*b"yes", 260) and all(map(math.isnan, done.logprobs))


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [
    Reply.error(500, "oh"), Reply.error(503, "loading"), Reply.error(429, "slow down", Retry_After="0"),
    Reply(502, b"<html>bad gateway</html>"), Reply(200, json.dumps(completion("cut")).encode(), cut=True),
])  # fmt: skip
def test_a_passing_fault_is_waited_out(server: FakeOpenAI, fault: Reply) -> None:
    server.faults += [fault, fault]
    assert only(engine(server)).text == "hello" and server.chats == 3


def test_a_server_that_dies_in_mid_rollout_and_comes_back_is_survived(server: FakeOpenAI) -> None:
    died = threading.Event()

    def mortal(body: Any) -> str:
        if server.chats == 5 and not died.is_set():
            died.set()
            server.die()
            threading.Timer(0.2, server.revive).start()
        return str(body["messages"][0]["content"])

    server.answer = mortal
    done = ask(engine(server, concurrency=2), *(request(f"{n}") for n in range(12)))
    assert [one.text for one in done] == [f"{n}" for n in range(12)] and died.is_set()


def test_a_server_that_stays_down_aborts_its_turns_and_says_where(server: FakeOpenAI) -> None:
    made = engine(server, patience_s=0.3, retries=2)
    server.die()
    done = ask(made, request("a"), request("b"))
    assert [one.finish for one in done] == [Finish.ABORT] * 2
    assert server.url in done[0].error and "cannot be reached" in done[0].error


def test_a_server_that_takes_too_long_aborts_the_turn(server: FakeOpenAI) -> None:
    server.faults += [Reply(hangs=True)] * 2
    done = only(engine(server, timeout_s=0.2, retries=1, patience_s=5))
    assert done.finish is Finish.ABORT and "no answer to /chat/completions in 0.2 s" in done.error


def test_a_wrong_key_stops_everything_and_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    with FakeOpenAI(key="another") as server:
        made = engine(server, api_key_env=VARIABLE)
        with pytest.raises(EngineError, match=f"HTTP 401.*environment variable {VARIABLE}") as refused:
            ask(made, *(request(str(n)) for n in range(60)))
        assert KEY not in str(refused.value) and set(server.keys) == {f"Bearer {KEY}"} and server.chats == 0
        assert len(server.keys) < 60  # those that waited for a place were not sent


def test_no_credit_stops_everything(server: FakeOpenAI) -> None:
    server.faults.append(Reply.error(402, "Insufficient Balance"))
    with pytest.raises(EngineError, match=r"wants to be paid \(HTTP 402: Insufficient Balance\)"):
        ask(engine(server))


def test_a_model_the_server_does_not_have_is_told_with_those_it_has(server: FakeOpenAI) -> None:
    server.models = ["judge-small", "judge-large"]
    made = engine(server, model="judge-smal")
    for met in (made.ready, lambda: made.generate([request()])):
        with pytest.raises(
            EngineError, match=r"did you mean 'judge-small'\? it lists the models judge-small, judge-large"
        ):
            asyncio.run(met())


# -- before a run begins -----------------------------------------------------------------------------------------------


def test_a_model_that_is_an_alias_is_asked_for_once(server: FakeOpenAI) -> None:
    server.models = None
    made = engine(server)
    asyncio.run(made.ready())
    assert [body["messages"][0]["content"] for body in server.asked] == ["Hi"]


def test_a_listed_model_costs_nothing_to_find(server: FakeOpenAI) -> None:
    asyncio.run(engine(server).ready())
    assert server.chats == 0


def test_an_address_of_something_else_is_told(server: FakeOpenAI) -> None:
    made = engine(server, url=server.url.removesuffix("/v1"))
    with pytest.raises(EngineError, match=r"HTTP 404.*often in /v1"):
        asyncio.run(made.ready())


def test_a_server_that_is_not_there_is_told(server: FakeOpenAI) -> None:
    made = engine(server, patience_s=0.1)
    server.die()
    with pytest.raises(EngineError, match=r"cannot be reached.*start the server, or mend the engine's url"):
        asyncio.run(made.ready())


def test_a_key_that_is_not_there_is_named(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(EngineError, match=f"environment variable {VARIABLE} is not set"):
        engine(server, api_key_env=VARIABLE)


# -- what it may cost --------------------------------------------------------------------------------------------------


def test_a_budget_of_tokens_is_kept_and_what_it_stops_says_so(server: FakeOpenAI) -> None:
    server.answer = lambda body: completion("yes", usage=(40, 10))
    made = engine(server, budget_tokens=240, concurrency=3)
    done = ask(made, *(request("q") for _ in range(9)))
    assert [one.text for one in done[:3]] == ["yes"] * 3 and made.budget.used == 50 * server.chats <= 240
    assert made.budget.under_way == 0 and done[-1].finish is Finish.ABORT
    assert "budget_tokens is 240, of which" in done[-1].error and "Raise it" in done[-1].error


def test_a_server_that_does_not_count_is_taken_to_have_used_the_most(server: FakeOpenAI) -> None:
    server.answer = lambda body: completion("yes", usage=None)
    made = engine(server)
    asked = request("q")
    ask(made, asked)
    assert made.budget.used == len(asked.prompt_ids) + 50


def test_an_answer_that_says_nothing_is_counted_too(server: FakeOpenAI) -> None:
    server.answer = lambda body: completion("", usage=(30, 50))
    made = engine(server)
    ask(made)
    assert made.budget.used == 80


# -- keys and options --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({"url": "ftp://x/v1"}, "is no address"),
    ({"url": "https://user:pw@host/v1"}, "holds more than an address"),
    ({"url": "https://host/v1?key=abc"}, "holds more than an address"),
    ({"api_key_env": KEY}, "is the name of an environment variable"),
    ({"api_key_env": "hf_AbCd123"}, "is the name of an environment variable"),
    ({"extra": {"api_key": "x"}}, "api_key looks like a secret"),
    ({"extra": {"a": [{"Authorization": "x"}]}}, "a[0].Authorization looks like a secret"),
    ({"extra": {"note": f"Bearer {KEY}"}}, "note looks like a secret"),
    ({"extra": {"note": KEY}}, "note looks like a secret"),
    ({"extra": {"messages": []}}, "messages is the engine's own"),
    ({"model": ""}, "is empty"),
    ({"prompt": "x"}, "unknown option of 'openai' 'prompt'"),
])  # fmt: skip
def test_options_that_cannot_be_or_hold_a_secret_are_refused_without_repeating_it(
    small: Callable[[Any], Scenario], options: Any, words: str
) -> None:
    with pytest.raises(ScenarioError) as refused:
        small({"url": "http://127.0.0.1:9/v1", "model": "m"} | options)
    assert words in str(refused.value) and KEY not in str(refused.value) and "pw" not in str(refused.value).split()


@pytest.fixture
def small(scenario: Path) -> Callable[[Any], Scenario]:
    """``small(options)``: the scenario whose critic has such an engine, checked."""

    def checked(options: Any) -> Scenario:
        engine = json.dumps({"kind": "openai"} | options)
        text = scenario.read_text()
        scenario.write_text(text.replace("kind: critic,", f"kind: critic, trainable: false, engine: {engine},"))
        return load(scenario)

    return checked


def test_a_number_that_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="holds a number that JSON cannot say"):
        OpenAiEngine.Config(url="http://h/v1", model="m", extra={"x": math.inf})


@pytest.mark.parametrize("name", ["max_new_tokens", "logit_bias", "prompt_cache_key", "stop", "keywords", "authority"])
def test_fields_that_only_sound_like_secrets_are_taken(name: str) -> None:
    config = OpenAiEngine.Config(url="http://h/v1", model="m", extra={name: {"a": [1, "two", None]}})
    assert config.extra == {name: {"a": [1, "two", None]}}


def test_the_key_is_in_no_text_of_engine_or_answer(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    server.answer = lambda body: completion(f"your key is {KEY}!")
    made = engine(server, api_key_env=VARIABLE)
    done = only(made)
    assert done.text == "your key is ***!" and RENDERER.decode(done.token_ids) == done.text
    for answer in (Reply.error(400, KEY), Reply(200, KEY.encode()), completion(None, refusal=KEY)):
        server.answer = lambda body, answer=answer: answer
        assert KEY not in repr(only(made))
    assert KEY not in f"{made!r} {made.client!r} {made.config!r} {made.note} {vars(made.config)}"


def test_a_key_written_into_the_options_is_refused(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0123-plain-key")
    with pytest.raises(EngineError, match=f"the key in {VARIABLE} also stands in the engine's options") as refused:
        engine(server, api_key_env=VARIABLE, extra={"user": "0123-plain-key"})
    assert "0123-plain-key" not in str(refused.value)


def test_a_word_that_serves_as_a_key_is_left_in_what_is_said(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "none")
    server.answer = "none of them"
    assert only(engine(server, api_key_env=VARIABLE)).text == "none of them"
