"""OpenAI's routes: models, chat completions, completions. Under an episode's key, chat completions are its turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from jinja2 import TemplateError
from starlette.requests import Request as Call
from starlette.responses import JSONResponse, Response, StreamingResponse

from sparring.agents.engine import Completion, Message, Request
from sparring.envs.types import Finish
from sparring.scenarios.schema import Sampling
from sparring.scenarios.seeds import derive

from .answers import ChatAnswer, Turn, envelope
from .asked import Asked, ChatAsked, TextAsked, asked, messages_of
from .recorded import Recorded
from .refusals import GONE, Refusal, body_of
from .served import ABORTED, Hears, Served
from .spoken import Choice, Json, choice, text_logprobs, usage

T = TypeVar("T")
PROMPTS = 256  # in one completion request


@dataclass
class Talk:
    """The routes over what is served."""

    served: Served
    count: int = 0

    # -- routes --------------------------------------------------------------------------------------------------------

    async def models(self, call: Call) -> Response:
        """``GET /v1/models``."""
        served, created = self.served, int(time.time())
        cards = [
            {
                "id": name, "object": "model", "created": created, "owned_by": "sparring",
                "root": str(served.loaded.get(name, served.about)), "parent": served.parent(name),
                "max_model_len": served.context,
            }
            for name in served.names
        ]  # fmt: skip
        return JSONResponse({"object": "list", "data": cards})

    async def chat(self, call: Call) -> Response:
        """``POST /v1/chat/completions``."""
        told: ChatAsked = asked(ChatAsked, await body_of(call))
        messages = messages_of(told.messages)
        name, episode = self.served.named(told.model), self._episode(call)
        if episode is not None and name.adapter and not name.role:
            raise Refusal(
                400, f"model: {told.model!r} is an adapter; episodes are played by roles: policy:ROLE", "model"
            )
        role = name.role or (episode.role if episode is not None else "")
        sampling = told.sampling(self._default(role))
        if episode is None:
            segment = rendered(lambda: self.served.policy.renderer.open(messages))
            self.served.checked(segment.token_ids, "messages")
            turn = Turn(self._requests(segment.token_ids, messages, told, sampling, name.adapter, role))
        else:
            turn = self._heard(episode, role, messages, told, sampling)
        answer = ChatAnswer(self.served, told, turn)
        if told.stream:
            events = answer.stream(lambda hears: self._said(turn, told, episode, hears))
            return StreamingResponse(events, media_type="text/event-stream")
        return JSONResponse(answer.whole(await unless_gone(call, self._said(turn, told, episode))))

    async def complete(self, call: Call) -> Response:
        """``POST /v1/completions``."""
        if self._episode(call) is not None:
            raise Refusal(400, "episodes are made of messages; use /v1/chat/completions under an episode's key")
        told: TextAsked = asked(TextAsked, await body_of(call))
        if told.stream:
            raise Refusal(400, "stream: completions come whole; use /v1/chat/completions for a stream", "stream")
        name, turns = self.served.named(told.model), []
        for ids in self._prompts(told.prompt):
            self.served.checked(ids, "prompt")
            sampling = told.sampling(self._default(name.role))
            turns.append(Turn(self._requests(ids, (), told, sampling, name.adapter, name.role)))
        done = await unless_gone(call, self._sampled([one for turn in turns for one in turn.requests]))
        return JSONResponse(self._texts(told, turns, done))

    # -- on the way ----------------------------------------------------------------------------------------------------

    def _episode(self, call: Call) -> Recorded | None:
        return call.scope.get("episode")

    def _default(self, role: str) -> Sampling:
        """What holds where a request says nothing: the role's sampling, where one speaks."""
        if role:
            return self.served.scenario.roles[role].sampling
        return Sampling(temperature=1.0, max_tokens=self.served.budget)

    def _requests(
        self,
        ids: Sequence[int],
        messages: tuple[Message, ...],
        told: Asked,
        sampling: Sampling,
        adapter: str,
        role: str,
        seed: int | None = None,
        episode: int = 0,
    ) -> list[Request]:
        """``n`` requests; their seeds come from the client's, else from the server's own."""
        if seed is None:
            self.count += 1
            seed = derive(self.served.seed, "served", self.count)
        if told.seed is not None:
            seed = told.seed % (1 << 63)
        seeds = [seed if told.n == 1 else derive(seed, "choice", number) for number in range(told.n)]
        return [Request(tuple(ids), sampling, one, role, adapter, episode, messages) for one in seeds]

    def _heard(
        self, episode: Recorded, role: str, messages: tuple[Message, ...], told: ChatAsked, sampling: Sampling
    ) -> Turn:
        """A turn of an episode, as the trainer will see it: at the role's temperature, from the whole distribution."""
        own = self.served.scenario.roles[role].sampling
        for field in ("temperature", "top_p", "top_k", "min_p"):
            if getattr(sampling, field) != getattr(own, field):
                raise Refusal(
                    400,
                    f"{field}: recorded turns of role {role!r} are sampled with {getattr(own, field)}, as they are "
                    f"trained; leave it out, or serve with -s roles.{role}.sampling.{field}={getattr(sampling, field)}",
                    field,
                )
        heard = rendered(lambda: episode.hear(role, messages, self.served.policy.renderer))
        self.served.checked(heard.prompt_ids, "messages")
        if heard.forked:
            episode.forks += 1
        adapter = self.served.scenario.roles[role].adapter
        episode.asked += 1
        seed, speaker = derive(episode.seed, episode.asked), derive(episode.seed, role)
        requests = self._requests(heard.prompt_ids, messages, told, sampling, adapter, role, seed, speaker)
        return Turn(requests, heard)

    async def _sampled(self, requests: Sequence[Request], hears: Hears | None = None) -> list[Completion]:
        done = await self.served.generate(requests, told=hears)
        failed = next((one.error for one in done if one.finish is Finish.ABORT), None)
        if failed is not None:
            raise Refusal(503, failed or ABORTED)
        return done

    async def _said(
        self, turn: Turn, told: Asked, episode: Recorded | None, hears: Hears | None = None
    ) -> list[Choice]:
        """Sample the turn and, in an episode, write it down. ``hears`` is told every token as it is drawn."""
        renderer = self.served.policy.renderer
        if episode is None or turn.heard is None:
            return [choice(done, told.stop, renderer) for done in await self._sampled(turn.requests, hears)]
        episode.busy += len(turn.requests)
        try:
            done = await self._sampled(turn.requests, hears)
        finally:
            episode.busy -= len(turn.requests)
        choices = [choice(one, told.stop, renderer) for one in done]
        turn.indices = tuple(
            episode.say(turn.heard, one.done, one.text, request.seed, renderer, sample)
            for sample, (one, request) in enumerate(zip(choices, turn.requests, strict=True))
        )
        return choices

    # -- completions of text -------------------------------------------------------------------------------------------

    def _prompts(self, prompt: Any) -> list[tuple[int, ...]]:
        """Each prompt as tokens; in text, literals of control tokens are those tokens, as vLLM reads them."""
        several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
        prompts = prompt if several else [prompt]
        if len(prompts) > PROMPTS:
            raise Refusal(400, f"prompt: {PROMPTS} are read at most", "prompt")
        tokenizer = self.served.policy.tokenizer
        found = []
        for one in prompts:
            plain = one.encode("utf-8", "replace").decode() if isinstance(one, str) else one
            ids = tuple(tokenizer(plain).input_ids if isinstance(plain, str) else plain)
            if any(token < 0 for token in ids):
                raise Refusal(400, "prompt: token ids are whole numbers from 0", "prompt")
            found.append(ids)
        return found

    def _texts(self, told: TextAsked, turns: Sequence[Turn], done: Sequence[Completion]) -> Json:
        served, rows, spoken = self.served, [], []
        prompts = [turn.prompt_ids for turn in turns for _ in turn.requests]
        for index, (prompt_ids, one) in enumerate(zip(prompts, done, strict=True)):
            said = choice(one, told.stop, served.policy.renderer)
            spoken.append(said)
            row: Json = {"index": index, "text": said.text, "finish_reason": said.reason, "logprobs": None}
            if told.logprobs is not None:
                row["logprobs"] = text_logprobs(said.done, served.policy.tokenizer)
            if told.return_token_ids:
                row |= {"prompt_token_ids": list(prompt_ids), "token_ids": list(said.done.token_ids)}
            rows.append(row)
        counted = usage(sum(len(turn.prompt_ids) for turn in turns), spoken)
        return envelope("cmpl", "text_completion", told.model, rows) | {"usage": counted}


def rendered(render: Callable[[], T]) -> T:
    """What a chat template makes of messages. Raises ``Refusal`` for an order of speakers that it does not know."""
    try:
        return render()
    except TemplateError as error:
        raise Refusal(400, f"messages: the model's chat template refuses them: {error}", "messages") from error


async def unless_gone(call: Call, work: Awaitable[T]) -> T:
    """``work``, given up when the client hangs up: its slots are others' then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(call))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(GONE, "the client hung up")
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _gone(call: Call) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass
