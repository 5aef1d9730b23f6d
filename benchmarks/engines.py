"""Tokens a second of the embedded engine against `model.generate`, a bare forward-with-cache loop, and vLLM.

    python benchmarks/engines.py [--rounds 7] [--tokens 128] [--threads 1] [--out benchmarks/results/DATE-engines.md]
    python benchmarks/engines.py --gpu [--out ...]

All sample sequences of one length at temperature 1 from the built-in model's weights, none of which stops early, in one
process and in turns. Engine, loop and vLLM also give a log-prob per token. Prompts are 40 tokens and all different, so
neither padding nor shared prefixes help anybody. CPU seconds are those of the process with all its threads. vLLM is in
the table where it is installed; it is not made for models this small.

With --gpu: a random model of Qwen3-0.6B's shape in bfloat16, decoding alone (prompts shared, their reading taken off),
as a share of what reading weights and keys once a token allows at the bandwidth a copy reaches in the same run.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import transformers
from transformers import DynamicCache, GenerationConfig
from transformers.utils import logging

from sparring.agents.engine import Request
from sparring.scenarios.schema import PolicySpec, Sampling
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.policy import load_policy

Prompts = Sequence[tuple[int, ...]]
Way = Callable[[Prompts, int], None]
PROMPT = 40  # tokens
ENGINE, LOOP, GENERATE, VLLM = "embedded engine", "bare loop", "model.generate", "vLLM on CPU"


def prompts(count: int, length: int = PROMPT) -> list[tuple[int, ...]]:
    """Different ones of one length."""
    ids = np.random.default_rng(0).integers(0, 250, (count, length))
    return [tuple(int(token) for token in row) for row in ids]


def engine_way(model: Any, slots: int) -> Way:
    """Ours; no stop token, so that every sequence has the full length."""
    engine = TransformersEngine(model, (), TransformersEngine.Config(slots=slots))

    def sample(batch: Prompts, tokens: int) -> None:
        engine.sample([Request(ids, Sampling(max_tokens=tokens), index) for index, ids in enumerate(batch)])

    return sample


def loop_way(model: Any) -> Way:
    """Forward with a cache, sample, score; nothing else."""

    @torch.inference_mode()
    def sample(batch: Prompts, tokens: int) -> None:
        cache, ids = DynamicCache(), torch.tensor(batch, device=model.device)
        kept = []
        for _ in range(tokens):
            logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[:, -1]
            logprob = torch.log_softmax(logits.float(), -1)
            ids = torch.multinomial(logprob.exp(), 1)
            kept.append(logprob.gather(-1, ids))
        torch.cat(kept, 1).tolist()

    return sample


def generate_way(model: Any) -> Way:
    """The library's own loop, without a stop token."""
    if model.generation_config is not None:
        model.generation_config.eos_token_id = None

    @torch.inference_mode()
    def sample(batch: Prompts, tokens: int) -> None:
        ids = torch.tensor(batch, device=model.device)
        how = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=tokens, pad_token_id=0)
        found = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)
        assert found.shape[1] == len(batch[0]) + tokens, "it stopped early"
        found.tolist()

    return sample


