"""A stand-in for a token server, on loopback: the routes an engine uses, answers of three tokens, faults on demand.

``with FakeVllm(tokenizer) as server:`` listens at ``server.base``; ``server.calls`` are the paths that were asked for.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tests.training.fake_openai import Body, FakeOpenAI, Reply

from sparring.agents.engine import Completion
from sparring.envs.types import Finish, Span
from sparring.training.engines import wire

DEV = ("/pause", "/resume", "/collective_rpc", "/update_weight_version", "/reset_prefix_cache", "/is_paused")


class FakeVllm(FakeOpenAI):
    """The server. It says ``said`` as the version it was last told; what else it lacks is set from outside."""

    def __init__(self, tokenizer: Any, key: str = "", context: int = 64) -> None:
        super().__init__(models=("policy",), key=key)
        self.tokenizer, self.context = tokenizer, context
        self.said: tuple[int, ...] = (5, 6, 7)
        self.version = "default"
        self.logprobs = self.processed = self.dev = self.scale_out = True
        self.adapters: dict[str, str] = {}
        self.taken = False
        self.calls: list[str] = []
        self.breaks: dict[str, Reply] = {}

    def __enter__(self) -> FakeVllm:
        self.revive()
        return self

    @property
    def base(self) -> str:
        """What clients are given."""
        return f"http://127.0.0.1:{self.port}"

    def asked_for(self, path: str) -> int:
        """How often."""
        return self.calls.count(path)

    def _reply(self, method: str, path: str, authorization: str, body: Body) -> Reply:
        path = urlsplit(path).path
        self.calls.append(path)
        if self.key and authorization != f"Bearer {self.key}":
            return Reply.json(wire.failure(f"{authorization} is no key", 401), 401)
        if path in self.breaks:
            return self.breaks[path]
        if path == wire.GENERATE:
            return self._generate(body)
        if path == "/v1/models":
            base = {"id": "policy", "root": "/models/policy", "parent": None, "max_model_len": self.context}
            more = [{"id": name, "root": root, "parent": "policy"} for name, root in self.adapters.items()]
            return Reply.json({"data": [base, *more]})
        if path == "/detokenize":
            return Reply.json({"prompt": self.tokenizer.decode(body["tokens"])})
        if path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
            return self._adapter(path, body)
        if path in DEV and self.dev:
            self.version = body.get("new_version", self.version)
            return Reply.json({"status": "done"})
        found = {"/version": {"version": "0.32.0"}, "/weight_info": {"weight_version": self.version}}.get(path)
        return Reply.json(found) if found else Reply.json({"detail": "Not Found"}, 404)

    def _adapter(self, path: str, body: Body) -> Reply:
        name = body.get("lora_name")
        if not name:
            return Reply.json(wire.failure("Both 'lora_name' and 'lora_path' must be provided.", 400), 400)
        if path.startswith("/v1/unload"):
            known = self.adapters.pop(name, None)
            return Reply.json({}) if known else Reply.json(wire.failure(f"{name} cannot be found", 404), 404)
        if self.taken or name in self.adapters:
            return Reply.json(wire.failure(f"The lora adapter '{name}' has already been loaded.", 400), 400)
        self.adapters[name] = body["lora_path"]
        return Reply.json({})

    def _generate(self, body: Body) -> Reply:
        if self.faults:
            return self.faults.popleft()
        if not self.scale_out:
            return Reply.json(wire.failure("Restart vllm serve with --enable-scale-out to enable them.", 403), 403)
        if body.get("model") not in ("policy", *self.adapters):
            return Reply.json(wire.failure(f"The model {body.get('model')} does not exist.", 404), 404)
        self.asked.append(body)
        asked = wire.read_request(body)
        ids = self.said[: asked.request.sampling.max_tokens]
        cold = 0 < asked.request.sampling.temperature < 0.1 and self.processed
        each = (-0.001 if cold else -1.0) if self.logprobs else float("nan")
        finish = Finish.STOP if len(ids) == len(self.said) else Finish.LENGTH
        done = Completion(ids, (each,) * len(ids), finish, 0, "", (Span(0, 0, len(ids)),))
        found = wire.answer(done, asked)
        found["choices"][0]["weight_versions"][0]["version"] = self.version
        return Reply.json(found)
