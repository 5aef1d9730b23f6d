"""The token wire and the levers of a vLLM server (0.32, dev mode), over what is served here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request as Call
from starlette.responses import JSONResponse, PlainTextResponse, Response

import sparring
from sparring.scenarios.errors import EngineError
from sparring.scenarios.seeds import derive
from sparring.training.engines import wire

from .asked import messages_of
from .chat import rendered, unless_gone
from .refusals import Refusal, body_of, read
from .served import Served

MODES = ("abort", "wait", "keep")


class LoraAsked(BaseModel):
    """An adapter by name, and the folder it lies in. ``load_inplace``: in the place of one that has the name."""

    model_config = ConfigDict(frozen=True)
    lora_name: str = Field(min_length=1, max_length=200)
    lora_path: str = Field(default="", max_length=4096)
    load_inplace: bool = False


class TokenizeAsked(BaseModel):
    """A text or a conversation to be made into tokens."""

    model_config = ConfigDict(frozen=True)
    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool = True
    return_token_strs: bool | None = False


class DetokenizeAsked(BaseModel):
    """Tokens to be made into text."""

    model_config = ConfigDict(frozen=True)
    model: str | None = None
    tokens: list[int] = Field(max_length=1 << 20)


@dataclass
class Wire:
    """The routes. Clients of a vLLM server find everything they need to sample and to bring new weights."""

    served: Served
    count: int = 0

    # -- tokens in, tokens out -----------------------------------------------------------------------------------------

    async def generate(self, call: Call) -> Response:
        """``POST /inference/v1/generate``."""
        body = await body_of(call)
        try:
            asked = wire.read_request(body)
        except wire.Malformed as error:
            raise Refusal(400, str(error), str(error).partition(":")[0]) from error
        served = self.served
        name = served.named(asked.model)
        served.checked(asked.request.prompt_ids, "token_ids")
        request = replace(asked.request, tag=name.role, adapter=name.adapter)
        if _of(body, "sampling_params").get("seed") is None:
            self.count += 1
            request = replace(request, seed=derive(served.seed, "wire", self.count))
        if _of(body, "sampling_params").get("max_tokens") is None:
            request = replace(request, sampling=request.sampling.model_copy(update={"max_tokens": served.budget}))
        stops = set(asked.stop_ids) | (set(served.policy.renderer.stop_ids) if asked.own_stops else set())
        done = await unless_gone(call, served.generate([request], stops))
        told = wire.answer(done[0], asked)
        for span in told["choices"][0]["weight_versions"]:
            span["version"] = served.label(int(span["version"]))
        return JSONResponse(told)

    async def tokenize(self, call: Call) -> Response:
        """``POST /tokenize``."""
        asked = read(TokenizeAsked, await body_of(call))
        self.served.named(asked.model)
        policy = self.served.policy
        if asked.messages is not None:
            messages = messages_of(asked.messages)
            ids = list(rendered(lambda: policy.renderer.open(messages)).token_ids)
        elif asked.prompt is not None:
            plain = asked.prompt.encode("utf-8", "replace").decode()
            ids = list(policy.tokenizer(plain, add_special_tokens=asked.add_special_tokens).input_ids)
        else:
            raise Refusal(400, "prompt: a text in prompt, or messages, is needed", "prompt")
        strings = policy.tokenizer.convert_ids_to_tokens(ids) if asked.return_token_strs else None
        told = {"count": len(ids), "max_model_len": self.served.context, "tokens": ids, "token_strs": strings}
        return JSONResponse(told)

    async def detokenize(self, call: Call) -> Response:
        """``POST /detokenize``."""
        asked = read(DetokenizeAsked, await body_of(call))
        self.served.named(asked.model)
        if asked.tokens:
            known = int(self.served.policy.model.config.vocab_size)
            odd = next((token for token in asked.tokens if not 0 <= token < known), None)
            if odd is not None:
                raise Refusal(400, f"tokens: {odd} is no token of this model; it has {known}", "tokens")
        text = self.served.policy.tokenizer.decode(asked.tokens)
        return JSONResponse({"prompt": text.encode("utf-8", "replace").decode()})

    # -- pauses and weights --------------------------------------------------------------------------------------------

    async def pause(self, call: Call) -> Response:
        """``POST /pause?mode=abort|wait|keep``."""
        self.served.own()
        mode = call.query_params.get("mode", "abort")
        if mode not in MODES:
            raise Refusal(400, f"mode: {mode!r} is none of {', '.join(MODES)}", "mode")
        await self.served.pause(mode)
        return JSONResponse({"status": "paused"})

    async def resume(self, call: Call) -> Response:
        """``POST /resume``."""
        self.served.own()
        self.served.resume()
        return JSONResponse({"status": "resumed"})

    async def is_paused(self, call: Call) -> Response:
        """``GET /is_paused``."""
        return JSONResponse({"is_paused": self.served.paused})

    async def collective_rpc(self, call: Call) -> Response:
        """``POST /collective_rpc``: ``reload_weights`` from the folder ``weights_path``, and nothing else."""
        self._free()
        body = await body_of(call)
        if body.get("method") != "reload_weights":
            raise Refusal(400, f"method: {body.get('method')!r} is not known here; reload_weights is", "method")
        folder = _of(body, "kwargs").get("weights_path") or next(iter(body.get("args") or ()), None)
        if not isinstance(folder, str):
            raise Refusal(400, "kwargs.weights_path: the folder the weights lie in is needed", "kwargs.weights_path")
        try:
            await self.served.reload(Path(folder))
        except EngineError as error:
            raise Refusal(400, str(error), "kwargs.weights_path") from error
        return JSONResponse({"results": [None]})

    async def update_weight_version(self, call: Call) -> Response:
        """``POST /update_weight_version``: a whole number, which is what turns are stored with."""
        self._free()
        version = (await body_of(call)).get("new_version")
        if not isinstance(version, str) or not version.isdecimal() or len(version) > 15:
            raise Refusal(400, "new_version: a whole number as text is needed", "new_version")
        await self.served.renumber(int(version))
        return JSONResponse({"success": True, "new_version": version})

    async def weight_info(self, call: Call) -> Response:
        """``GET /weight_info``."""
        return JSONResponse({"weight_version": self.served.label(self.served.version)})

    async def reset_prefix_cache(self, call: Call) -> Response:
        """``POST /reset_prefix_cache``: nothing read for one request is kept for the next, so there is none."""
        return JSONResponse({"success": True})

    # -- adapters ------------------------------------------------------------------------------------------------------

    async def load_lora_adapter(self, call: Call) -> Response:
        """``POST /v1/load_lora_adapter``. A name that is taken is refused unless ``load_inplace``, as vLLM does."""
        self._free()
        asked = read(LoraAsked, await body_of(call))
        served, name = self.served, asked.lora_name
        if not asked.lora_path:
            raise Refusal(400, "lora_path: the folder the adapter lies in is needed", "lora_path")
        if (name in served.names and name not in served.loaded) or name in served.taken:
            raise Refusal(400, f"lora_name: {name!r} is a model that is served here already", "lora_name")
        if name in served.loaded and not asked.load_inplace:
            raise Refusal(
                400,
                f"lora_name: adapter {name!r} is loaded already, from {served.loaded[name]}; two runs cannot share a "
                "name. Choose another, unload it first, or set load_inplace to replace it",
                "lora_name",
            )
        try:
            await served.load_adapter(name, Path(asked.lora_path))
        except EngineError as error:
            raise Refusal(400, str(error), "lora_path") from error
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload_lora_adapter(self, call: Call) -> Response:
        """``POST /v1/unload_lora_adapter``."""
        self._free()
        name = read(LoraAsked, await body_of(call)).lora_name
        if name not in self.served.loaded:
            known = ", ".join(self.served.loaded) or "none"
            raise Refusal(404, f"lora_name: no adapter {name!r} is loaded; loaded are {known}", "lora_name")
        await self.served.unload_adapter(name)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    def _free(self) -> None:
        """Raises ``Refusal`` where weights come from elsewhere than the wire."""
        self.served.own()
        if self.served.following:
            run = self.served.following
            raise Refusal(409, f"this server follows run {run}; start it with --no-follow to give it weights")

    # -- about ---------------------------------------------------------------------------------------------------------

    async def health(self, call: Call) -> Response:
        """``GET /health``: an empty 200."""
        return Response()

    async def version(self, call: Call) -> Response:
        """``GET /version``."""
        return JSONResponse({"version": f"sparring {sparring.__version__}"})


def _of(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    return found if isinstance(found, Mapping) else {}