def vllm_way(folder: Path, most: int, threads: int) -> Way:
    """vLLM in this process, its prefix cache off, with the log-prob of each sampled token."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, range(threads)))}
    from vllm import LLM, SamplingParams

    llm = LLM(
        str(folder), dtype="float32", max_model_len=512, max_num_seqs=most, enable_prefix_caching=False, seed=0,
        logprobs_mode="processed_logprobs", disable_log_stats=True,
    )  # fmt: skip

    def sample(batch: Prompts, tokens: int) -> None:
        how = SamplingParams(temperature=1.0, max_tokens=tokens, ignore_eos=True, logprobs=0, detokenize=False)
        done = llm.generate([{"prompt_token_ids": list(ids)} for ids in batch], how, use_tqdm=False)
        assert all(len(one.outputs[0].token_ids) == tokens for one in done), "it stopped early"

    return sample


def measure(way: Way, batch: Prompts, tokens: int) -> tuple[float, float]:
    """(CPU seconds, wall seconds)."""
    cpu, wall = time.process_time(), time.perf_counter()
    way(batch, tokens)
    return time.process_time() - cpu, time.perf_counter() - wall


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, smallest to largest."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def cpu_rows(asked: argparse.Namespace) -> Iterator[str]:
    """The table, line by line."""
    policy = load_policy(PolicySpec(), Path.cwd())
    sizes = [int(size) for size in asked.sequences.split(",")]
    ways: dict[str, Callable[[int], Way]] = {}
    ours = {size: engine_way(policy.model, size) for size in sizes}
    loop, generate = loop_way(policy.model), generate_way(policy.model)
    ways = {ENGINE: lambda size: ours[size], LOOP: lambda size: loop, GENERATE: lambda size: generate}
    with tempfile.TemporaryDirectory() as folder:
        if importlib.util.find_spec("vllm") is not None:
            policy.model.save_pretrained(folder)
            policy.tokenizer.save_pretrained(folder)
            theirs = vllm_way(Path(folder), max(sizes), asked.threads)
            ways[VLLM] = lambda size: theirs
            torch.set_num_threads(asked.threads)
        yield "| sequences | | tokens a CPU second | tokens a second | CPU time against generate |"
        yield "| --- | --- | --- | --- | --- |"
        for size in sizes:
            batch = prompts(size)
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for turn in range(asked.rounds + 1):
                for name in ways:
                    took = measure(ways[name](size), batch, asked.tokens)
                    if turn:  # the first round warms up
                        times[name].append(took)
            yield from rows(size, times, size * asked.tokens)


def rows(size: int, times: dict[str, list[tuple[float, float]]], sampled: int) -> Iterator[str]:
    """One line a way; ratios are of neighbours in time, so that load cancels in part."""
    for name, took in times.items():
        per_cpu, per_wall = ([sampled / one[at] for one in took] for at in (0, 1))
        ratios = [theirs[0] / mine[0] for mine, theirs in zip(took, times[GENERATE], strict=True)]
        yield f"| {size} | {name} | {spread(per_cpu)} | {spread(per_wall)} | {spread(ratios, 2)} |"
    if VLLM not in times:
        yield f"| {size} | {VLLM} | not installed | | |"


# -- on a GPU ----------------------------------------------------------------------------------------------------------

QWEN3_06B: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}  # fmt: skip
STEPS = (16, 80)  # tokens of the short and the long run; their difference is decoding alone


def random_model(shape: dict[str, Any], device: str) -> Any:
    """Random weights in bfloat16."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = Qwen3ForCausalLM(Qwen3Config(**shape, dtype="bfloat16"))
    return model.to(device=device, dtype=torch.bfloat16).eval()


def bandwidth(device: str, size: int = 1 << 30) -> float:
    """Bytes a second that a copy reads and writes, together; the best of several."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(10):
        settle(device)
        began = time.perf_counter()
        target.copy_(source)
        settle(device)
        best = max(best, 2 * size / (time.perf_counter() - began))
    return best


def settle(device: str) -> None:
    """Wait until the device has done everything."""
    if device == "cuda":
        torch.cuda.synchronize()


def batch_way(model: Any) -> Way:
    """The library's continuous batching."""

    def sample(batch: Prompts, tokens: int) -> None:
        how = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=tokens, pad_token_id=0, eos_token_id=-1)
        model.generate_batch(inputs=[list(ids) for ids in batch], generation_config=how, progress_bar=False)

    return sample


