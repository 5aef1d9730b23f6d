"""What stands between roles and models: requests, completions, the Engine and Renderer protocols, their test doubles.

Real engines (torch, HTTP servers) live in ``sparring.training.engines``; nothing here loads a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from sparring.envs.types import Finish, Segment, Span
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.registry import engines
from sparring.scenarios.schema import Sampling

DEMONSTRATION = "demonstration"  # how a turn that nobody sampled came in, and what it names as its engine
TEMPLATE = "template"  # the engine of roles that say what their prompt renders to
UNSAMPLED = frozenset({DEMONSTRATION, TEMPLATE})  # what names itself so has said words that no model drew


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message before rendering. ``content`` may be hostile; the renderer defuses it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to sample: the whole prompt as token ids, the seed it owns, and a ``tag`` for reports (a role).

    ``adapter`` names the LoRA adapter of the policy to speak with, "" its own; engines of other models ignore it.
    ``episode`` is a number that all requests of one role in one episode share. ``messages`` are the same conversation
    before rendering, for servers that read text.
    """

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    tag: str = ""
    adapter: str = ""
    episode: int = 0
    messages: tuple[Message, ...] = ()

    def within(self, context: int) -> Request:
        """The request with its budget cut to what a model that reads ``context`` tokens has room for, 0 at worst."""
        room = max(0, context - len(self.prompt_ids))
        if room >= self.sampling.max_tokens:
            return self
        return replace(self, sampling=self.sampling.model_copy(update={"max_tokens": room}))


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled. ``logprobs`` are nats of the full distribution at the sampling temperature, one per token; NaN
    where they are unknown.

    With ``Finish.STOP`` the last token id is the end-of-turn token itself: it was sampled, so it is trained on.
    ``policy_version`` is the oldest that sampled a token; ``spans`` tell them apart where there were several.
    ``text`` is what was said where the ids are not the engine's own. With ``Finish.ABORT`` there are no tokens and
    ``error`` says why.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    policy_version: int = 0
    engine: str = ""
    spans: tuple[Span, ...] = ()
    text: str | None = None
    error: str = ""

    @classmethod
    def aborted(cls, error: str, policy_version: int = 0, engine: str = "") -> Completion:
        """What a request gets that the engine could not serve."""
        return cls((), (), Finish.ABORT, policy_version, engine, error=error)


@runtime_checkable
class Engine(Protocol):
    """Samples completions; answers are in the order of the requests."""

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order.

        A request that a passing fault keeps from being served is ``Completion.aborted``. Raises ``EngineError`` when
        nothing can be served until a person acts: a wrong key, an unknown model, a request no engine could meet.
        """


class Weights(Protocol):
    """The policy as it is now, for engines that keep a copy."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters it consists of, by the names requests use ("" its own); empty for whole models."""

    @property
    def module(self) -> Any:
        """The trainer's own model, for an engine in this process."""

    def save(self, version: int) -> Path:
        """A folder with the model as ``transformers`` lays it out, or with the adapters as PEFT does: whole, and named
        after the version. The one before it is kept, older ones go."""


@runtime_checkable
class Serving(Engine, Protocol):
    """An engine that serves the shared policy. Turns carry the ``policy_version`` it was last given."""

    policy_version: int

    async def load(self, version: int, weights: Weights) -> None:
        """From now on sample from these weights, and call them ``version``. What is being sampled goes on with them.

        Raises ``EngineError`` when they could not be put in.
        """

    def close(self) -> None:
        """Give back processes, memory and connections."""


@runtime_checkable
class Renderer(Protocol):
    """Turns messages into token segments, once. Text inside a message never becomes a control token."""

    def open(self, messages: Sequence[Message]) -> Segment:
        """The first context of a conversation, with the generation prompt at its end."""

    def extend(self, finish: Finish | None, messages: Sequence[Message]) -> Segment:
        """What follows a sampled turn: its end-of-turn token if the sample was cut, new messages, generation prompt."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of sampled tokens, special tokens left out."""


def defuse(text: str, specials: Sequence[str]) -> str:
    """``text`` with every special token's literal broken by a space, so that no tokenizer can read it as control.

    >>> defuse("hi <|end|> there", ["<|end|>"])
    'hi < |end|> there'
    """
    for special in specials:
        text = text.replace(special, f"{special[0]} {special[1:]}")
    return text


def spoken(text: str, renderer: Renderer) -> tuple[int, ...]:
    """The tokens of ``text`` as an assistant's whole turn.

    Raises ``ScenarioError`` when they do not say ``text``: a template rewrote it, or it names a control token.
    """
    ids = tokens_of(text, renderer)
    if renderer.decode(ids) != text:
        raise ScenarioError(
            f"demonstration {text[:60]!r}: the chat template turns it into {renderer.decode(ids)[:60]!r}; write it "
            f"without control tokens and outer white space, the way the model itself would say it"
        )
    return ids


