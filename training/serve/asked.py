"""What clients of OpenAI's routes may say: the fields that are read, those that must not change anything, and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sparring.agents.engine import Message
from sparring.scenarios.schema import Sampling

from .refusals import Refusal, read

OFF: Mapping[str, tuple[Any, ...]] = {  # what fields that are not supported may say all the same: nothing
    "tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"), "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},), "logit_bias": ({},), "presence_penalty": (0,), "frequency_penalty": (0,),
    "repetition_penalty": (1,), "best_of": (1,), "echo": (False,), "suffix": ("",), "modalities": (["text"],),
    "audio": (), "prediction": (), "min_tokens": (0,), "ignore_eos": (False,), "stop_token_ids": ([],),
    "use_beam_search": (False,), "prompt_logprobs": (), "structured_outputs": (), "guided_json": (),
    "guided_regex": (), "guided_choice": (), "guided_grammar": (), "add_generation_prompt": (True,),
    "continue_final_message": (False,), "chat_template": (),
}  # fmt: skip
NOTHING = {"top_p": (1,), "top_k": (0, -1), "min_p": (0,)}
SPOKEN = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
MOST_CHOICES = 256


class StreamOptions(BaseModel):
    """``include_usage``: a last chunk counts tokens."""

    model_config = ConfigDict(frozen=True)
    include_usage: bool = False


class Asked(BaseModel):
    """What both routes read. Other fields are OpenAI's or vLLM's and change nothing, or are refused (``OFF``)."""

    model_config = ConfigDict(frozen=True)
    model: str | None = None
    n: int = Field(default=1, ge=1, le=MOST_CHOICES)
    temperature: float | None = Field(default=None, ge=0, le=10)
    max_tokens: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = None
    stop: list[str] = Field(default_factory=list, max_length=16)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    return_token_ids: bool = False

    @field_validator("n", "stream", "stream_options", "return_token_ids", "stop", mode="before")
    @classmethod
    def _unsaid(cls, value: Any, info: Any) -> Any:
        if value is None:  # clients say null for what they leave to the server
            return cls.model_fields[info.field_name].get_default(call_default_factory=True)
        return [value] if info.field_name == "stop" and isinstance(value, str) else value

    @field_validator("top_p", "top_k", "min_p")
    @classmethod
    def _whole(cls, value: Any, info: Any) -> Any:
        return None if value in NOTHING[info.field_name] else value

    def sampling(self, default: Sampling) -> Sampling:
        """How to draw, with ``default`` where the request says nothing."""
        said = {
            "temperature": self.temperature, "max_tokens": self.budget, "top_p": self.top_p, "top_k": self.top_k,
            "min_p": self.min_p,
        }  # fmt: skip
        return default.model_copy(update={key: value for key, value in said.items() if value is not None})

    @property
    def budget(self) -> int | None:
        """The tokens an answer may have, where that is said."""
        return self.max_tokens


class ChatAsked(Asked):
    """A chat completion. ``logprobs`` are of the sampled tokens alone."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=0)

    @property
    def budget(self) -> int | None:
        """OpenAI's newer name goes before its older one."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class TextAsked(Asked):
    """A completion of text, or of token ids."""

    prompt: str | list[int] | list[str] | list[list[int]]
    logprobs: int | None = Field(default=None, ge=0, le=0)


def asked(shape: type[Any], body: dict[str, Any]) -> Any:
    """The body as ``shape``. Raises ``Refusal`` for what is wrong in it, and for what would have to be ignored."""
    for name, harmless in OFF.items():
        value = body.get(name)
        if value is not None and value not in harmless:
            raise Refusal(400, f"{name}: this server cannot do that; leave it out", name)
    for name in ("logprobs", "top_logprobs"):
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            raise Refusal(400, f"{name}: only log-probs of sampled tokens are known, none of others; say 0", name)
    return read(shape, body)


def messages_of(rows: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Chat messages as text. Raises ``Refusal`` for those of tools, and for parts that are no text."""
    found = []
    for at, row in enumerate(rows):
        role = row.get("role")
        if not isinstance(role, str) or role not in SPOKEN:
            told = f"{role!r} is none of {', '.join(SPOKEN)}; put what tools say into a user message"
            raise Refusal(400, f"messages.{at}.role: {told}", f"messages.{at}.role")
        if row.get("tool_calls") or row.get("function_call"):
            raise Refusal(400, f"messages.{at}: calls of tools cannot be read; put them into the text", "messages")
        found.append(Message(SPOKEN[role], _text(row.get("content"), f"messages.{at}.content")))  # type: ignore[arg-type]  # one of the three, by SPOKEN
    return tuple(found)


def _text(content: Any, field: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        parts = [part.get("text") for part in content]
        if all(isinstance(part, str) for part in parts):
            return "".join(parts)
    raise Refusal(400, f"{field}: text, or a list of text parts, is needed", field)
