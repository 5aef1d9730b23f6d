"""A real vLLM server, started with the command of docs/vllm.md, and a policy whose weights tests may change."""

from __future__ import annotations

import asyncio
import copy
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from sparring.agents.engine import Completion, Request
from sparring.envs.types import Span
from sparring.scenarios.schema import PolicySpec, Sampling
from sparring.training import checkpoint
from sparring.training.engines import untied
from sparring.training.model import Model
from sparring.training.policy import Policy, load_policy
from sparring.training.probabilities import Asked, token_logprobs

DOCS = Path(__file__).parents[3] / "docs" / "vllm.md"
SMALL = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
STARTED_S = 240
FIGURES: dict[str, str] = {}  # what was measured on the way, shown when the tests are done


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures of docs/vllm.md."""
    if FIGURES:
        terminalreporter.section("measured")
    for name, value in FIGURES.items():
        terminalreporter.write_line(f"{name}: {value}")


@contextmanager
def measured(name: str) -> Iterator[None]:
    """How long what is inside took."""
    began = time.monotonic()
    yield
    FIGURES[name] = f"{time.monotonic() - began:.3g} s"


def new_policy() -> Policy:
    """The built-in policy, float32."""
    return load_policy(PolicySpec(model="builtin:tiny"), Path.cwd())


@dataclass
class Live:
    """The weights of ``policy`` as they are now."""

    policy: Policy
    root: Path
    adapters: tuple[str, ...] = ()

    @property
    def module(self) -> Any:
        return self.policy.model

    def save(self, version: int) -> Path:
        folder = self.root / "run-1" / "served" / f"v{version:06d}"
        return checkpoint.publish(folder, Model(self.module), self.policy.tokenizer)


def shift(module: Any, factor: float = 1.05) -> None:
    """Other weights, and a distribution that is plainly another."""
    with torch.no_grad():
        for weight in module.parameters():
            if weight.requires_grad:
                weight.mul_(factor)


def asks(count: int, tokens: int = 48, temperature: float = 1.0, adapter: str = "") -> list[Request]:
    """Prompts of 20 bytes, each with its seed."""
    drawn = Sampling(max_tokens=tokens, temperature=temperature)
    return [Request(tuple(range(40 + at, 60 + at)), drawn, 1000 + at, "solver", adapter) for at in range(count)]


def gaps(module: Any, requests: Sequence[Request], said: Sequence[Completion]) -> list[list[float]]:
    """For each completion, how far its log-probs are from the trainer's own, token by token, in nats."""
    asked = [Asked("", one.prompt_ids, done.token_ids, one.adapter) for one, done in zip(requests, said, strict=True)]
    scored = token_logprobs(module, asked, float(requests[0].sampling.temperature))
    return [
        [abs(mine - theirs) for mine, theirs in zip(done.logprobs, values, strict=True)]
        for done, values in zip(said, scored, strict=True)
    ]


def mean(values: Sequence[Sequence[float]]) -> float:
    """Over all tokens."""
    flat = [value for row in values for value in row]
    assert flat
    return sum(flat) / len(flat)


async def told_apart(engine: Any, live: Live, count: int = 8, most: int = 5) -> list[list[float]]:
    """Gaps of tokens sampled while weights change again and again under them, by sequence and span.

    Each span is held against the weights of its own version.
    """
    requests, models = asks(count, tokens=1000), {0: copy.deepcopy(live.module)}
    await engine.load(0, live)
    running = asyncio.ensure_future(engine.generate(requests))
    while not running.done():
        await asyncio.sleep(0.1)
        if len(models) < most:
            shift(live.module)
            models[len(models)] = copy.deepcopy(live.module)
            await engine.load(len(models) - 1, live)
    said = await running
    assert max(len(done.spans) for done in said) > 1, "no weights arrived in mid-generation"
    each = {version: gaps(module, requests, said) for version, module in models.items()}
    return [
        each[span.version][at][span.start : span.end]
        for at, done in enumerate(said)
        for span in done.spans or (Span(done.policy_version, 0, len(done.token_ids)),)
    ]


class VllmServer:
    """The server's process group. ``kill`` is SIGKILL; ``start`` waits until it answers."""

    def __init__(self, folder: Path) -> None:
        untied.export(new_policy().model, new_policy().tokenizer, folder / "served-model")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> None:
        """The command of the docs, on a port of our own."""
        found = re.search(r"<!-- server -->\n```bash\n(.*?)```", DOCS.read_text(), re.S)
        assert found, "docs/vllm.md has no block marked <!-- server -->"
        words = shlex.split(found[1].replace("\\\n", " ").replace("8000", str(self.port)))
        at = words.index("python")
        named = dict(word.split("=", 1) for word in words[:at])
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words[at + 1 :]],
                cwd=self.folder,
                env=os.environ | named | SMALL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it answers."""
        assert self.process is not None
        until = time.monotonic() + STARTED_S
        while time.monotonic() < until:
            try:
                if httpx.get(f"{self.url}/health", timeout=2).is_success:
                    return
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            time.sleep(0.5)
        pytest.fail(f"no server after {STARTED_S} s: {(self.folder / 'server.log').read_text()[-3000:]}")

    def kill(self) -> None:
        """At once, with all its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """One server for all tests that need one."""
    found = VllmServer(tmp_path_factory.mktemp("vllm"))
    with measured("server: start"):
        found.start()
    yield found
    found.kill()


@pytest.fixture
def policy() -> Policy:
    """A fresh one."""
    return new_policy()