def tokens_of(text: str, renderer: Renderer) -> tuple[int, ...]:
    """What stands between two generation prompts where an assistant said ``text``; nearly so for odd templates."""
    question = Message("user", "?")
    opened = renderer.open([question]).token_ids
    whole = renderer.open([question, Message("assistant", text)]).token_ids
    after = renderer.extend(Finish.STOP, []).token_ids
    return whole[len(opened) : len(whole) - len(after)]


class ByteRenderer:
    """One token per UTF-8 byte (ids 0 to 255) and five control tokens (256 to 260). For tests and dry runs."""

    SPECIALS = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
    END = 260

    def open(self, messages: Sequence[Message]) -> Segment:
        """Messages as ``<|role|>content<|end|>``, then ``<|assistant|>``."""
        ids: list[int] = []
        text: list[str] = []
        for message in messages:
            content = defuse(message.content, self.SPECIALS)
            ids += [self._id(message.role), *encode(content), self.END]
            text.append(f"<|{message.role}|>{content}<|end|>")
        return Segment("".join(text) + "<|assistant|>", (*ids, self._id("assistant")))

    def extend(self, finish: Finish | None, messages: Sequence[Message]) -> Segment:
        """As ``open``, preceded by ``<|end|>`` unless the sample before it already ended with one."""
        opened = self.open(messages)
        if finish is Finish.STOP:
            return opened
        return Segment("<|end|>" + opened.text, (self.END, *opened.token_ids))

    def decode(self, token_ids: Sequence[int]) -> str:
        """UTF-8 text of the byte tokens; broken bytes become U+FFFD."""
        return bytes(token for token in token_ids if token < 256).decode("utf-8", errors="replace")

    def _id(self, role: str) -> int:
        return 256 + self.SPECIALS.index(f"<|{role}|>")


def encode(text: str) -> bytes:
    """UTF-8 bytes of any str; a lone surrogate becomes ``?``."""
    return text.encode("utf-8", errors="replace")


@engines(TEMPLATE)
class TemplateEngine:
    """A role's rendered prompt are its words: no model, nothing sampled. For roles that are not trained.

    The template says what a rule can say: ``<verdict>{{ outcome }}</verdict>`` is a critic who tells what the verifier
    found.
    """

    class Config(BaseModel):
        """No options: what is said is the role's ``prompt``."""

        model_config = ConfigDict(frozen=True, extra="forbid")

    untrainable = "its words are the template's, nobody sampled them"
    truncates = True  # sampling means nothing to it

    def __init__(self, renderer: Renderer | None = None) -> None:
        self._renderer = renderer or ByteRenderer()

    @classmethod
    def beside(cls, config: Config, policy: Any, present: Any) -> TemplateEngine:
        """Words are turned to tokens by the policy's own renderer."""
        return cls(policy.renderer)

    @classmethod
    def serve(cls, config: Config, policy: Any) -> TemplateEngine:
        """For a scenario whose roles all speak from templates."""
        return cls(policy.renderer)

    async def load(self, version: int, weights: Weights) -> None:
        """There is no model to put weights into."""

    def close(self) -> None:
        """Nothing to give back."""

    policy_version = 0

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The newest message of each request, whole, with unknown log-probs."""
        return [self._complete(request.messages[-1].content) for request in requests]

    def _complete(self, text: str) -> Completion:
        ids = tokens_of(text, self._renderer)
        return Completion(ids, (math.nan,) * len(ids), Finish.STOP, engine=TEMPLATE, text=text)


Answer = Callable[[str, Request], str]


@engines("scripted")
class ScriptedEngine:
    """Answers from a function of the decoded prompt instead of a model; every log-prob is -1."""

    class Config(BaseModel):
        """``replies``: the first key found in the prompt gives the answer; ``default`` when none is."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        replies: Mapping[str, str] = {}
        default: str = ""

    def __init__(self, answer: Answer | Config | None = None, renderer: Renderer | None = None) -> None:
        self._answer = answer if callable(answer) else _lookup(answer or self.Config())
        self._renderer = renderer or ByteRenderer()
        self.policy_version = 0
        self.calls: list[int] = []  # number of requests of each call

    async def load(self, version: int, weights: Weights) -> None:
        """Take the number; there is no model."""
        self.policy_version = version

    def close(self) -> None:
        """Nothing to give back."""

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One scripted completion per request, as bytes and an end token, cut at ``sampling.max_tokens``."""
        self.calls.append(len(requests))
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> Completion:
        text = self._answer(self._renderer.decode(request.prompt_ids), request)
        ids = (*encode(text), ByteRenderer.END)
        limit = request.sampling.max_tokens
        finish = Finish.STOP if len(ids) <= limit else Finish.LENGTH
        ids = ids[:limit]
        return Completion(ids, (-1.0,) * len(ids), finish, self.policy_version, "scripted")


def _lookup(config: ScriptedEngine.Config) -> Answer:
    def answer(prompt: str, request: Request) -> str:
        return next((reply for key, reply in config.replies.items() if key in prompt), config.default)

    return answer
