"""Messages to token segments through a model's own tokenizer and chat template, each segment rendered once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparring.agents.engine import Message, defuse
from sparring.envs.types import Finish, Segment
from sparring.scenarios.errors import EngineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "\u2402spoken\u2403"  # stands for what a model said; no template rewrites it


class ChatRenderer:
    """Keeps the renderer contract of ``sparring.agents.engine`` for any tokenizer with a chat template.

    ``stop_ids`` are the tokens that end a turn. Special-token text inside messages is broken up before tokenizing.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int] = ()) -> None:
        if not tokenizer.chat_template:
            raise EngineError(f"tokenizer {tokenizer.name_or_path!r} has no chat template; use an instruct model")
        self.tokenizer: Any = tokenizer
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys((*stop_ids, self._end_id())))
        self._specials = sorted(
            {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}, key=len, reverse=True
        )

    def open(self, messages: Sequence[Message]) -> Segment:
        """The first context of a conversation, with the generation prompt at its end."""
        return self._segment(self._template(messages))

    def extend(self, finish: Finish | None, messages: Sequence[Message]) -> Segment:
        """What follows a sampled turn, found as the template's difference against a stand-in conversation."""
        stand_in = [Message("user", "?"), Message("assistant", MARK)]
        tail = self._template([*stand_in, *messages]).partition(MARK)[2]
        end = self.tokenizer.decode([self._end_id()])
        if not tail.startswith(end):
            raise EngineError(f"the chat template does not end an assistant turn with {end!r}; found {tail[:20]!r}")
        return self._segment(tail.removeprefix(end) if finish is Finish.STOP else tail)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of sampled tokens, special tokens left out."""
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text

    def _template(self, messages: Sequence[Message]) -> str:
        rows = [{"role": message.role, "content": defuse(message.content, self._specials)} for message in messages]
        text: str = self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
        return text

    def _segment(self, text: str) -> Segment:
        plain = text.encode("utf-8", errors="replace").decode()  # lone surrogates have no bytes
        return Segment(plain, tuple(self.tokenizer(plain, add_special_tokens=False).input_ids))

    def _end_id(self) -> int:
        end = self.tokenizer.eos_token_id
        if end is None:
            raise EngineError(f"tokenizer {self.tokenizer.name_or_path!r} names no end-of-turn token")
        return int(end)
