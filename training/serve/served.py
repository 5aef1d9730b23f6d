"""What is served: a policy, the engine that speaks with it, the names it answers to, and how its weights change."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from sparring.agents.engine import Completion, Request
from sparring.scenarios.errors import EngineError
from sparring.scenarios.schema import RoleSpec, Scenario
from sparring.training.policy import Policy

from . import adapters
from .endings import Generate, ended_at
from .refusals import Refusal
from .weights import Given, put_in

POLICY = "policy"
UNSAID = 1024  # tokens an answer may have where neither the request nor a role says; room for them is set aside
Hears = Callable[[int, int], None]
UNNUMBERED = "initial"
ABORTED = "the request was ended before it was finished; ask again"


@dataclass(frozen=True)
class Name:
    """What a ``model`` in a request stands for: an adapter ("" the policy's own), and a role where it names one."""

    adapter: str = ""
    role: str = ""


@dataclass(kw_only=True)
class Served:
    """A policy that is served. ``about`` says what it is, for people; ``here`` whether its weights lie in this process.

    ``version`` and ``weights_sha`` are of the weights as they are now. ``loaded`` maps adapters that came in over the
    wire to their folders. ``following`` is the run whose newer checkpoints are taken up, if any. ``seed`` is what
    requests without one draw theirs from. ``given`` are the versions that clients have named.
    """

    scenario: Scenario
    policy: Policy
    engine: Any
    about: str
    here: bool = True
    version: int = 0
    weights_sha: str = ""
    following: str = ""
    seed: int = 0
    loaded: dict[str, Path] = field(default_factory=dict)
    paused: bool = False
    given: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Requests join a stream where the engine has one."""
        stream = getattr(self.engine, "stream", None)
        self.stream: Any = self.engine if stream is None else stream()
        self._tells = "told" in signature(self.stream.generate).parameters
        self.engine.policy_version = self.version
        self._turn = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._running: dict[asyncio.Task[list[Completion]], None] = {}
        self._using: Counter[str] = Counter()
        self._leaving: set[str] = set()

    # -- names ---------------------------------------------------------------------------------------------------------

    @property
    def roles(self) -> dict[str, RoleSpec]:
        """The scenario's roles that the policy plays."""
        return {name: spec for name, spec in self.scenario.roles.items() if spec.engine is None}

    @property
    def names(self) -> dict[str, Name]:
        """Every model name that is known."""
        roles = {f"{POLICY}:{name}": Name(spec.adapter, name) for name, spec in self.roles.items()}
        return {POLICY: Name(), **roles, **{name: Name(name) for name in self.loaded}}

    @property
    def taken(self) -> frozenset[str]:
        """Names of adapters that are the policy's own."""
        return frozenset(getattr(self.policy.model, "peft_config", None) or ()) - self.loaded.keys() - self._leaving

    def parent(self, name: str) -> str | None:
        """The model that a name is an adapter of; ``None`` for the policy itself."""
        return None if name == POLICY else POLICY

    def named(self, model: object) -> Name:
        """What ``model`` stands for; nothing said is the policy. Raises ``Refusal``."""
        if model is None or model == "":
            return Name()
        found = self.names.get(model) if isinstance(model, str) else None
        if found is None:
            raise Refusal(404, f"model {model!r} is not served here; known are {', '.join(self.names)}", "model")
        return found

    # -- sampling ------------------------------------------------------------------------------------------------------

    @property
    def context(self) -> int:
        """Tokens a prompt and its answer may have together."""
        places = ("decoder", "max_length"), ("server", "context"), ("", "context")
        found = [
            getattr(getattr(self.engine, part, None) if part else self.engine, name, None) for part, name in places
        ]
        return int(next((one for one in found if one), None) or self.policy.model.config.max_position_embeddings)

    @property
    def budget(self) -> int:
        """Tokens an answer may have where nothing is said about it."""
        return min(UNSAID, self.context)

    def checked(self, prompt_ids: Sequence[int], field: str) -> None:
        """Raises ``Refusal`` for a prompt that leaves no room for an answer, or has tokens the model does not know."""
        if not prompt_ids:
            raise Refusal(400, f"{field}: there is no token in it to go on from", field)
        if len(prompt_ids) >= self.context:
            raise Refusal(
                400,
                f"{field}: the prompt has {len(prompt_ids)} tokens; prompt and answer have {self.context} at most",
                field,
            )
        odd, known = max(prompt_ids), int(self.policy.model.config.vocab_size)
        if odd >= known:
            raise Refusal(400, f"{field}: {odd} is no token of this model; it has {known}", field)

    async def generate(
        self, requests: Sequence[Request], stops: Collection[int] | None = None, told: Hears | None = None
    ) -> list[Completion]:
        """One completion per request, in order; those that were not served are aborted. Raises ``Refusal``.

        ``stops`` are the tokens that end turns in place of the tokenizer's. ``told`` hears of every token as it is
        drawn, with the place of its request, where the engine tells.
        """
        drawn = requests[0].sampling
        if not getattr(self.engine, "truncates", False) and (drawn.top_p, drawn.top_k, drawn.min_p) != (None,) * 3:
            raise Refusal(400, "top_p, top_k and min_p: this engine draws from the whole distribution; leave them out")
        await self._open.wait()
        try:
            return await self._run(requests, stops, told if self._tells else None)
        except EngineError as error:
            raise Refusal(400 if self.here else 502, str(error)) from error

    async def _run(
        self, requests: Sequence[Request], stops: Collection[int] | None, told: Hears | None
    ) -> list[Completion]:
        """Await them as requests that a pause keeps, waits for or aborts."""
        speaking = {request.adapter for request in requests}
        task = asyncio.ensure_future(self._sampled(requests, stops, told))
        self._running[task] = None
        self._using.update(speaking)
        try:
            return await task
        except asyncio.CancelledError:
            if task in self._running:  # whoever asked has gone; an abort takes it out first
                task.cancel()
                raise
            return [Completion.aborted(ABORTED, self.version, self.engine.name) for _ in requests]
        finally:
            self._running.pop(task, None)
            self._using.subtract(speaking)

    async def _sampled(
        self, requests: Sequence[Request], stops: Collection[int] | None, told: Hears | None
    ) -> list[Completion]:
        generate: Generate = self.stream.generate if told is None else partial(self.stream.generate, told=told)
        if stops is None:
            return await generate(requests)
        return list(await asyncio.gather(*(ended_at(generate, request, stops) for request in requests)))

    # -- weights -------------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Give the weights to an engine that keeps a copy of them."""
        if self.here and not hasattr(self.engine, "renew"):
            await self.engine.load(self.version, Given(self.policy.model, self.policy.tokenizer))

    def own(self) -> None:
        """Raises ``Refusal`` where weights and pauses are not this server's matter."""
        if not self.here:
            raise Refusal(501, "the weights lie in the server behind this one; ask that server")

    async def reload(self, folder: Path) -> None:
        """Put the weights in ``folder`` in; what is being sampled goes on with them. Raises ``EngineError``."""
        async with self.changing():
            await asyncio.to_thread(put_in, self.policy.model, folder)
            await self.engine.load(self.version, Given(self.policy.model, self.policy.tokenizer, folder))
        self.weights_sha = ""

    async def renumber(self, version: int) -> None:
        """Call the weights as they are now ``version``."""
        async with self.changing():
            renew = getattr(self.engine, "renew", None)
            if renew is not None:
                renew(version)
            self.version = self.engine.policy_version = version
            self.given.add(version)

    def label(self, version: int) -> str:
        """What a version is called on the wire: its number where a client named it, or where it is a run's step.

        A trainer must see that a server was started anew: what that begins with has no number.
        """
        return str(version) if self.following or version in self.given else UNNUMBERED

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """One change at a time, and nothing is sampled during it; what was being sampled goes on after it."""
        hold = getattr(self.engine, "hold", None)
        async with self._turn, nullcontext() if hold is None else hold():  # others wait by themselves when they load
            yield

    async def pause(self, mode: str) -> None:
        """Sample nothing until ``resume``. ``mode``: keep what is being sampled, wait for it, or abort it."""
        self.paused = True
        keeps = hasattr(self.stream, "pause")
        if mode != "keep" or not keeps:
            self._open.clear()
        if mode == "abort":
            running, self._running = self._running, {}
            for task in running:
                task.cancel()
        elif self._running and not (mode == "keep" and keeps):
            await asyncio.wait(list(self._running))
        if keeps:
            await self.stream.pause()

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        self._open.set()
        if hasattr(self.stream, "resume"):
            self.stream.resume()

    # -- adapters ------------------------------------------------------------------------------------------------------

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Let requests name an adapter; one of this name is replaced. Raises ``EngineError``."""
        if not hasattr(self.engine, "adapters"):
            raise EngineError(f"engine {self.engine.name!r} takes no adapters over the wire")
        async with self.changing():
            self._leaving.discard(name)
            self.loaded.pop(name, None)
            try:
                await asyncio.to_thread(adapters.put_in, self.policy.model, name, folder)
                self.loaded[name] = folder
            finally:
                self._sweep()

    async def unload_adapter(self, name: str) -> None:
        """Let no request name this adapter any more. It goes once nobody speaks with it, at the next change."""
        del self.loaded[name]
        self._leaving.add(name)
        async with self.changing():
            self._sweep()

    def _sweep(self) -> None:
        for name in [name for name in self._leaving if not self._using[name]]:
            self._leaving.discard(name)
            adapters.take_out(self.policy.model, name)
        self.engine.adapters = adapters.changing(self.policy.model)

    def close(self) -> None:
        """Give back what the engine holds."""
        self.engine.close()
