"""Decoding speed of the embedded engine against `model.generate` and a bare forward-with-cache loop.

    python benchmarks/decode.py [--sequences 64] [--tokens 64] [--rounds 7] [--threads 1]

All three sample 64 sequences of the same length at temperature 1 from the same weights, interleaved in one process.
The engine and the loop also return a log-prob per token. Ratios are tokens per CPU second against the bare loop.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from sparring.agents.engine import Message, Request
from sparring.agents.templates import load_prompt
from sparring.envs.code.programs import write_solved
from sparring.scenarios.schema import PolicySpec, Sampling
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.policy import Policy, load_policy


def prompts(policy: Policy, count: int) -> list[tuple[int, ...]]:
    """Solver prompts of one length, so that neither padding nor prefix sharing helps anybody."""
    rng = np.random.default_rng(0)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        text = load_prompt("brief/solver").render({"program": write_solved(3, rng).program})
        ids = policy.renderer.open([Message("user", text)]).token_ids
        if len(ids) == 40:
            found[ids] = None
    return list(found)


def engine_way(policy: Policy, batch: list[tuple[int, ...]], tokens: int) -> None:
    """Ours; no stop token, so that every sequence has the full length."""
    engine = TransformersEngine(policy.model, (), TransformersEngine.Config(slots=len(batch)))
    engine.sample([Request(ids, Sampling(max_tokens=tokens), index) for index, ids in enumerate(batch)])


@torch.inference_mode()
def loop_way(policy: Policy, batch: list[tuple[int, ...]], tokens: int) -> None:
    """Forward with a cache, sample, score; nothing else."""
    cache, ids = DynamicCache(), torch.tensor(batch)
    kept = []
    for _ in range(tokens):
        logits = policy.model(input_ids=ids, past_key_values=cache, use_cache=True).logits[:, -1]
        logprob = torch.log_softmax(logits, -1)
        ids = torch.multinomial(logprob.exp(), 1)
        kept.append(logprob.gather(-1, ids))


@torch.inference_mode()
def generate_way(policy: Policy, batch: list[tuple[int, ...]], tokens: int) -> None:
    """The library's own loop."""
    ids = torch.tensor(batch)
    policy.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, min_new_tokens=tokens, max_new_tokens=tokens
    )


def measure(way: Callable[..., None], *arguments: Any) -> tuple[float, float]:
    """(CPU seconds, wall seconds)."""
    cpu, wall = time.process_time(), time.perf_counter()
    way(*arguments)
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("sequences", 64), ("tokens", 64), ("rounds", 7), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    policy = load_policy(PolicySpec(), Path.cwd())
    batch = prompts(policy, asked.sequences)
    ways = {"sparring engine": engine_way, "bare loop": loop_way, "model.generate": generate_way}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(asked.rounds + 1):
        for name, way in ways.items():
            took = measure(way, policy, batch, asked.tokens)
            if turn:  # the first round warms up
                times[name].append(took)
    sampled = asked.sequences * asked.tokens
    base = statistics.median(cpu for cpu, _ in times["bare loop"])
    print(f"{asked.sequences} sequences x {asked.tokens} tokens, {asked.threads} thread(s), {asked.rounds} rounds")
    print(f"{'':18}{'tok/CPU-s':>10}{'min':>9}{'max':>9}{'tok/s wall':>12}{'vs loop':>9}")
    for name, took in times.items():
        rates = sorted(sampled / cpu for cpu, _ in took)
        wall = statistics.median(sampled / seconds for _, seconds in took)
        ratio = base / statistics.median(cpu for cpu, _ in took)
        print(f"{name:18}{statistics.median(rates):10.0f}{rates[0]:9.0f}{rates[-1]:9.0f}{wall:12.0f}{ratio:9.2f}")


if __name__ == "__main__":
    main()