def decode_rate(way: Way, batch: Prompts, device: str, rounds: int) -> list[float]:
    """Tokens a second of decoding alone: what the longer run adds, over the time that it adds."""
    found = []
    for turn in range(rounds + 1):
        took = []
        for tokens in STEPS:
            settle(device)
            began = time.perf_counter()
            way(batch, tokens)
            settle(device)
            took.append(time.perf_counter() - began)
        if turn:  # the first round warms up and records
            found.append(len(batch) * (STEPS[1] - STEPS[0]) / max(took[1] - took[0], 1e-9))
    return found


def gpu_rows(asked: argparse.Namespace, device: str = "cuda", shape: dict[str, Any] = QWEN3_06B) -> Iterator[str]:
    """The table, line by line."""
    model = random_model(shape, device)
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    per_token = 2 * 2 * shape["num_hidden_layers"] * shape["num_key_value_heads"] * shape["head_dim"]
    speed = bandwidth(device)
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else 1 << 33
    yield (
        f"Weights {weights / 1e9:.2f} GB, {per_token:,} bytes of keys and values a token; a copy moves "
        f"{speed / 1e9:,.0f} GB/s.\n"
    )
    yield "| length | sequences | | tokens a second | of the roofline | |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for length in (int(part) for part in asked.lengths.split(",")):
        for size in (int(part) for part in asked.gpu_sequences.split(",")):
            held = size * (length + STEPS[1]) * per_token
            if held > 0.5 * free:
                yield f"| {length} | {size} | | left out: {held / 1e9:.0f} GB of keys and values | | |"
                continue
            batch, bound = prompts(1, length) * size, size * speed / (weights + held)
            ways = {ENGINE: partial(engine_way, slots=size), GENERATE: generate_way, "generate_batch": batch_way}
            for name, make in ways.items():
                yield gpu_row(f"{length} | {size} | {name}", make(model), batch, device, bound, asked.rounds)
                if device == "cuda":
                    torch.cuda.empty_cache()  # each has the machine to itself


def gpu_row(head: str, way: Way, batch: Prompts, device: str, bound: float, rounds: int) -> str:
    """One line; a way that fails says so there."""
    try:
        rates = decode_rate(way, batch, device, rounds)
    except Exception as error:  # another library's road may not go at some size: that is a finding, not a stop
        return f"| {head} | failed: {type(error).__name__}: {str(error).splitlines()[0][:80]} | | |"
    return f"| {head} | {spread(rates)} | {100 * statistics.median(rates) / bound:.0f}% | {note(way)} |"


def note(way: Way) -> str:
    """What the engine says of itself, if this is it."""
    cells = getattr(way, "__closure__", None) or ()
    engines = [cell.cell_contents for cell in cells if isinstance(cell.cell_contents, TransformersEngine)]
    return engines[0].note if engines else ""


def report(asked: argparse.Namespace) -> Iterator[str]:
    """The whole report, line by line."""
    yield "# Engines: tokens a second\n"
    yield (__doc__ or "").strip() + "\n"
    where = torch.cuda.get_device_name() if asked.gpu else f"{os.cpu_count()} cores, {platform.machine()}"
    table = list(gpu_rows(asked) if asked.gpu else cpu_rows(asked))
    yield (
        f"Measured {datetime.date.today()}, {where}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, {asked.threads} thread(s), load at the end {os.getloadavg()[0]:.1f}."
        f" {asked.tokens} tokens a sequence, {asked.rounds} rounds after a first; medians (smallest to largest).\n"
    )
    yield from table


def main() -> None:
    """Run and print or write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tokens", 128), ("rounds", 7), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sequences", default="1,8,64,256")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--gpu-sequences", default="1,8,64,256,512")
    parser.add_argument("--lengths", default="256,1024,4096")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.gpu and not torch.cuda.is_available():
        parser.error("--gpu needs a GPU that torch can see; without it the table is of the CPU")
    torch.set_num_threads(asked.threads)
    logging.disable_progress_bar()
    text = "\n".join(report(asked)) + "\n"
    if asked.out is None:
        print(text)
    else:
        asked.out.write_text(text)


if __name__ == "__main__":
    main()
