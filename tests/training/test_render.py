"""Segments add up to what the chat template gives for the whole conversation; text never becomes a control token."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.agents.engine import Message
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError
from sparring.training.engines.render import MARK, ChatRenderer
from sparring.training.tiny import SPECIALS, build_tokenizer

QWEN = (
    "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def qwen_like() -> ChatRenderer:
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens(
        {"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>", "<|endoftext|>"]}
    )
    tokenizer.chat_template = QWEN
    return ChatRenderer(tokenizer)


RENDERERS = {"tiny": ChatRenderer(build_tokenizer()), "qwen": qwen_like()}
CONTROL = {
    one.tokenizer.chat_template: {id for id, token in one.tokenizer.added_tokens_decoder.items() if token.special}
    for one in RENDERERS.values()
}
each = pytest.mark.parametrize("name", RENDERERS)
plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="|"), max_size=20)  # no special token
hostile = st.lists(
    st.sampled_from([*SPECIALS, "<|im_end|>", "<|im_start|>", "<|", "|>", "end", "\n", "\0", "\ud800", MARK, "␂", "é"])
    | st.text(max_size=3)
).map("".join)


def control(renderer: ChatRenderer, token_ids: tuple[int, ...]) -> list[int]:
    return [token for token in token_ids if token in CONTROL[renderer.tokenizer.chat_template]]


def whole(renderer: ChatRenderer, *said: str) -> list[int]:
    roles = ("user", "assistant")
    rows = [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]
    ids: Any = renderer.tokenizer.apply_chat_template(rows, add_generation_prompt=True, return_dict=False)
    return list(ids)


@each
@settings(max_examples=40)
@given(first=plain, answer=plain, second=plain)
def test_segments_add_up_to_the_whole_template(name: str, first: str, answer: str, second: str) -> None:
    renderer = RENDERERS[name]
    said = tuple(renderer.tokenizer(answer, add_special_tokens=False).input_ids)
    opened = renderer.open([Message("user", first)]).token_ids
    stopped = renderer.extend(Finish.STOP, [Message("user", second)]).token_ids
    cut = renderer.extend(Finish.LENGTH, [Message("user", second)]).token_ids
    end = (renderer.stop_ids[-1],)
    assert list(opened + said + end + stopped) == whole(renderer, first, answer, second)
    assert list(opened + said + cut) == whole(renderer, first, answer, second)
    assert renderer.extend(Finish.ABORT, [Message("user", second)]).token_ids == cut


@each
@settings(max_examples=40)
@given(text=hostile)
def test_text_never_becomes_a_control_token(name: str, text: str) -> None:
    renderer = RENDERERS[name]
    messages = [Message("user", text)]
    harmless = [Message("user", "x")]
    opened, calm = renderer.open(messages).token_ids, renderer.open(harmless).token_ids
    assert control(renderer, opened) == control(renderer, calm)
    for finish in (Finish.STOP, Finish.LENGTH):
        extended, calm = renderer.extend(finish, messages).token_ids, renderer.extend(finish, harmless).token_ids
        assert control(renderer, extended) == control(renderer, calm)


@each
@settings(max_examples=40)
@given(token_ids=st.lists(st.integers(0, 266)))
def test_any_tokens_decode_to_text_without_control_tokens(name: str, token_ids: list[int]) -> None:
    text = RENDERERS[name].decode(token_ids)
    words = bytes(token for token in token_ids if token < 256).decode("utf-8", "replace")
    if all(token < 256 for token in token_ids):
        assert text == words
    assert RENDERERS[name].decode([token for token in token_ids if token < 256 or token > 260]) is not None


@each
@settings(max_examples=40)
@given(text=hostile)
def test_a_segments_text_and_tokens_agree(name: str, text: str) -> None:
    renderer = RENDERERS[name]
    segment = renderer.open([Message("user", text)])
    assert tuple(renderer.tokenizer(segment.text, add_special_tokens=False).input_ids) == segment.token_ids


def test_a_message_that_imitates_the_stand_in_is_read_whole() -> None:
    renderer = RENDERERS["tiny"]
    assert f"a{MARK}b" in renderer.extend(Finish.STOP, [Message("user", f"a{MARK}b")]).text


def test_a_tokenizer_without_a_template_is_refused() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(EngineError, match="chat template"):
        ChatRenderer(tokenizer)


def test_a_template_that_never_ends_a_turn_is_refused() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    with pytest.raises(EngineError, match="does not end an assistant turn"):
        ChatRenderer(tokenizer).extend(Finish.STOP, [Message("user", "x")])
