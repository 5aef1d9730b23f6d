"""The engine behind a token server: vLLM's own, or ``sparring serve``. Tokens in, tokens out, weights by folder.

A server that is away for a while is waited for; one that comes back with other weights is given ours again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sparring.agents.engine import Completion, Request, Weights
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError

from . import wire
from .http import Client, Lost, PerLoop, Reply, settled, side_by_side
from .server import LOAD, UNLOAD, Server, adapters_of, meet, read, refused
from .untied import add_head

if TYPE_CHECKING:
    from sparring.training.policy import Policy

MENDED = 3  # times weights are put in anew for one request
DOOR_S, PARTING_S = 5.0, 0.0  # patience before a run has begun, and when it has ended


@dataclass(frozen=True)
class Held:
    """What the server was last given: ``names`` tells each adapter's name there; empty where whole models are sent."""

    version: int = 0
    folder: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)


class RemoteEngine:
    """Samples at a token server, one HTTP request per sequence, ``at_once`` of them at a time.

    Log-probs are nats of the whole distribution at the sampling temperature; the stop token is kept with its log-prob.
    Where adapters are sent, what is being sampled is finished by the adapter it began with; where whole models are,
    it goes on with the new ones.
    """

    truncates = True

    def __init__(self, client: Client, server: Server, stop_ids: Sequence[int], at_once: int = 64) -> None:
        self.client, self.server = client, server
        self.name = client.name
        self.stop_ids = tuple(stop_ids)
        self.policy_version = 0
        self.note = (
            f"{client.url} serves {server.model} ({server.context} tokens, version {server.version or 'unknown'})"
        )
        self._held = Held()
        self._before = Held()
        self._given: set[str] = set()
        self._own = uuid4().hex[:8]  # tells apart what two processes give one server
        self._room = PerLoop(lambda: asyncio.Semaphore(at_once))
        self._mending = PerLoop(asyncio.Lock)

    @classmethod
    def connect(
        cls, client: Client, policy: Policy, model: str | None = None, *, trained: bool = True, at_once: int = 64
    ) -> RemoteEngine:
        """The engine at ``client``'s server, which is asked first. Raises ``EngineError`` when it will not do.

        Not ``trained``: it speaks for roles beside the policy, so it is given no weights.
        """
        adapters = bool(getattr(policy.model, "peft_config", None)) if trained else None
        server = settled(meet(client.hurried(DOOR_S), policy, model, adapters))
        return cls(client, server, policy.renderer.stop_ids, at_once)

    def stream(self) -> RemoteEngine:
        """Itself: requests join whenever they come."""
        return self

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order; aborted where the server stays away."""
        return await side_by_side(self._one, requests)

    async def _one(self, request: Request) -> Completion:
        cut = request.within(self.server.context)
        if not cut.sampling.max_tokens:
            return Completion((), (), Finish.CONTEXT, self.policy_version, self.name)
        async with self._room.here:
            for _ in range(MENDED + 1):
                held = self._held
                reply = await self.client.post(wire.GENERATE, self._body(cut, held))
                if isinstance(reply, Lost):
                    return Completion.aborted(reply.why, held.version, self.name)
                if not self._forgot(reply, held):
                    return self._read(reply, request, held)
                await self._mend(held)
        return Completion.aborted(f"{self.client.url} keeps losing the policy's weights", held.version, self.name)

    def _body(self, request: Request, held: Held) -> wire.Json:
        model = held.names.get(request.adapter, "") if held.names else self.server.model
        if not model or (request.adapter and not held.names and held.folder):
            raise EngineError(f"adapter {request.adapter!r} is asked for and the policy has none; set policy.lora")
        return wire.ask(request, model, self.stop_ids, f"{self._own}.{held.version}")

    def _read(self, reply: Reply, request: Request, held: Held) -> Completion:
        if not reply.ok:
            raise refused(self.client, f"a request of role {request.tag!r}", reply)
        versioned = held.folder is not None and not held.names
        return read(self.client, reply, request, held.version, versioned=versioned)

    def _forgot(self, reply: Reply, held: Held) -> bool:
        """Whether the server has other weights than it was given: it was started anew."""
        if held.folder is None:
            return False
        if held.names:
            return reply.status == 404
        return reply.ok and bool(_labels(reply.body) - self._given)

    async def _mend(self, held: Held) -> None:
        """Give the weights again, once for all the requests that found them missing."""
        async with self._mending.here:
            if self._held is not held:
                return  # newer ones came meanwhile
            if held.names:
                await self._give_adapters(held)
            else:
                found = await self.client.get("/weight_info")
                known = isinstance(found, Reply) and found.ok and isinstance(found.body, dict)
                if not (known and isinstance(found, Reply) and found.body.get("weight_version") == str(held.version)):
                    await self._give_model(held)

    async def load(self, version: int, weights: Weights) -> None:
        """Put ``weights`` into the server as ``version``. Raises ``EngineError`` when it does not take them."""
        folder = weights.save(version).resolve()
        run = folder.parent.parent.name
        names = {name: f"{run}-{self._own}-{name or 'policy'}-v{version}" for name in weights.adapters}
        held = Held(version, folder, names)
        if self.server.headed and not names:
            add_head(weights.module, folder)
        async with self._mending.here:
            await (self._give_adapters(held) if names else self._give_model(held))
            self._before, old = self._held, self._before
            self._held, self.policy_version = held, version
        await self._forget(old)

    async def _give_model(self, held: Held) -> None:
        """Between two tokens: what runs is held, computes its past anew with the new weights, and goes on."""
        self._given.add(str(held.version))
        doing = f"giving version {held.version} of the weights to the server"
        await self._control(doing, "/pause", mode="keep", clear_cache="false")
        try:
            call = {"method": "reload_weights", "kwargs": {"weights_path": str(held.folder)}}
            hint = (
                f"It must see {held.folder} under the same path and hold the policy's architecture. A vLLM server that "
                "failed at this has lost its weights: start it anew, then 'sparring resume'"
            )
            await self._control(doing, "/collective_rpc", call, hint=hint)
            await self._control(doing, "/update_weight_version", {"new_version": str(held.version)})
            await self._control(doing, "/reset_prefix_cache", reset_running_requests="true")
        finally:
            await self.client.post("/resume", retried=False)

    async def _control(
        self, doing: str, path: str, body: Mapping[str, Any] | None = None, *, hint: str = "", **query: str
    ) -> None:
        reply = await self.client.post(path, body, retried=False, **query)
        if isinstance(reply, Lost) or not reply.ok:
            raise refused(self.client, doing, reply, hint)

    async def _give_adapters(self, held: Held) -> None:
        for adapter, name in held.names.items():
            folder = str(held.folder / adapter if held.folder and adapter else held.folder)
            reply = await self.client.post(LOAD, {"lora_name": name, "lora_path": folder}, retried=False)
            if isinstance(reply, Reply) and reply.ok:
                continue
            if not (isinstance(reply, Reply) and _taken(reply)):
                hint = (
                    f"It must see {folder} under the same path, and --max-lora-rank must be at least policy.lora.rank"
                )
                raise refused(self.client, f"giving adapter {name!r} to the server", reply, hint)
            there = (await adapters_of(self.client)).get(name)
            if there != folder:  # else it came in by a call whose answer was lost
                raise EngineError(
                    f"{self.name}: the server at {self.client.url} already has an adapter {name!r}, which this run did "
                    f"not load (it is from {there or 'elsewhere'}): another run uses that name. End that run, or give "
                    "each run a server of its own"
                )

    async def _forget(self, old: Held, client: Client | None = None) -> None:
        """Have the server drop adapters that nothing is sampled from any more; it may be late, or gone."""
        for name in old.names.values():
            await (client or self.client).post(UNLOAD, {"lora_name": name}, retried=False)

    def close(self) -> None:
        """Have the server drop our adapters, if it is still there."""
        if self._held.names or self._before.names:
            settled(self._part())

    async def _part(self) -> None:
        hasty = self.client.hurried(PARTING_S)
        for held in (self._before, self._held):
            await self._forget(held, hasty)


def _labels(body: Any) -> set[str]:
    """The versions an answer names, as the server spells them."""
    try:
        return {str(span["version"]) for span in body["choices"][0].get("weight_versions") or ()}
    except (TypeError, KeyError, IndexError, AttributeError):
        return set()  # ``read`` says what is wrong with it


def _taken(reply: Reply) -> bool:
    return reply.status == 400 and "already" in reply.said
