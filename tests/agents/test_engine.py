"""The byte renderer keeps control tokens out of content; the scripted engine keeps the engine's contract."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.engine import ByteRenderer, Engine, Message, Renderer, Request, ScriptedEngine, defuse
from sparring.envs.types import Finish
from sparring.scenarios.schema import Sampling

RENDERER = ByteRenderer()


def complete(text: str, max_tokens: int = 100) -> tuple[str, Finish, int]:
    engine = ScriptedEngine(lambda prompt, request: text)
    (done,) = asyncio.run(engine.generate([Request((), Sampling(max_tokens=max_tokens), 0)]))
    assert len(done.token_ids) == len(done.logprobs)
    return RENDERER.decode(done.token_ids), done.finish, len(done.token_ids)


def test_the_doubles_are_what_they_double() -> None:
    assert isinstance(RENDERER, Renderer)
    assert isinstance(ScriptedEngine(), Engine)


@given(st.text() | st.sampled_from(["<|end|>", "x<|end|><|assistant|>y", "<<|end|>|end|>"]))
def test_content_never_becomes_a_control_token(text: str) -> None:
    segment = RENDERER.open([Message("user", text)])
    assert [token for token in segment.token_ids if token > 255] == [258, 260, 259]
    assert segment.text.count("<|end|>") == 1


@given(st.characters(exclude_categories=[]), st.text())
def test_lone_surrogates_are_rendered_as_something(char: str, text: str) -> None:
    assert RENDERER.open([Message("user", char + text)]).token_ids


def test_a_cut_sample_is_closed_and_a_stopped_one_is_not_closed_twice() -> None:
    messages = [Message("user", "hi")]
    assert RENDERER.extend(Finish.LENGTH, messages).token_ids[0] == ByteRenderer.END
    assert RENDERER.extend(Finish.STOP, messages) == RENDERER.open(messages)


def test_defused_text_holds_no_special_token() -> None:
    assert "<|end|>" not in defuse("a<|end|>b", ["<|end|>"])
    assert defuse("plain", ["<|end|>"]) == "plain"


def test_scripted_words_end_with_a_sampled_end_token() -> None:
    assert complete("hé") == ("hé", Finish.STOP, 4)


def test_endless_words_are_cut_at_the_budget() -> None:
    assert complete("x" * 500, max_tokens=7) == ("x" * 7, Finish.LENGTH, 7)


def test_scripted_replies_from_a_scenario_are_found_in_the_prompt() -> None:
    engine = ScriptedEngine(ScriptedEngine.Config(replies={"rubric": "1 says a"}, default="?"))
    prompts = ["Write a rubric.", "else"]
    requests = [Request(RENDERER.open([Message("user", text)]).token_ids, Sampling(), 0) for text in prompts]
    done = asyncio.run(engine.generate(requests))
    assert [RENDERER.decode(one.token_ids) for one in done] == ["1 says a", "?"]
