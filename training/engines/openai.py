"""The engine ``openai``: roles that are not trained speak through any server with OpenAI's chat route.

What goes over the wire is in ``chat.py``, how faults are waited out in ``http.py``.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from sparring.agents.engine import Completion, Renderer, Request, Weights, tokens_of
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError
from sparring.scenarios.registry import engines, nearest

from .chat import MODELS, OWN, ROUTE, Limit, Said, ask, clean, full, listed, read, usage
from .http import Client, Lost, PerLoop, Reply, settled
from .wire import TRUNCATING, Malformed

if TYPE_CHECKING:
    from sparring.training.policy import Policy

SECRET = re.compile(
    r"(?i)(^|[_-])((api|access|secret|private|auth|session)[_-]?(key|token)s?|secret|password|passwd|credentials?"
    r"|authorization|auth|bearer|cookie)$|^(key|token)$"
)
LIKE_A_KEY = re.compile(r"(?i)^(bearer\s|sk-|sk_|pk-|gsk_|hf_|xai-|ghp_|AIza)")
VARIABLE = re.compile(r"([A-Z_][A-Z0-9_]*)?")
TELLING = 8  # characters from which on a key is hidden in what models say: "EMPTY" and "none" are words
START_S, START_TRIES = 5.0, 3  # how long a server may take to be there when a run begins
ELSEWHERE = frozenset({301, 302, 303, 307, 308, 404, 405})  # there is no such route or model here
GRACE_S = 2.0  # for requests under way once another has shown that all will fail
SHOWN = 8  # models a message names
HELLO = 16  # tokens of the question whether a model that is not listed is there


@engines("openai")
class OpenAiEngine:
    """Any OpenAI-compatible server, for roles that are not trained: teachers, judges, simulated users.

    It reads messages and answers in text: turns are stored as said, with the policy's own tokens of that text and
    unknown log-probs. A request that still fails after all retries is an aborted turn with invalid scores.
    """

    class Config(BaseModel):
        """``url`` is what ``/chat/completions`` is added to, ``model`` a name the server knows.

        ``api_key_env`` names the environment variable that holds the key ("": none is sent). ``timeout_s`` is for one
        try; a failed one is repeated up to ``retries`` times and for ``patience_s`` after the first failure.
        ``concurrency``: requests under way at once. ``budget_tokens``: most tokens, read and said, that one process
        may use at the server. ``limit``: what the server calls ``sampling.max_tokens``. ``seed``: send each turn's
        seed. ``logprobs``: ask for ids and log-probs as vLLM gives them; kept where they are the policy's own tokens.
        ``extra``: further fields of the request's body.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")
        url: str = Field(min_length=1)
        model: str = Field(min_length=1)
        api_key_env: str = ""
        timeout_s: float = Field(default=120.0, gt=0, le=86_400)
        patience_s: float = Field(default=120.0, ge=0, le=86_400)
        retries: int = Field(default=16, ge=0, le=1000)
        concurrency: int = Field(default=16, ge=1, le=1024)
        budget_tokens: int | None = Field(default=None, ge=1)
        limit: Limit = "max_tokens"
        seed: bool = True
        logprobs: bool = False
        extra: dict[str, JsonValue] = Field(default_factory=dict)

        @field_validator("url")
        @classmethod
        def _plain(cls, value: str) -> str:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("is no address; write it like https://api.openai.com/v1 or http://127.0.0.1:8000/v1")
            if parts.username or parts.password or parts.query or parts.fragment:
                raise ValueError(
                    f"of {parts.hostname} holds more than an address; put a key into an environment variable and its "
                    "name into api_key_env, other values into extra"
                )
            return value.rstrip("/")

        @field_validator("api_key_env")
        @classmethod
        def _name(cls, value: str) -> str:
            if not VARIABLE.fullmatch(value):  # what was found is not shown: it may be the key
                raise ValueError(
                    "is the name of an environment variable, in capitals, such as OPENAI_API_KEY; never the key itself"
                )
            return value

        @field_validator("extra")
        @classmethod
        def _harmless(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
            for key in value:
                if key in OWN:
                    raise ValueError(
                        f"{key} is the engine's own; set it by the role's sampling or the engine's options"
                    )
            if found := _secret(value):
                raise ValueError(
                    f"{found} looks like a secret, and a scenario is stored; put a key into an environment variable "
                    "and its name into api_key_env"
                )
            try:
                json.dumps(value, allow_nan=False)
            except ValueError:
                raise ValueError("holds a number that JSON cannot say") from None
            return value

    truncates = True
    untrainable = "a chat server takes no new weights, and does not vouch for tokens and log-probs"

    def __init__(self, config: Config, renderer: Renderer, present: Any = None) -> None:
        """``renderer`` tells the policy's tokens of a text, ``present`` the policy's version at the time.

        Raises ``EngineError`` when the key's variable is not set, or the key stands in the options.
        """
        self.config, self.renderer = config, renderer
        self.name = f"openai:{config.model}"
        self.policy_version = 0
        self.present = self if present is None else present
        self.client = self._client(config.timeout_s, config.patience_s, config.retries)
        self.budget = Budget(config.budget_tokens)
        self._hides = len(os.environ.get(config.api_key_env, "")) >= TELLING
        written = config.model_dump_json()
        if self._hides and self.client.hide(written) != written:
            raise EngineError(
                f"{self.name}: the key in {config.api_key_env} also stands in the engine's options, which are stored; "
                "take it out of the scenario"
            )
        self._names: list[str] | None = None
        self._waiting: set[object] = set()  # tasks without a place yet
        self._free = PerLoop(lambda: asyncio.Semaphore(config.concurrency))

    def __repr__(self) -> str:
        return f"<{self.name} at {self.config.url}>"

    @classmethod
    def serve(cls, config: Config, policy: Policy) -> OpenAiEngine:
        """The engine of a scenario that trains nothing."""
        return cls.beside(config, policy)

    @classmethod
    def beside(cls, config: Config, policy: Policy, present: Any = None) -> OpenAiEngine:
        """The engine of a role beside the policy. Raises ``EngineError`` when the server is not there, refuses the key
        or does not know the model."""
        made = cls(config, policy.renderer, present)
        settled(made.ready())
        return made

    @staticmethod
    def about(config: Config) -> str:
        """Whom a role speaks through, in words."""
        return f"{config.model} at {config.url}"

    @property
    def note(self) -> str:
        """A line for the run's banner."""
        capped = "" if self.config.budget_tokens is None else f", at most {self.config.budget_tokens:,} tokens"
        return f"{self.about(self.config)}{capped}"

    def stream(self) -> OpenAiEngine:
        """Itself: requests may join at any time."""
        return self

    async def load(self, version: int, weights: Weights) -> None:
        """Take the number; the server's model stays as it is."""
        self.policy_version = version

    def close(self) -> None:
        """Nothing to give back: connections close with the last request under way."""

    async def ready(self) -> None:
        """Return once the server has taken the key and knows the model, as far as it tells.

        Raises ``EngineError`` when it is not there, or one of the two is wrong.
        """
        client = self._client(min(10.0, self.config.timeout_s), min(START_S, self.config.patience_s), START_TRIES)
        found = await client.get(MODELS)
        if isinstance(found, Lost):
            raise EngineError(f"{found.why}; start the server, or mend the engine's url")
        names = listed(found.body) if found.ok else []
        if self.config.model in names:
            return
        # aliases are often not listed, and some servers list nothing: the server is asked outright
        body = {"model": self.config.model, "messages": [{"role": "user", "content": "Hi"}], self.config.limit: HELLO}
        asked = await client.post(ROUTE, self.config.extra | body)
        if isinstance(asked, Reply) and (asked.status in ELSEWHERE or (asked.status == 400 and names)):
            raise EngineError(self._stranger(asked, names))
        if isinstance(asked, Reply) and asked.ok and asked.body is None:
            raise EngineError(f"{self.name}: {self.config.url}{ROUTE} gives no JSON ({asked.said!r}); mend the url")

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order. Raises ``EngineError`` for a wrong key, an unknown model, no credit."""
        asking = [asyncio.ensure_future(self._one(request)) for request in requests]
        try:
            return list(await asyncio.gather(*asking))
        except EngineError:
            for one in asking:
                if one in self._waiting:
                    one.cancel()
            # what is under way is about to hear the same; cut off while it connects, it would leave its socket open
            await asyncio.wait(asking, timeout=GRACE_S)
            raise
        finally:
            for one in asking:
                one.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _one(self, request: Request) -> Completion:
        if not request.messages:
            raise EngineError(f"{self.name}: role {request.tag!r} gave no messages, and a chat server reads no tokens")
        config = self.config
        body = ask(request, config.model, config.limit, config.seed, config.logprobs) | config.extra
        most = len(request.prompt_ids) + request.sampling.max_tokens
        async with self._seated():
            if refused := self.budget.take(most):
                return self._lost(refused)
            used: int | None = 0
            try:
                found = await self.client.post(ROUTE, body)
                if isinstance(found, Reply) and found.ok:
                    used = usage(found.body).whole
            finally:
                self.budget.settle(most, most if used is None else used)
        if isinstance(found, Lost):
            return self._lost(found.why.removeprefix(f"{self.name} at "))
        return self._heard(request, found) if found.ok else await self._failed(found)

    def _heard(self, request: Request, reply: Reply) -> Completion:
        if reply.body is None:
            return self._lost(f"the answer is no JSON: {reply.said!r}")
        try:
            said = read(reply.body, request.sampling.max_tokens)
        except Malformed as problem:
            return self._lost(str(problem))
        text = self.client.hide(said.text) if self._hides else said.text
        ids, logprobs = self._tokens(request, said, text)
        return Completion(ids, logprobs, said.finish, self._version, self.name, text=text)

    def _tokens(self, request: Request, said: Said, text: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """The policy's tokens of what was said; the server's where they are those, with log-probs where these are of
        the whole distribution."""
        own = policy_tokens(text, said.finish, self.renderer)
        if said.token_ids and said.prompt_ids == request.prompt_ids and self._theirs(said, text, own):
            drawn = request.sampling
            plain = drawn.temperature == 1 and all(getattr(drawn, key) is None for key in TRUNCATING)
            known = said.logprobs and plain and not self.config.extra
            return said.token_ids, said.logprobs if known else (math.nan,) * len(said.token_ids)
        return own, (math.nan,) * len(own)

    def _theirs(self, said: Said, text: str, own: Sequence[int]) -> bool:
        """Whether the server's ids say the text in the policy's tokens, the end of the turn among them."""
        try:
            return self.renderer.decode(said.token_ids) == text and (
                said.finish is not Finish.STOP or said.token_ids[-1:] == tuple(own[-1:])
            )
        except Exception:  # ids are the server's: a tokenizer may raise anything at one that it does not have
            return False

    async def _failed(self, reply: Reply) -> Completion:
        """What becomes of an error that would come again: a full context, a person's to mend, or this request's own."""
        if full(reply.status, reply.said):
            return Completion((), (), Finish.CONTEXT, self._version, self.name, text="")
        if reply.status == 402:
            raise EngineError(f"{self.name}: {self.config.url} wants to be paid (HTTP 402: {reply.said})")
        if reply.status in ELSEWHERE or reply.status == 400:
            names = await self._models()
            unlisted = bool(names) and self.config.model not in names and "model" in reply.said.lower()
            if reply.status in ELSEWHERE or unlisted:
                raise EngineError(self._stranger(reply, names))
        return self._lost(f"{self.config.url} refuses the request (HTTP {reply.status}: {reply.said or 'no reason'})")

    async def _models(self) -> list[str]:
        """What the server lists, asked once; nothing where it does not tell."""
        if self._names is None:
            found = await self.client.get(MODELS)
            self._names = listed(found.body) if isinstance(found, Reply) and found.ok else []
        return self._names

    def _stranger(self, reply: Reply, names: Sequence[str]) -> str:
        """The message when the server does not know the model, or the route."""
        config = self.config
        what = f"{self.name}: {config.url}{ROUTE} says HTTP {reply.status} ({reply.said or 'no reason'})"
        if not names or config.model in names:
            return f"{what}; does the url end where /chat/completions goes on (often in /v1), and is the model there?"
        hint = nearest(config.model, list(names))
        meant = f"did you mean {hint!r}? " if hint else ""
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"{what}; {meant}it lists the models {', '.join(names[:SHOWN])}{more}"

    def _lost(self, why: str) -> Completion:
        return Completion.aborted(clean(self.client.hide(why))[:500], self._version, self.name)

    @property
    def _version(self) -> int:
        return int(self.present.policy_version)

    @asynccontextmanager
    async def _seated(self) -> AsyncIterator[None]:
        """A place among the requests under way at once."""
        mine, free = asyncio.current_task(), self._free.here
        self._waiting.add(mine)
        try:
            await free.acquire()
        finally:
            self._waiting.discard(mine)
        try:
            yield
        finally:
            free.release()

    def _client(self, timeout_s: float, patience_s: float, retries: int) -> Client:
        config = self.config
        return Client(config.url, self.name, config.api_key_env or None, timeout_s, patience_s, retries)


@dataclass
class Budget:
    """Tokens that may be used at a server, if there is a limit: what is ``used`` and what is under way stay below it.

    >>> budget = Budget(100)
    >>> budget.take(60), budget.take(60)[:30]
    ('', 'budget_tokens is 100, of which')
    """

    limit: int | None
    used: int = 0
    under_way: int = 0

    def take(self, most: int) -> str:
        """Set ``most`` tokens aside: "", or why there is no room for them."""
        if self.limit is not None and self.used + self.under_way + most > self.limit:
            return (
                f"budget_tokens is {self.limit}, of which {self.used} are used and {self.under_way} under way; this "
                f"request may take {most}. Raise it, and go on with 'sparring resume', which counts from 0 again"
            )
        self.under_way += most
        return ""

    def settle(self, most: int, used: int) -> None:
        """Give back what was set aside and count what was used."""
        self.under_way -= most
        self.used += used


def policy_tokens(text: str, finish: Finish, renderer: Renderer) -> tuple[int, ...]:
    """The tokens with which the policy would say ``text``, its end of turn left out where the sample was cut."""
    whole = tokens_of(text, renderer)
    if finish is Finish.STOP:
        return whole
    ends = len(renderer.extend(finish, []).token_ids) - len(renderer.extend(Finish.STOP, []).token_ids)
    return whole[: len(whole) - ends]


def _secret(value: JsonValue, path: str = "") -> str:
    """Where, within ``value``, something looks like a secret; the value itself is not told."""
    if isinstance(value, Mapping):
        pairs = [(f"{path}.{key}" if path else str(key), str(key), item) for key, item in value.items()]
        named = next((place for place, key, _ in pairs if SECRET.search(key)), "")
        return named or next((found for place, _, item in pairs if (found := _secret(item, place))), "")
    if isinstance(value, list):
        return next((found for at, item in enumerate(value) if (found := _secret(item, f"{path}[{at}]"))), "")
    return path if isinstance(value, str) and LIKE_A_KEY.search(value) else ""
